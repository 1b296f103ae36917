"""Latency under a load, replayed: photos arrive, wait for those before them, and run at the size that they are sent to.

Nothing runs here: what each photo takes at each size was measured before. So thousands of arrivals take a second, and
every way to choose the sizes sees the same load.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dualres_plugin.budget.deadline import QUANTILE, step_in_time
from dualres_plugin.common.errors import DualResError

KINDS = "steady:RATE, poisson:RATE, bursts:RATE:SIZE, or a file with one time in seconds per line"
GRID = np.linspace(1, 0, 101)  # shares that are tried


@dataclass(frozen=True)
class Load:
    """Photos as they come.

    Attributes:
        arrivals: (n,) seconds, ascending.
        scores: (n,) the router's.
        times: (n, K) ms that each photo takes at each size, largest first.
    """

    arrivals: np.ndarray
    scores: np.ndarray
    times: np.ndarray

    @property
    def expected(self) -> tuple[float, ...]:
        """(K,) ms, the 95th percentile at each size: what `Deadline` knows of them."""
        return tuple(float(ms) for ms in np.quantile(self.times, QUANTILE, axis=0))

    def steps(self, thresholds: Sequence[float]) -> np.ndarray:
        """(n,) number of the size that each photo's score sends it to.

        Args:
            thresholds: (K-1,) descending.
        """
        above = self.scores[:, None] > np.asarray(thresholds)
        return np.asarray((~above).sum(axis=1))


@dataclass(frozen=True)
class Outcome:
    """What a load met.

    Attributes:
        latency: (n,) ms from arrival to answer.
        steps: (n,) number of the size that each photo ran at.
        sizes: K.
    """

    latency: np.ndarray
    steps: np.ndarray
    sizes: int

    @property
    def shares(self) -> tuple[float, ...]:
        """(K,) of the photos at each size."""
        return tuple(float(share) for share in np.bincount(self.steps, minlength=self.sizes) / len(self.steps))

    def quantile(self, level: float) -> float:
        """ms within which a share of the photos is answered."""
        return float(np.quantile(self.latency, level))

    def late(self, limit: float) -> float:
        """Share of the photos that took longer than `limit` ms."""
        return float(np.mean(self.latency > limit))


def arrivals(kind: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """When photos arrive.

    Args:
        kind: "steady:20" (20 photos a second, evenly), "poisson:20" (at random), "bursts:20:8" (8 at once, at random,
            20 a second in all), or a file with one time in seconds per line.
        count: photos; a file has its own.
        rng: source of chance.

    Returns:
        (n,) seconds, ascending.

    Raises:
        DualResError: If the kind is none of these, or a rate is not positive.
    """
    name, *numbers = kind.split(":")
    if Path(kind).is_file():
        return _from_file(Path(kind))
    try:
        rate, size = float(numbers[0]), int(numbers[1]) if name == "bursts" else 1
        known = len(numbers) == (2 if name == "bursts" else 1) and name in ("steady", "poisson", "bursts")
    except (ValueError, IndexError):
        known = False
    if not known or not 0 < rate < float("inf") or size < 1:
        raise DualResError(f"arrivals '{kind}': give {KINDS}.")
    if name == "steady":
        return np.arange(count) / rate
    bursts = np.cumsum(rng.exponential(size / rate, size=-(-count // size)))
    return np.repeat(bursts, size)[:count]


def _from_file(path: Path) -> np.ndarray:
    try:
        found = np.array([float(line) for line in path.read_text().split()])
    except ValueError:
        raise DualResError(f"{path}: give one time in seconds per line.") from None
    if not len(found) or not np.isfinite(found).all():
        raise DualResError(f"{path} holds no times, or some that are not finite.")
    return np.sort(found)


def replay(load: Load, steps: np.ndarray, lanes: int = 1, limit: float | None = None) -> Outcome:
    """Run a load through a queue: first come, first served.

    Args:
        load: the photos.
        steps: (n,) number of the size that each is sent to.
        lanes: photos that run at once.
        limit: ms; photos run smaller where that keeps all that are there within it (`deadline.step_in_time`). None is
            no promise.
    """
    free = [float("-inf")] * lanes
    latency, taken, expected = np.empty(len(steps)), steps.copy(), load.expected
    when = load.arrivals.tolist()
    for number, arrived in enumerate(when):
        start = max(arrived, heapq.heappop(free))
        if limit is not None:
            ages = [1000 * (start - at) for at in when[number : bisect_right(when, start)]]
            taken[number] = max(taken[number], step_in_time(ages, expected, limit, lanes))
        end = start + load.times[number, taken[number]] / 1000
        heapq.heappush(free, end)
        latency[number] = 1000 * (end - arrived)
    return Outcome(latency, taken, load.times.shape[1])


def largest_share(
    load: Load, limit: float, thresholds_at: Callable[[float], Sequence[float]], lanes: int = 1
) -> tuple[float, Outcome] | None:
    """The highest mean cost at which the 95th percentile of the latency is within a limit.

    Args:
        load: the photos.
        limit: ms.
        thresholds_at: gives the thresholds at a relative mean cost, 0 to 1; of two sizes that is the share at high.
        lanes: photos that run at once.

    Returns:
        The cost and what the load met at it; None if even all at the smallest size is too late.
    """
    for level in GRID:
        found = replay(load, load.steps(thresholds_at(float(level))), lanes)
        if found.quantile(QUANTILE) <= limit:
            return float(level), found
    return None
