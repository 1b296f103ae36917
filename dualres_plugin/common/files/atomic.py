"""Writing files so that nobody ever sees a half-written one."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dualres_plugin.common.errors import BAD_PATH, DualResError, full_disk, is_full_disk

TEMPORARY = ".dualres-"  # in front of every temporary file, so that those of a killed process can be found
LONGEST_SUFFIX = 16


def make_dir(path: Path | str) -> Path:
    """Create a folder (and its parents) that can be written to.

    Args:
        path: of the folder, which may exist.

    Raises:
        DualResError: If the folder cannot be created or written.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise DualResError(f"cannot write to '{path}': {error.strerror}. Choose another output folder.") from None
    return path


def try_lock(handle: int) -> bool:
    """Lock an open file or folder until it is closed, or its process ends; False if somebody else holds it.

    Args:
        handle: its descriptor. Where the system has no such locks (Windows, some network folders), nothing is held.
    """
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return True
    return True


def clear_leftovers(folder: Path) -> None:
    """Remove temporary files that a killed process left: a living one holds a lock on each of its own.

    Args:
        folder: is looked through, with the folders right below it and the one above, where folders are made.
    """
    name = f"{TEMPORARY}*"
    for path in [*folder.glob(name), *folder.glob(f"*/{name}"), *folder.absolute().parent.glob(name)]:
        with suppress(OSError):  # it went meanwhile
            handle = os.open(path, os.O_RDONLY)
            try:
                if try_lock(handle):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            finally:
                os.close(handle)


def _temporary_file(path: Path) -> tuple[int, Path]:
    """An open, locked file beside `path`, of its suffix and a short name: long ones leave no room for an addition."""
    suffix = path.suffix if len(path.suffix) <= LONGEST_SUFFIX else ""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY, suffix=suffix)
        if try_lock(handle) and Path(name).exists():
            return handle, Path(name)
        os.close(handle)  # another process took it for a leftover in between
        Path(name).unlink(missing_ok=True)


@contextmanager
def _own_words(path: Path) -> Iterator[None]:
    """A full disk, and a place that cannot be written, become the one message that says so."""
    try:
        yield
    except DualResError:
        raise
    except Exception as error:
        if is_full_disk(error):
            raise full_disk(path) from error
        if isinstance(error, OSError) and error.errno in BAD_PATH:
            raise DualResError(f"cannot write '{path}': {error.strerror}.") from error
        raise


@contextmanager
def temporary_file(path: Path | str) -> Iterator[Path]:
    """A file beside another, in the making: gone when the block ends, unless the block has renamed it.

    Args:
        path: of the file that it is to become.

    Yields:
        Its path, of the same suffix; what is written there gets the rights of a shared file.

    Raises:
        DualResError: If the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    make_dir(path.parent)
    with _own_words(path):
        handle, temporary = _temporary_file(path)
        try:
            temporary.chmod(0o644)  # mkstemp makes private files; results are meant to be shared
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)
            os.close(handle)


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """A file that appears whole or not at all.

    Args:
        path: of the file.

    Yields:
        A temporary path beside it, which is renamed to `path` when the block ends without an error.

    Raises:
        DualResError: If the folder cannot be written, or the disk is full.
    """
    with temporary_file(path) as temporary:
        yield temporary
        temporary.chmod(0o644)  # some writers make the file anew
        temporary.replace(path)


@contextmanager
def atomic_dir(path: Path | str) -> Iterator[Path]:
    """Files of a folder that appear together or not at all.

    Args:
        path: of the folder; other files that already are in it stay.

    Yields:
        A temporary folder beside it, whose files replace those of `path` when the block ends well.

    Raises:
        DualResError: If the parent folder cannot be written, or the disk is full.
    """
    path = Path(path)
    make_dir(path.parent)
    with _own_words(path):
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=TEMPORARY))
        handle = os.open(temporary, os.O_RDONLY) if os.name == "posix" else None
        try:
            if handle is not None:
                try_lock(handle)
            yield temporary
            path.mkdir(exist_ok=True)
            for item in sorted(temporary.iterdir()):
                item.replace(path / item.name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            if handle is not None:
                os.close(handle)


def write_text(path: Path | str, text: str) -> None:
    """Write text atomically.

    Args:
        path: of the file.
        text: as UTF-8.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON atomically.

    Args:
        path: of the file.
        value: NaN and infinities in it become null, so that every JSON reader can open it.
    """
    write_text(path, json.dumps(_finite(value), indent=2, ensure_ascii=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def read_json(path: Path | str, what: str = "file") -> Any:
    """Read JSON.

    Args:
        path: of the file.
        what: names it in messages.

    Raises:
        DualResError: If the file is missing or is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DualResError(f"{what} '{path}' does not exist.") from None
    except (ValueError, RecursionError) as error:  # no JSON or UTF-8, a number of 5,000 digits, a deep nest
        raise DualResError(f"{what} '{path}' is not valid JSON ({error}).") from None
    except OSError as error:
        raise DualResError(f"cannot read {what} '{path}': {error.strerror}.") from None
