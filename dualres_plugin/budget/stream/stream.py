"""Decides the frames of one stream: reads what it remembers, skips where nothing stirs, and does not flicker."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dualres_plugin.budget import ladder
from dualres_plugin.budget.controller import BudgetController
from dualres_plugin.budget.stream import cuts, features
from dualres_plugin.budget.stream.head import StreamHead
from dualres_plugin.budget.stream.memory import StreamMemory
from dualres_plugin.budget.stream.motion import Objects
from dualres_plugin.common.errors import DualResError, check_number

WATCH = 3000  # frames that drift is judged over: two minutes, not one scene
RUNS_FIRST = 2  # of a scene, before a frame may be skipped: a velocity needs two


@dataclass(frozen=True)
class StreamOptions:
    """How a stream is decided.

    Attributes:
        head: reads the last frame; None decides by the thumbnail alone.
        skip: the most frames in a row that may reuse the last boxes, 0 to 1000; 0 runs the detector on every frame.
        still: largest change of a sketch's cell since the detector last ran with which a frame may be skipped, 0 to 1.
        slow: fastest mean motion with which a frame may be skipped, in objects' own lengths per frame.
        hysteresis: how far beyond a threshold a score must lie before the size changes, as a share of the
            calibration's middle half, 0 to 1.

    Raises:
        DualResError: If a number is out of range.
    """

    head: StreamHead | None = None
    skip: int = 0
    still: float = 0.06
    slow: float = 0.05
    hysteresis: float = 0.1

    def __post_init__(self) -> None:
        check_number("skip", self.skip, 0, 1000)
        if self.skip != int(self.skip):
            raise DualResError(f"skip={self.skip!r} must be a whole number of frames.")
        for name in ("still", "slow", "hysteresis"):
            check_number(name, getattr(self, name), 0, 1)


class Stream:
    """One stream: of each frame `arrive`, `decide`, and `saw` what the detector found unless it was skipped.

    Args:
        options: how it is decided.
        quantiles: of the scores that decide: the head's, or the router's.

    Attributes:
        memory: what it remembers.
    """

    def __init__(self, options: StreamOptions, quantiles: Sequence[float]):
        self.options = options
        self.memory = StreamMemory()
        spread = np.quantile(quantiles, (0.25, 0.75)) if len(quantiles) else (0.0, 0.0)
        self.margin = options.hysteresis * float(spread[1] - spread[0])

    def arrive(self, pixels: np.ndarray) -> bool:
        """A frame has come.

        Args:
            pixels: (H, W, 3) RGB, uint8 or float in [0, 1], without padding.

        Returns:
            True where a new scene begins.
        """
        return self.memory.arrive(cuts.sketch(pixels))

    @property
    def may_skip(self) -> bool:
        """Whether the frame that has arrived may reuse the last boxes: it was seen twice, and nothing stirs since."""
        memory, latest = self.memory, self.memory.latest
        if memory.skips >= self.options.skip or memory.runs < RUNS_FIRST or latest is None:
            return False
        if memory.sketch is None or memory.run_sketch is None:
            return False
        if cuts.stir(memory.sketch, memory.run_sketch) > self.options.still:
            return False
        return features.speed(latest.objects) <= self.options.slow

    def score(self, thumbnail: float) -> float:
        """The score that decides.

        Args:
            thumbnail: the router's.
        """
        return thumbnail if self.options.head is None else self.options.head.score(thumbnail, self.memory)

    def decide(self, score: float, limits: Sequence[float], controller: BudgetController | None = None) -> int:
        """The size of the frame that has arrived.

        Args:
            score: of `score`.
            limits: thresholds, descending.
            controller: has given them and learns from the score.

        Returns:
            0 for the largest size, 1 for the next smaller one, …
        """
        kept = steady(score, limits, self.memory.last, self.margin)
        return ladder.step_of(kept, limits) if controller is None else controller.step(kept)

    def skip(self, cost: float = 0.0, controller: BudgetController | None = None) -> Objects:
        """Reuse the last boxes for the frame that has arrived.

        Args:
            cost: on the controller's scale.
            controller: counts the frame.

        Returns:
            The boxes, moved to this frame.
        """
        found = self.memory.recalled()
        self.memory.skipped()
        if controller is not None:
            controller.skip(cost)
        return found


def steady(score: float, limits: Sequence[float], last: int | None, margin: float) -> float:
    """A score, held at the last size until it lies clearly beyond: no flicker where it trembles about a threshold.

    Args:
        score: of a frame.
        limits: thresholds, descending.
        last: step of the frame before; None holds nothing.
        margin: how far beyond a threshold is clear.

    Returns:
        The score; or, where it has only just left the last size, the nearest score that is still of that size.
    """
    if last is None or not 0 <= last <= len(limits):
        return score
    held = score
    if last > 0 and limits[last - 1] < score <= limits[last - 1] + margin:
        held = limits[last - 1]
    elif last < len(limits) and limits[last] - margin < score <= limits[last]:
        held = math.nextafter(limits[last], math.inf)
    return held if ladder.step_of(held, limits) == last else score  # of equal thresholds the size between is empty
