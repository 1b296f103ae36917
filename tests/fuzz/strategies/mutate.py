"""Damage of three kinds: to bytes, to lines of text, and to values in a JSON tree."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

DEEP = "@deep@"  # json.dumps cannot write what json.loads is to stumble over
ODD_NUMBERS = (0, -1, 1, 3, -0.5, 1e-300, 1e308, 2**31, 2**63, 2**70, float("nan"), float("inf"), float("-inf"))
ODD_TEXTS = (
    "", " ", "x", "0", "nan", "no", "²", "a" * 5000, "../../outside", "/outside", "a\nb", "a\tb", "\ud800", "\u202ex",
    "$a$b", "$$", "<script>alert(1)</script>", "=1+1", "%s{}", "os.system", "timm:hf-hub:a/b", "ultralytics", "mmdet",
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    [],
    {},
    [[]],
    {"a": {}},
    [1, "a", None],
    DEEP,
    *ODD_NUMBERS,
    *ODD_TEXTS,
)
ODD_TOKENS = (
    *(repr(number) for number in ODD_NUMBERS), *(text for text in ODD_TEXTS if "\ud800" not in text),
    "[", "{", "]]", ": ", "- -", "&a [*a]", "*b", "!!python/object/apply:os.system [x]", "!!binary x", "1_0", "1e999",
    "0x10", "12:30:45", "2001-01-01", "|", ">", "\x00", "\x1b[31m", "'", '"', ",,,,", "#",
)  # fmt: skip


@st.composite
def damaged_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """Cut short, or with some bytes changed, inserted or taken out.

    Args:
        draw: hypothesis'.
        data: a valid file.
    """
    kind = draw(st.sampled_from(("cut", "change", "insert", "delete", "replace")))
    at = draw(st.integers(0, max(0, len(data) - 1)))
    if kind == "cut":
        return data[:at]
    if kind == "change":
        changed = bytearray(data)
        for _ in range(draw(st.integers(1, 8))):
            changed[draw(st.integers(0, max(0, len(data) - 1)))] = draw(st.integers(0, 255))
        return bytes(changed)
    if kind == "insert":
        return data[:at] + draw(st.binary(min_size=1, max_size=32)) + data[at:]
    if kind == "delete":
        return data[:at] + data[at + draw(st.integers(1, 64)) :]
    return draw(st.binary(max_size=64))


@st.composite
def damaged_lines(draw: st.DrawFn, data: bytes) -> bytes:
    """Words of some lines replaced by odd ones, lines lost, doubled or exchanged.

    Args:
        draw: hypothesis'.
        data: a valid text file.
    """
    lines = data.decode().split("\n")
    for _ in range(draw(st.integers(1, 3))):
        i = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(("word", "word", "word", "drop", "double", "swap")))
        if kind == "word":
            words = _split(lines[i])
            words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from(ODD_TOKENS))
            lines[i] = "".join(words)
        elif kind == "drop" and len(lines) > 1:
            del lines[i]
        elif kind == "double":
            lines.insert(i, lines[i])
        else:
            j = draw(st.integers(0, len(lines) - 1))
            lines[i], lines[j] = lines[j], lines[i]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _split(line: str) -> list[str]:
    """Words and what is between them."""
    parts = [""]
    for c in line:
        if c in " ,:" or (parts[-1] and parts[-1][-1] in " ,:"):
            parts.append(c)
        else:
            parts[-1] += c
    return parts


@st.composite
def damaged_tree(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with one to three places replaced, removed, renamed, doubled or nested deeper.

    Args:
        draw: hypothesis'.
        value: what `json.loads` gave; it is not changed.
    """
    tree = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(tree))
        if not places:
            return draw(st.sampled_from(ODD_VALUES))
        owner, key = places[draw(st.integers(0, len(places) - 1))]
        kind = draw(st.sampled_from(("odd", "odd", "odd", "delete", "rename", "double", "wrap")))
        if kind == "odd":
            owner[key] = copy.deepcopy(draw(st.sampled_from(ODD_VALUES)))
        elif kind == "delete":
            del owner[key]
        elif kind == "wrap":
            owner[key] = draw(st.sampled_from(([owner[key]], {"x": owner[key]}, str(owner[key]))))
        elif isinstance(owner, list):
            owner.insert(key, copy.deepcopy(owner[key]))
        else:
            owner[draw(st.sampled_from(ODD_TEXTS))] = owner[key] if kind == "double" else owner.pop(key)
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    keys = tree.keys() if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in list(keys):
        yield tree, key
        yield from _places(tree[key])


def as_json(tree: Any) -> bytes:
    """The tree as a file, deep places included."""
    deep = "[" * 50_000 + "]" * 50_000
    return json.dumps(tree).replace(f'"{DEEP}"', deep).encode()


def json_file(data: bytes) -> SearchStrategy[bytes]:
    """Mostly odd values in the right structure, sometimes bytes at random.

    Args:
        data: a valid file.
    """
    values = damaged_tree(json.loads(data)).map(as_json)
    return st.one_of(values, values, values, damaged_bytes(data))


def text_file(data: bytes) -> SearchStrategy[bytes]:
    """The same for files of lines.

    Args:
        data: a valid file.
    """
    return st.one_of(damaged_lines(data), damaged_lines(data), damaged_bytes(data))
