"""Writing files so that nobody ever sees a half-written one."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dualres_plugin.common.errors import DualResError


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


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """A file that appears whole or not at all.

    Args:
        path: of the file.

    Yields:
        A temporary path beside it, which is renamed to `path` when the block ends without an error.

    Raises:
        DualResError: If the folder cannot be written.
    """
    path = Path(path)
    make_dir(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp makes private files; results are meant to be shared
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: Path | str) -> Iterator[Path]:
    """Files of a folder that appear together or not at all.

    Args:
        path: of the folder; other files that already are in it stay.

    Yields:
        A temporary folder beside it, whose files replace those of `path` when the block ends well.

    Raises:
        DualResError: If the parent folder cannot be written.
    """
    path = Path(path)
    make_dir(path.parent)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        path.mkdir(exist_ok=True)
        for item in sorted(temporary.iterdir()):
            item.replace(path / item.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DualResError(f"{what} '{path}' is not valid JSON ({error}).") from None
    except OSError as error:
        raise DualResError(f"cannot read {what} '{path}': {error.strerror}.") from None
