"""Waiting in lanes: order, full passes, and a bound on what waits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dualres_plugin.hosts.lanes import MOST_INSIDE, Lanes


@given(keys=st.lists(st.integers(0, 3), max_size=80), size=st.integers(1, 5))
def test_results_leave_in_order_from_passes_of_one_key(keys: list[int], size: int) -> None:
    passes: list[list[tuple[int, int]]] = []

    def run(items: list[tuple[int, int]]) -> list[int | None]:
        passes.append(items)
        return [None if number % 7 == 3 else number for number, _ in items]

    lanes: Lanes[tuple[int, int], int] = Lanes(run, size)
    out: list[int] = []
    for number, key in enumerate(keys):
        out += lanes.put(key, (number, key))
        assert lanes.inside < max(2, MOST_INSIDE * size)
        if size == 1:
            assert lanes.inside == 0  # nothing waits
    out += lanes.flush()
    assert lanes.inside == 0 and out == [n for n in range(len(keys)) if n % 7 != 3]
    assert all(len(items) <= size and len({key for _, key in items}) == 1 for items in passes)
    assert all(items == sorted(items) for items in passes)


def test_a_rare_key_does_not_wait_for_ever() -> None:
    passes: list[list[int]] = []
    lanes: Lanes[int, int] = Lanes(lambda items: passes.append(items) or items, 2)
    out = [n for number in range(9) for n in lanes.put("rare" if number == 0 else "common", number)]
    assert passes[:4] == [[1, 2], [3, 4], [5, 6], [0]] and out == [0, 1, 2, 3, 4, 5, 6][: len(out)] + out[7:]
    assert [*out, *lanes.flush()] == list(range(9))


def test_passes_are_full_where_routes_alternate() -> None:
    passes: list[int] = []
    lanes: Lanes[int, int] = Lanes(lambda items: passes.append(len(items)) or items, 8)
    out = [n for number in range(64) for n in lanes.put(number % 2, number)]
    assert passes == [8] * 8 and out == list(range(64))
