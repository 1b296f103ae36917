"""A session's memory of its stream: which thresholds the next frame meets, and what a skipped frame shows."""

from __future__ import annotations

import math

import numpy as np

from dualres_plugin.budget import ladder
from dualres_plugin.budget.controller import BudgetController
from dualres_plugin.budget.stream.stream import Stream, StreamOptions
from dualres_plugin.common.card import SKIP, SKIPPED, Card
from dualres_plugin.runtime.engines import Found
from dualres_plugin.runtime.result import SessionResult


class SessionStream:
    """One stream through a session.

    A file may have its router inside, so that the score of a frame is known when the detector has run. The head then
    reads the score of the last frame that ran in this scene; the first frame of a scene is decided by the router in
    the file.

    Args:
        card: of the file.
        options: how the stream is decided.
        quantiles: of the scores that decide.
        controller: holds a rate, where it is held.
    """

    def __init__(self, card: Card, options: StreamOptions, quantiles: list[float], controller: BudgetController | None):
        self.card = card
        self.stream = Stream(options, quantiles)
        self.controller = controller
        self._step: int | None = None  # of the frame that has arrived; None where the file decides
        self._score = 0.0

    def arrive(self, pixels: np.ndarray) -> bool:
        """A frame has come.

        Args:
            pixels: (H, W, 3) RGB uint8.

        Returns:
            True where it is to be skipped: `again` is its result.
        """
        self.stream.arrive(pixels)
        return self.stream.may_skip

    def again(self, name: str, size: tuple[int, int]) -> SessionResult:
        """The result of a frame that is skipped.

        Args:
            name: of the frame.
            size: its (height, width) in pixels.
        """
        kept = self.stream.skip(self._skip_cost, self.controller)
        boxes = kept.boxes * np.array([size[1], size[0]] * 2, dtype=np.float32)
        score = self.stream.memory.score
        return SessionResult(boxes, kept.scores, kept.labels, SKIPPED, score, self.card.names, name, SKIP, None)

    @property
    def _skip_cost(self) -> float:
        costs = self.card.costs
        return -costs[-1] / (costs[0] - costs[-1]) if costs and costs[0] > costs[-1] else 0.0

    def limits(self, limits: tuple[float, ...]) -> tuple[float, ...]:
        """What the file is to be run with, so that the frame that has arrived takes its route.

        Args:
            limits: thresholds of the scores that decide, descending.
        """
        memory, head = self.stream.memory, self.stream.options.head
        self._step = None
        if memory.known:
            self._score = self.stream.score(memory.thumbnail)
            self._step = self.stream.decide(self._score, limits, self.controller)
            return self.card.only(self._step)
        if head is None:
            return limits
        slope, bias = head.first
        if slope > 0:
            return tuple(limit if math.isinf(limit) else (limit - bias) / slope for limit in limits)
        return self.card.only(ladder.step_of(bias, limits))

    def saw(self, result: SessionResult, found: Found, size: tuple[int, int]) -> float:
        """What the file gave.

        Args:
            result: of the frame, boxes in pixels.
            found: raw, with step and score.
            size: (height, width) of the frame in pixels.

        Returns:
            The score that decided.
        """
        _, step, thumbnail = found
        if self._step is None:
            self._score = self.stream.score(thumbnail)
            if self.controller is not None:
                self.controller.step(self._score)  # learns from the score; its route is the one taken
        shares = result.boxes / np.array([size[1], size[0]] * 2, dtype=np.float32)
        self.stream.memory.saw(step, shares, result.scores, result.labels, self._score, thumbnail)
        return self._score
