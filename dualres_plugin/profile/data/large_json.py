"""A list of a JSON file that is larger than it should be in memory, entry by entry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ijson

from dualres_plugin.common.errors import DualResError

LARGE = 64 * 2**20  # bytes; smaller files are read at once


def is_large(path: Path) -> bool:
    """Whether a file is one to be read entry by entry.

    Args:
        path: of the file; one that is missing is not.
    """
    return path.is_file() and path.stat().st_size > LARGE


def entries(path: Path, name: str, what: str = "annotation file") -> Iterator[Any]:
    """The entries of one list of a JSON object, in one pass through the file.

    Args:
        path: of the file.
        name: of the list.
        what: names the file in messages.

    Yields:
        Each entry; none where there is no such list.

    Raises:
        DualResError: If it is no valid JSON.
    """
    try:
        with path.open("rb") as file:
            yield from ijson.items(file, f"{name}.item", use_float=True)
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise DualResError(f"{what} '{path}' is not valid JSON ({error}).") from None
    except OSError as error:
        raise DualResError(f"cannot read {what} '{path}': {error.strerror}.") from None
