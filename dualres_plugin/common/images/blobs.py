"""Where the bytes of one photo come from: a file, a member of a .tar shard, or an object of a store.

All are the same to those who read photos: they have a `name`, a `suffix` and `read_bytes`, as a `Path` has. They hold
names and numbers, no connection, so they travel to threads, processes and Ray workers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Protocol

from dualres_plugin.common.errors import DualResError

MOST_BYTES = 2**29  # of one photo: more is none, and would fill the memory before a decoder could refuse it
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: no drive of Windows


class ImageFile(Protocol):
    """What a photo is read from; a `Path` is one. `str` of it names it in messages and results."""

    @property
    def name(self) -> str:
        """The last part of its name."""

    @property
    def suffix(self) -> str:
        """Such as ".jpg"."""

    def read_bytes(self) -> bytes:
        """Its content."""


@dataclass(frozen=True)
class RemoteFile:
    """An object of a store, read by fsspec.

    Attributes:
        url: such as "s3://bucket/photos/0.jpg".
    """

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part of the URL, without a query."""
        return PurePosixPath(self.url.partition("?")[0]).name

    @property
    def suffix(self) -> str:
        """Such as ".jpg"."""
        return PurePosixPath(self.name).suffix

    def read_bytes(self) -> bytes:
        """The object.

        Returns:
            Its content, `MOST_BYTES` and one more at most.

        Raises:
            FileNotFoundError: If there is no such object.
            DualResError: If the store does not answer, so that a run stops, and leaves nothing out.
        """
        return read_range(self.url, 0, MOST_BYTES + 1)


@dataclass(frozen=True)
class TarMember:
    """A file inside a .tar, read at its place without looking through the archive.

    Attributes:
        archive: path or URL of the .tar.
        key: its name there.
        offset: where its bytes begin.
        size: how many they are.
    """

    archive: str
    key: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}/{self.key}"

    @property
    def name(self) -> str:
        """The last part of its name."""
        return PurePosixPath(self.key).name

    @property
    def suffix(self) -> str:
        """Such as ".jpg"."""
        return PurePosixPath(self.key).suffix

    def read_bytes(self) -> bytes:
        """The member.

        Returns:
            Its content, `MOST_BYTES` and one more at most.

        Raises:
            DualResError: If the archive is not what it was when its members were listed.
        """
        wanted = min(self.size, MOST_BYTES + 1)
        try:
            content = read_range(self.archive, self.offset, self.offset + wanted)
        except FileNotFoundError:
            raise DualResError(f"'{self.archive}' is not there any more.") from None
        if len(content) < wanted:
            raise DualResError(f"'{self.archive}' is shorter than when it was listed: start again.")
        return content


def is_url(text: object) -> bool:
    """Whether a text is a URL, to be read by fsspec."""
    return bool(_URL.match(str(text)))


def read_range(place: str, start: int, end: int) -> bytes:
    """Some bytes of a file or object.

    Args:
        place: path or URL.
        start: the first.
        end: after the last; what lies beyond the end is left out.

    Raises:
        FileNotFoundError: If there is none.
        DualResError: If it cannot be read.
    """
    try:
        with open_binary(place) as file:
            file.seek(start)
            content: bytes = file.read(end - start)
            return content
    except FileNotFoundError:
        raise
    except DualResError:
        raise
    except Exception as error:  # each store has errors of its own
        raise DualResError(
            f"cannot read '{place}' ({error}). What is finished is kept: run the command again."
        ) from None


def open_binary(place: str) -> Any:
    """Open a file or object for reading, as `open` does.

    Args:
        place: path or URL.
    """
    if not is_url(place):
        return open(place, "rb")  # noqa: PTH123 - as fsspec opens
    system, path = filesystem(place)
    return system.open(path, "rb")


def filesystem(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path in it.

    Raises:
        DualResError: If fsspec or the package of this store is not installed, or it refuses the URL.
    """
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url)
    except ImportError as error:
        raise DualResError(f"'{url}': {error}. Most stores come with: pip install \"dualres-plugin[remote]\"") from None
    except Exception as error:  # unknown protocols, credentials
        raise DualResError(f"'{url}' cannot be opened: {error}") from None
    return system, str(path)
