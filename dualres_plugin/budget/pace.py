"""Frames per second, held by what frames really take while they run.

A frame counts from its arrival to that of the next one: decoding, router, pass, and whatever the caller does with the
result. The median of the last times of each size says which share may go to the larger ones; what was over- or
underspent so far shifts it a little, by a window full at most. So a machine that becomes slower in the middle of a
stream still holds the rate, and one pause does not upset it.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from dualres_plugin.budget import ladder
from dualres_plugin.budget.controller import BudgetController, ControllerState
from dualres_plugin.common.errors import DualResError, check_number

logger = logging.getLogger("dualres")
RECENT = 16  # last times of a size that count
LATE = 1.05  # mean time against the wanted one, beyond which a rate counts as missed


@dataclass(frozen=True)
class Pace:
    """What a controller of frames per second knows.

    Attributes:
        fps: wanted.
        recent_fps: of the last 2 x `window` frames; NaN before there is one.
        budget_ms: mean time that a frame may take.
        times_ms: (K,) median time of a frame at each size, largest first; NaN where none is known yet.
        skip_ms: the same of skipped frames.
        owed_ms: what the budget still has; below 0 where it is overspent.
        level: wanted mean cost as the times alone give it, 0 (all at the smallest size) to 1 (all at the largest).
        missed: the last frames were too slow, and the smallest size alone takes longer than the budget.
    """

    fps: float
    recent_fps: float
    budget_ms: float
    times_ms: tuple[float, ...]
    skip_ms: float
    owed_ms: float
    level: float
    missed: bool


class PacedController(BudgetController):
    """Holds frames per second: a `BudgetController` whose target follows the times that frames take.

    The first frames go to each size twice, largest first: once to warm up, which does not count, and once to be timed.

    Args:
        fps: wanted mean of frames per second.
        quantiles: the calibration of the scores that decide.
        count: of sizes.
        window: how many recent scores set the thresholds, and how many frames pay back what was overspent.
        clock: seconds; tests give another.

    Attributes:
        budget_ms: mean time that a frame may take.
        last_ms: what the frame before the one that has arrived took; NaN of the first.

    Raises:
        DualResError: If the rate is not above 0, or there is no calibration.
    """

    def __init__(
        self,
        fps: float,
        quantiles: Sequence[float],
        count: int = 2,
        window: int = 32,
        clock: Callable[[], float] = time.perf_counter,
    ):
        check_number("fps", fps, above=0)
        super().__init__(ladder.even_shares(count), quantiles, window, costs=list(range(count, 0, -1)))
        self.fps = float(fps)
        self.budget_ms = 1000 / self.fps
        self.last_ms = math.nan
        self._clock = clock
        self._arrived: float | None = None
        self._running: int | None = None  # step of the frame that has arrived; -1 if it is skipped
        self._taken: dict[int, deque[float]] = {step: deque(maxlen=RECENT) for step in range(-1, count)}
        self._warm = set[int]()
        self._times = [math.nan] * count  # median ms at each size, largest first; NaN: not known
        self._spans: deque[float] = deque(maxlen=2 * window)
        self._owed = 0.0

    # -- frames ------------------------------------------------------------------------------------------------

    @property
    def promised_shares(self) -> tuple[float, ...] | None:
        """None: the shares follow from the times."""
        return None

    def arrive(self, count: int) -> None:
        """The next frame is there, so that the one before is over.

        Args:
            count: of images that are decided together.

        Raises:
            DualResError: If they are several: what each of them takes is not known.
        """
        if count != 1:
            raise DualResError(
                f"{count} images at once, but fps is held from frame to frame: use batch=1, a detector for each camera."
            )
        now = self._clock()
        if self._arrived is not None:
            self.last_ms = 1000 * (now - self._arrived)
            if self._running is not None:
                self._note(self._running, self.last_ms)
        self._arrived, self._running = now, None

    def step(self, score: float) -> int:
        """As of `BudgetController`, of the frame that has arrived."""
        self._running = super().step(score)
        return self._running

    def skip(self, cost: float = 0.0) -> None:
        """Count a frame on which no size ran.

        Args:
            cost: on the scale of rates, for `state` alone: what it leaves over is measured.
        """
        super().skip(cost)
        self._running = -1

    def replay(self, score: float) -> None:
        """Only its score counts: how long it took is not known any more."""
        self._scores.append(float(score))

    def _note(self, step: int, ms: float) -> None:
        if step not in self._warm:
            self._warm.add(step)
            return
        self._taken[step].append(ms)
        self._spans.append(ms)
        self._aim()
        room = self.window * self._spread
        self._owed = min(room, max(-room, self._owed + self.budget_ms - ms))

    # -- from times to thresholds --------------------------------------------------------------------------------

    def _sizes(self) -> list[deque[float]]:
        return [self._taken[step] for step in range(len(self.shares))]

    @property
    def _spread(self) -> float:
        """From the smallest to the largest size, in ms; where they are alike or not known, the budget."""
        spread = self._times[0] - self._times[-1]
        return spread if spread > 0 else self.budget_ms

    def _aim(self) -> None:
        """Set the times, a larger size never below a smaller one, and from them the target and what each size costs."""
        medians = [float(np.median(taken)) if taken else math.nan for taken in self._sizes()]
        times = self._times = [float(ms) for ms in np.maximum.accumulate(medians[::-1])][::-1]
        if any(map(math.isnan, times)):
            return
        if times[-1] >= self.budget_ms:
            self.target = 0.0
        elif times[0] <= self.budget_ms:
            self.target = 1.0
        else:
            self.target = (self.budget_ms - times[-1]) / (times[0] - times[-1])
        if all(larger > smaller for larger, smaller in pairwise(times)):
            self.costs = ladder.relative_costs(times)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """As of `BudgetController`; those of a single size, where that has not been timed yet."""
        for step, taken in enumerate(self._sizes()):
            if not taken:
                return tuple(math.inf if i < step else -math.inf for i in range(len(self.shares) - 1))
        return super().thresholds

    def _level(self) -> float:
        return self.target + self._owed / (self.window * self._spread)

    # -- what it knows -------------------------------------------------------------------------------------------

    @property
    def pace(self) -> Pace:
        """Rates and times as they are now."""
        mean = float(np.mean(self._spans)) if self._spans else math.nan
        times = self._times
        full = len(self._spans) == self._spans.maxlen
        skipped = self._taken[-1]
        return Pace(
            fps=self.fps,
            recent_fps=1000 / mean if mean > 0 else math.nan,
            budget_ms=self.budget_ms,
            times_ms=tuple(times),
            skip_ms=float(np.median(skipped)) if skipped else math.nan,
            owed_ms=self._owed,
            level=self.target,
            missed=full and mean > LATE * self.budget_ms and times[-1] > self.budget_ms,
        )

    @property
    def state(self) -> ControllerState:
        """As of `BudgetController`; the target moves, so that nothing drifts from it."""
        return replace(super().state, drifting=False)

    def _watch(self) -> None:
        pace = self.pace
        if pace.missed and not self._warned:
            logger.warning(
                "%.4g frames a second cannot be held here: a frame takes %.1f ms at the smallest size alone, and %.1f "
                "are wanted. All frames run at that size now; a smaller one, or fewer frames, would help.",
                self.fps,
                pace.times_ms[-1],
                self.budget_ms,
            )
        self._warned = pace.missed

    def to_dict(self) -> dict[str, Any]:
        """State and pace by name, for logs."""
        return {**super().to_dict(), **asdict(self.pace)}

    def saved(self) -> dict[str, Any]:
        """As of `BudgetController`; the time between two processes does not count."""
        taken = {str(step): list(times) for step, times in self._taken.items()}
        return {**super().saved(), "taken": taken, "spans": list(self._spans), "owed": self._owed}

    def resume(self, saved: Mapping[str, Any]) -> None:
        """As of `BudgetController`.

        Args:
            saved: what another one of the same number of sizes gave.

        Raises:
            DualResError: If it is not that.
        """
        try:
            taken = {int(step): [float(ms) for ms in times] for step, times in saved["taken"].items()}
            spans, owed = [float(ms) for ms in saved["spans"]], float(saved["owed"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DualResError(f"this is no saved state of a held frame rate ({error}): start without it.") from None
        numbers = [owed, *spans, *(ms for times in taken.values() for ms in times)]
        if taken.keys() != self._taken.keys() or not all(map(math.isfinite, numbers)):
            raise DualResError("the saved state of a held frame rate is of other sizes, or damaged: start without it.")
        super().resume(saved)
        for step, times in taken.items():
            self._taken[step] = deque(times, RECENT)
        self._spans = deque(spans, self._spans.maxlen)
        self._owed, self._arrived, self._running = owed, None, None
        self._warm.clear()  # another process
        self._aim()


def pace_of(controller: BudgetController | None) -> str:
    """What became of a held frame rate, in words; "" where none is held.

    Args:
        controller: of the run.
    """
    if not isinstance(controller, PacedController) or not controller.pace.recent_fps > 0:
        return ""
    pace = controller.pace
    times = " / ".join(f"{ms:.0f}" for ms in pace.times_ms)
    return f"{pace.recent_fps:.1f} frames a second at the end, {pace.fps:g} wanted, {times} ms a frame by size"
