"""A promise about latency: how large a photo may run so that it and those that wait behind it are answered in time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from dualres_plugin.common.errors import DualResError, check_number

QUANTILE = 0.95  # of the times that a size took: what a photo at it is expected to take
RECENT = 64  # times of each size that are kept
FORGET = 512  # photos after which a size that none of them ran at is tried again


def step_in_time(ages: Sequence[float], times: Sequence[float], limit: float, lanes: int = 1) -> int:
    """The largest size with which nobody is late, if all that wait run at the smallest.

    Args:
        ages: (Q,) ms since each photo arrived: of the one whose turn it is, then of those that wait, in their order.
        times: (K,) ms that a photo takes at each size, largest first.
        limit: ms from arrival to answer.
        lanes: photos that run at once.

    Returns:
        Number of the size, 0 the largest; the smallest where somebody is late whatever is done.
    """
    slack = limit - max(age + place / lanes * times[-1] for place, age in enumerate(ages))
    return next((step for step, ms in enumerate(times) if ms <= slack), len(times) - 1)


class Deadline:
    """Keeps the promise of a server: photos run smaller than the router wants where that is needed to be in time.

    What a size takes is the 95th percentile of the last times it took. Threads share one deadline.

    Args:
        limit: ms from the arrival of a photo to its answer.
        times: (K,) ms that a photo takes at each size, largest first, as measured before the first one comes.
        lanes: photos that run at once.
        clock: seconds; tests give another.

    Raises:
        DualResError: If the smallest size alone takes longer than the limit.
    """

    def __init__(
        self, limit: float, times: Sequence[float], lanes: int = 1, clock: Callable[[], float] = time.perf_counter
    ):
        check_number("p95_ms", limit, above=0)
        if times[-1] > limit:
            raise DualResError(
                f"a promise of {limit:g} ms cannot be kept: the smallest size alone takes {times[-1]:.1f} ms here."
            )
        self.limit = limit
        self._first = tuple(times)
        self._lanes = lanes
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[int, float] = {}  # ticket -> arrival, in order
        self._running: dict[int, float] = {}
        self._taken: list[deque[tuple[int, float]]] = [deque(maxlen=RECENT) for _ in times]  # (photo, ms)
        self._tickets = 0

    @property
    def times(self) -> tuple[float, ...]:
        """(K,) ms that a photo is expected to take at each size, largest first."""
        with self._lock:
            return self._times()

    def arrive(self) -> int:
        """A photo is there.

        Returns:
            Its ticket.
        """
        with self._lock:
            self._tickets += 1
            self._waiting[self._tickets] = self._clock()
            return self._tickets

    def turn(self, ticket: int) -> int:
        """A photo is about to run.

        Args:
            ticket: what `arrive` gave.

        Returns:
            Number of the largest size that it may run at, 0 the largest.
        """
        with self._lock:
            now = self._clock()
            arrived = self._running[ticket] = self._waiting.pop(ticket, now)
            ages = [1000 * (now - at) for at in (arrived, *self._waiting.values())]
            return step_in_time(ages, self._times(), self.limit, self._lanes)

    def done(self, ticket: int, step: int, ms: float) -> bool:
        """A photo has run.

        Args:
            ticket: of the photo.
            step: number of the size that it ran at.
            ms: that it took.

        Returns:
            Whether its answer is later than promised.
        """
        with self._lock:
            self._taken[step].append((ticket, ms))
            now = self._clock()
            return 1000 * (now - self._running.pop(ticket, now)) > self.limit

    def leave(self, ticket: int) -> None:
        """A photo is answered or refused, or its client has left, wherever it is by then."""
        with self._lock:
            self._waiting.pop(ticket, None)
            self._running.pop(ticket, None)

    def _times(self) -> tuple[float, ...]:
        found = []
        for first, taken in zip(self._first, self._taken):
            while taken and taken[0][0] < self._tickets - FORGET:
                taken.popleft()
            found.append(float(np.quantile([ms for _, ms in taken], QUANTILE)) if taken else first)
        return tuple(found)
