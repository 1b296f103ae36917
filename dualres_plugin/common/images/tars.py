"""Photos in .tar shards, as WebDataset has them."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.blobs import TarMember, open_binary

PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
MOST_SHARDS = 1_000_000
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def is_tar(name: str) -> bool:
    """Whether a name is that of an archive, packed or not."""
    return name.lower().endswith((".tar", *PACKED))


def shards_of(pattern: str) -> list[str]:
    """The names that a pattern of shards stands for.

    Args:
        pattern: such as "photos-{000000..000099}.tar"; without a range, one name.

    Raises:
        DualResError: If a range runs backwards, or they are too many.
    """
    found = _RANGE.search(pattern)
    if not found:
        return [pattern]
    first, last = (int(end) for end in found.groups())
    if not first <= last < first + MOST_SHARDS:
        raise DualResError(f"'{pattern}': give a range such as {{000..099}}, of {MOST_SHARDS:,} shards at most.")
    width = len(found.group(1))
    names = (f"{pattern[: found.start()]}{i:0{width}d}{pattern[found.end() :]}" for i in range(first, last + 1))
    return [name for part in names for name in shards_of(part)]


def list_tar(archive: str, suffixes: Collection[str]) -> list[TarMember]:
    """The photos of an archive, in its order. Their names are data: nothing is written by them.

    Args:
        archive: path or URL of a .tar.
        suffixes: of photos, in lower case; other members are passed over.

    Raises:
        DualResError: If it is missing, packed, or damaged anywhere: half a list would go unnoticed.
    """
    if archive.lower().endswith(PACKED):
        raise DualResError(f"'{archive}' is packed, so that photos cannot be read one by one: unpack it to a .tar.")
    try:
        with open_binary(archive) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            members = [
                TarMember(archive, m.name, m.offset_data, m.size)
                for m in tar
                if m.isreg() and not m.issparse() and f".{m.name.rpartition('.')[2].lower()}" in suffixes
            ]
            file.seek(tar.offset)  # tarfile ends without a word at a damaged header
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"no end, the list breaks off at byte {tar.offset:,}")
            return members
    except FileNotFoundError:
        raise DualResError(f"'{archive}' does not exist.") from None
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DualResError(f"'{archive}' is damaged or is no .tar: {error}.") from None


def read_members(members: Iterable[TarMember], most: int) -> Iterator[bytes]:
    """The content of small members, with each archive opened once: a store answers fewer requests.

    Args:
        members: those of one archive after one another.
        most: bytes of each that are read.

    Raises:
        DualResError: If an archive is not what it was when its members were listed, or cannot be read.
    """
    for archive, inside in groupby(members, lambda member: member.archive):
        try:
            with open_binary(archive) as file:
                for member in inside:
                    file.seek(member.offset)
                    content: bytes = file.read(min(member.size, most))
                    if len(content) < min(member.size, most):
                        raise DualResError(f"'{archive}' is shorter than when it was listed: start again.")
                    yield content
        except DualResError:
            raise
        except Exception as error:  # each store has errors of its own
            raise DualResError(f"cannot read '{archive}' ({error}): start again.") from None
