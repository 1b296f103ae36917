"""Size, score and cost of a video over time, as a small picture."""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np

from dualres_plugin.common.card import SKIP, SKIPPED
from dualres_plugin.common.drawing import step_colour
from dualres_plugin.common.files.atomic import atomic_write
from dualres_plugin.common.types import ImageDecision

SECONDS = 2.0  # over which the cost is averaged
MOST = 4000  # points that are drawn of a curve


class Timeline:
    """Notes the route of every frame: 21 bytes each.

    Args:
        rate: frames per second.
        largest: the largest size in pixels, which the cost is a share of: it may not be among the frames.
    """

    def __init__(self, rate: float, largest: int):
        self.rate = rate
        self.largest = largest
        self.window = max(1, round(SECONDS * rate))
        self._step, self._score, self._threshold, self._size = array("b"), array("d"), array("d"), array("i")
        self._names: dict[int, str] = {SKIP: SKIPPED}

    def add(self, route: ImageDecision) -> None:
        """Note a frame."""
        self._step.append(route.step)
        self._score.append(route.score)
        self._threshold.append(route.threshold)
        self._size.append(0 if route.step == SKIP else route.size or self.largest)
        self._names[route.step] = route.route

    def __len__(self) -> int:
        return len(self._step)

    @property
    def pixels(self) -> float:
        """Pixels that the detector saw in the last seconds, as a share of all at the largest size."""
        return float(self._shares(slice(-self.window, None)).mean()) if len(self) else 0.0

    def _shares(self, which: slice = slice(None)) -> np.ndarray:
        """Pixels of frames as a share of those at the largest size; 0 of skipped ones."""
        return np.asarray((np.array(self._size[which], dtype=float) / self.largest) ** 2)

    def save(self, path: Path) -> None:
        """Draw it.

        Args:
            path: of the PNG.
        """
        from matplotlib.figure import Figure

        time = np.arange(len(self)) / self.rate
        steps = np.array(self._step)
        figure = Figure(figsize=(9, 5), layout="constrained")
        sizes, scores, cost = figure.subplots(3, sharex=True)
        order = sorted(set(steps.tolist()), key=lambda step: (step == SKIP, step), reverse=True)
        for place, step in enumerate(order):
            at = _thinned(np.flatnonzero(steps == step))
            sizes.plot(time[at], np.full(len(at), place), "|", color=step_colour(step), markersize=12)
        sizes.set_yticks(range(len(order)), [self._names[step] for step in order])
        sizes.set(ylabel="route", ylim=(-0.7, len(order) - 0.3))
        every = _thinned(np.arange(len(self)))
        scores.plot(time[every], np.array(self._score)[every], color="#0072B2", linewidth=1, label="score")
        limit = np.array(self._threshold)[every]
        scores.plot(time[every], np.where(np.isfinite(limit), limit, np.nan), "--", color="#5A5A5A", label="threshold")
        scores.set(ylabel="score")
        scores.legend(loc="upper right")
        sums = np.concatenate([[0.0], np.cumsum(self._shares())])
        first = np.maximum(0, np.arange(1, len(self) + 1) - self.window)
        mean = (sums[1:] - sums[first]) / (np.arange(1, len(self) + 1) - first)
        cost.plot(time[every], mean[every], color="#18212B", linewidth=1.2)
        cost.set(xlabel="seconds", ylabel=f"pixels of all high,\nlast {SECONDS:g} s", ylim=(0, 1.05))
        for axes in (sizes, scores, cost):
            axes.grid(alpha=0.3)
        with atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=120, format="png")


def _thinned(at: np.ndarray) -> np.ndarray:
    return np.asarray(at[:: max(1, -(-len(at) // MOST))])
