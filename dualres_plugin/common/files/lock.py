"""One process at a time writes to an output; what a killed one left half-done is cleared away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import TEMPORARY, clear_leftovers, make_dir, try_lock


@contextmanager
def locked(out: Path | str, is_file: bool = False) -> Iterator[Path]:
    """Hold an output for this process alone.

    The lock belongs to the open file, not to its name: it ends with the process however that ends, so a killed one
    blocks nobody. A folder is locked itself, without a file in it; a file through a hidden one beside it, which goes at
    the end. Where the system has no such locks (Windows, some network folders), nothing is held.

    Args:
        out: a folder, which is made where it is missing.
        is_file: `out` is a file, in a folder that others may use.

    Yields:
        The path.

    Raises:
        DualResError: If another process writes there, or the folder cannot be made.
    """
    out = Path(out)
    folder = make_dir(out.parent if is_file else out)
    lock = folder / f"{TEMPORARY}{out.name[:64]}.lock" if is_file else folder
    handle = _open_locked(lock)
    try:
        if handle is None:
            raise DualResError(
                f"another dualres process writes to '{out}': wait until it ends, or choose another --out."
            )
        clear_leftovers(folder)
        yield out
    finally:
        if handle is not None:
            if is_file:
                lock.unlink(missing_ok=True)
            os.close(handle)


def _open_locked(path: Path) -> int | None:
    """A file or folder, open and locked; None if another process holds it."""
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o644)
    if try_lock(handle) and (path.exists() and os.path.samestat(path.stat(), os.fstat(handle))):
        return handle
    os.close(handle)
    return None
