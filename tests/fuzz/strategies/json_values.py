"""Valid JSON, changed at a few places by values that nobody expects there."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**400, 0.5, 1e308, float("nan"), float("inf")),
    *("", "no", "²", "1", "../../etc/passwd", "/etc/passwd", "a" * 5000, "\0", "\n", "\ud800", "=1+1", "$$"),
    *([], {}, [[]], [1, 2, 3, 4], ["a"] * 4, {"a": 1}, [None] * 4),
]
DELETE, DOUBLE = "delete it", "double it"


def mutated_json(valid: bytes, most: int = 3) -> SearchStrategy[bytes]:
    """Some values replaced, removed or doubled; now and then the text itself is cut."""
    content = json.loads(valid)
    paths = list(_paths(content))

    def change(edits: list[tuple[tuple[Any, ...], Any]], cut: float) -> bytes:
        value: Any = copy.deepcopy(content)
        for path, new in edits:
            value = _edited(value, path, new)
        text = json.dumps(value).encode()
        return text if cut < 0.9 else text[: int(len(text) * (cut - 0.9) * 10)]

    edit = st.tuples(st.sampled_from(paths), st.sampled_from([*ODD, DELETE, DOUBLE]))
    return st.builds(change, st.lists(edit, min_size=1, max_size=most), st.floats(0, 1))


def _paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _paths(item, (*at, key))


def _edited(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return value if new is DELETE or new is DOUBLE else copy.deepcopy(new)
    holder, last = value, path[-1]
    try:
        for key in path[:-1]:
            holder = holder[key]
        holder[last]
    except (KeyError, IndexError, TypeError):  # an earlier edit took it away
        return value
    if not isinstance(holder, (dict, list)):
        return value
    if new is DELETE:
        del holder[last]
    elif new is DOUBLE and isinstance(holder, list):
        holder.insert(last, copy.deepcopy(holder[last]))
    elif new is not DOUBLE:
        holder[last] = copy.deepcopy(new)
    return value
