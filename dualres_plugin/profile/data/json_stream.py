"""The lists of a JSON object that is larger than it should be in memory, entry by entry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from dualres_plugin.common.errors import DualResError

LARGE = 64 * 2**20  # bytes; smaller files are read at once
CHUNK = 4 * 2**20  # characters
AFTER = tuple(" \t\r\n,:]}")  # what can stand after a value
_decode = json.JSONDecoder().raw_decode


def is_large(path: Path) -> bool:
    """Whether a file is one to be read entry by entry.

    Args:
        path: of the file; one that is missing is not.
    """
    return path.is_file() and path.stat().st_size > LARGE


def entries(path: Path, what: str = "annotation file") -> Iterator[tuple[str, Any]]:
    """Every entry of every list of a JSON object; what is no list is passed over.

    Args:
        path: of the file.
        what: names it in messages.

    Yields:
        Name of a list with each of its entries in turn. An empty list has none.

    Raises:
        DualResError: If it is no valid JSON, or no object.
    """
    try:
        with path.open(encoding="utf-8") as file:
            yield from _Reader(file).lists()
    except (ValueError, RecursionError) as error:
        raise DualResError(f"{what} '{path}' is not valid JSON ({error}).") from None
    except OSError as error:
        raise DualResError(f"cannot read {what} '{path}': {error.strerror}.") from None


class _Reader:
    """Keeps the piece of the text that is being looked at."""

    def __init__(self, file: TextIO):
        self._file = file
        self._text = ""
        self._at = 0

    def lists(self) -> Iterator[tuple[str, Any]]:
        self._expect("{")
        more = self._peek() != "}"
        while more:
            name = self._value()
            self._expect(":")
            if not isinstance(name, str):
                raise ValueError("a name that is no text")
            if self._peek() == "[":
                for entry in self._entries():
                    yield name, entry
            else:
                self._value()
            more = self._separator("}")

    def _entries(self) -> Iterator[Any]:
        self._expect("[")
        if self._peek() == "]":
            self._at += 1
            return
        more = True
        while more:
            yield self._value()
            more = self._separator("]")

    def _separator(self, end: str) -> bool:
        """Pass over a comma, which says that there is more, or over the end."""
        found = self._peek()
        if found not in (",", end):
            raise ValueError(f"'{found or 'the end'}' where ',' or '{end}' should be")
        self._at += 1
        return found == ","

    def _expect(self, character: str) -> None:
        if self._peek() != character:
            raise ValueError(f"no '{character}' where one should be")
        self._at += 1

    def _peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = _decode(self._text, self._at)
            except ValueError:  # wrong, or cut off by the end of this piece
                if not self._more():
                    raise
                continue
            if self._text[end : end + 1] not in AFTER and self._more():
                continue  # the number goes on in the next piece
            self._at = end
            return value

    def _more(self) -> bool:
        piece = self._file.read(CHUNK)
        self._text, self._at = self._text[self._at :] + piece, 0
        return bool(piece)
