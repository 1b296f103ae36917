"""Rows of CSV whose text comes from outside: no cell is a formula to the program that opens the file."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from typing import Any, TextIO

# What spreadsheets take for a formula (OWASP, "CSV Injection"); apostrophes before it, so that `plain` can undo.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_ESCAPED = re.compile(r"'+[=+\-@\t\r]")


def safe(cell: Any) -> Any:
    """A cell as it may be written: text like a formula gets a leading apostrophe; numbers stay numbers.

    Args:
        cell: a number, a text (also of a number), or whatever the `csv` module writes.
    """
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) and not _is_number(cell) else cell


def plain(cell: str) -> str:
    """The text that `safe` made a cell from.

    Args:
        cell: as read from a file.
    """
    return cell[1:] if _ESCAPED.match(cell) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text[0] not in "\t\r"


class Writer:
    """A `csv.writer` whose cells are `safe`; lines end with a newline alone.

    Args:
        file: open for text with `newline=""`.
    """

    def __init__(self, file: TextIO):
        self._writer = csv.writer(file, lineterminator="\n")

    def writerow(self, row: Iterable[Any]) -> None:
        """Write one row."""
        self._writer.writerow([safe(cell) for cell in row])

    def writerows(self, rows: Iterable[Iterable[Any]]) -> None:
        """Write several rows."""
        for row in rows:
            self.writerow(row)
