"""Which size still fits, while photos wait and times change."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualres_plugin.budget.deadline import FORGET, Deadline, step_in_time
from dualres_plugin.common.errors import DualResError


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def in_ms(clock: Clock, ms: float) -> None:
    clock.now += ms / 1000


@pytest.mark.parametrize(
    ("ages", "limit", "step"),
    [
        ([0.0], 100, 0),
        ([61.0], 100, 1),  # 61 + 40 is late
        ([76.0], 100, 2),  # 76 + 25, too
        ([200.0], 100, 2),  # late whatever is done
        ([0.0, 0.0], 55, 0),  # 40, then 15
        ([0.0, 0.0], 54, 1),  # the second would be late
        ([0.0, 20.0], 60, 1),
    ],
)
def test_the_largest_size_with_which_nobody_is_late(ages: list[float], limit: float, step: int) -> None:
    assert step_in_time(ages, (40.0, 25.0, 15.0), limit) == step


ages = st.lists(st.floats(0, 100), min_size=1, max_size=6)


@given(ages, st.floats(1, 300), st.integers(1, 3))
def test_it_is_feasible_and_no_larger_one_is(ages: list[float], limit: float, lanes: int) -> None:
    times = (40.0, 25.0, 15.0)

    def last_answer(step: int) -> float:
        return max(age + times[step] + place / lanes * times[-1] for place, age in enumerate(ages))

    step = step_in_time(ages, times, limit, lanes)
    assert step == len(times) - 1 or last_answer(step) <= limit + 1e-9
    assert all(last_answer(larger) > limit - 1e-9 for larger in range(step))


def test_photos_that_wait_make_others_smaller_and_leaving_makes_room() -> None:
    clock = Clock()
    deadline = Deadline(60, (40.0, 15.0), clock=clock)
    first, second, third = (deadline.arrive() for _ in range(3))
    assert deadline.turn(first) == 1  # 40 + 15 + 15 is late for the third
    deadline.leave(third)
    assert deadline.turn(second) == 0


def test_what_a_size_takes_is_learnt_and_an_unlucky_time_is_forgotten() -> None:
    clock = Clock()
    deadline = Deadline(100, (40.0, 15.0), clock=clock)
    ticket = deadline.arrive()
    assert deadline.turn(ticket) == 0
    in_ms(clock, 150)
    assert deadline.done(ticket, 0, 150)  # late
    assert deadline.times == (150.0, 15.0)
    for _ in range(FORGET):
        ticket = deadline.arrive()
        assert deadline.turn(ticket) == 1
        assert not deadline.done(ticket, 1, 15)
    ticket = deadline.arrive()
    assert deadline.turn(ticket) == 0


def test_a_client_that_leaves_in_the_middle_costs_nothing() -> None:
    deadline = Deadline(100, (40.0, 15.0))
    ticket = deadline.arrive()
    deadline.leave(ticket)
    assert deadline.turn(ticket) == 0
    assert not deadline.done(ticket, 0, 40)
    assert not deadline._waiting and not deadline._running


def test_threads_share_one() -> None:
    deadline = Deadline(1000, (4.0, 1.0))

    def work() -> None:
        for _ in range(200):
            ticket = deadline.arrive()
            deadline.done(ticket, deadline.turn(ticket), 1.0)
            deadline.leave(ticket)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not deadline._waiting and not deadline._running


def test_what_cannot_be_kept_is_not_promised() -> None:
    with pytest.raises(DualResError, match=r"smallest size alone takes 15\.0 ms"):
        Deadline(10, (40.0, 15.0))
    with pytest.raises(DualResError, match="p95_ms"):
        Deadline(-1, (40.0, 15.0))
