"""`data.yaml` and label files of Ultralytics."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

WORDS = ["nan", "inf", "-1", "1e400", "²", "\0", "'", "[", "{", "&a", "*a", "!!python/object:os.system", "- -", ": :"]
WORDS += ["9" * 5000, "2001-99-99", "\u2028", "../..", "/", "~", "yes", "0x", "[[[[[[", "\t", "#", "1_0", "a" * 300]


def valid() -> bytes:
    """A label file: a box and a polygon."""
    return b"0 0.5 0.5 0.2 0.4\n1 0.1 0.2 0.5 0.2 0.3 0.8\n"


def valid_yaml() -> bytes:
    """The data file that belongs to it."""
    return b"path: .\nval: images\nnames:\n  0: square\n  1: disc\n"


def mutated(valid: bytes) -> SearchStrategy[bytes]:
    """Words put in, pieces taken out or doubled, bytes that are no text."""
    place = st.integers(0, len(valid))
    new = st.one_of(st.sampled_from(WORDS).map(str.encode), st.binary(max_size=6))

    def change(edits: list[tuple[int, int, bytes]]) -> bytes:
        content = valid
        for start, length, word in edits:
            content = content[:start] + word + content[start + length :]
        return content

    return st.builds(change, st.lists(st.tuples(place, st.integers(0, 12), new), min_size=1, max_size=3))
