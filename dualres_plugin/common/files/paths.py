"""Names that stand in files: what may be opened through them, and what of a path may be told."""

from __future__ import annotations

import re
from pathlib import Path, PureWindowsPath

from dualres_plugin.common.errors import DualResError

_HOSTS = re.compile(r"([A-Za-z][\w-]+:)+")  # not the drive letter of a Windows path


def inside(root: Path | str, name: str, where: str = "", allow_outside: bool = False) -> Path:
    """The path of a file that another file names, which must not lead out of its folder.

    Links in the folder are followed: the user put them there, the file that is read did not.

    Args:
        root: the folder.
        name: relative to it, as written in the file.
        where: the file that it is written in, for messages.
        allow_outside: the user said that any place will do.

    Raises:
        DualResError: If the name is empty, absolute or leads out of the folder.
    """
    if "\0" in name or not name.strip():
        raise DualResError(f"{where or 'a file'} names a file {name!r}, which cannot be.")
    if leads_out(name) and not allow_outside:
        raise DualResError(
            f"{where or 'a file'} names '{name}', which lies outside '{root}'. If that is meant, allow it with "
            "--allow-outside."
        )
    return Path(root) / name


def leads_out(name: str) -> bool:
    """Whether a name in a file, taken relative to a folder, can lead out of it.

    Any ".." counts: `a/../b` leaves the folder where `a` is a link.

    Args:
        name: as written.
    """
    windows = PureWindowsPath(name)  # also as Windows reads it: the same data set must be as safe there
    return name.startswith("/") or bool(windows.drive or windows.root) or ".." in windows.parts


def base_names(spec: str) -> str:
    """The words for a detector with every path cut to its last part, for files that are shared.

    Args:
        spec: `HOST:NAME[,key=value,…]`, such as "mmdet:/home/me/config.py,/data/weights.pth".

    Returns:
        Such as "mmdet:config.py,weights.pth".
    """
    parts = []
    for part in spec.split(","):
        key, equals, value = part.rpartition("=")
        host = _HOSTS.match(value)
        prefix = host.group() if host else ""
        parts.append(key + equals + prefix + (PureWindowsPath(value[len(prefix) :]).name or value[len(prefix) :]))
    return ",".join(parts)


def shareable(path: Path | str) -> str:
    """A path for a file that is shared: as the user gave it, but of an absolute one only the last part.

    Args:
        path: of a file or folder.
    """
    return Path(path).name if Path(path).is_absolute() else str(path)
