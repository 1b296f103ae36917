"""Size, score and cost of a video over time, as a small picture and as a page."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import numpy as np

from dualres_plugin.budget.stream import cuts
from dualres_plugin.common.card import SKIP
from dualres_plugin.common.drawing import step_colour
from dualres_plugin.common.files.atomic import atomic_write, write_text
from dualres_plugin.common.types import ImageDecision
from dualres_plugin.predict.exported import ExportedPredictor
from dualres_plugin.predict.predictor import Predictor

SECONDS = 2.0  # over which the cost is averaged
MOST = 4000  # points that are drawn of a curve
MOST_OF_PAGE = 20_000  # frames that the page holds
SCRIPTS = ("dom.js", "timeline.js", "stream.js")


class Timeline:
    """Notes the route of every frame: 21 bytes each.

    Args:
        rate: frames per second.
        largest: the largest size in pixels, which the cost is a share of: it may not be among the frames.
        budget: the mean cost that is wanted, as such a share; None where nothing is promised.
    """

    def __init__(self, rate: float, largest: int, budget: float | None = None):
        self.rate = rate
        self.largest = largest
        self.budget = budget
        self.window = max(1, round(SECONDS * rate))
        self._step, self._score, self._threshold, self._size = array("b"), array("d"), array("d"), array("i")
        self._names: dict[int, str] = {}
        self._cuts = array("l")
        self._sketch: np.ndarray | None = None

    @classmethod
    def of(cls, predictor: Predictor | ExportedPredictor, rate: float) -> Timeline:
        """With the budget that the operating point promises.

        Args:
            predictor: what runs.
            rate: frames per second.
        """
        shares, sizes = predictor.expected_shares, predictor.sizes
        known = None if shares is None else sum(share * (size / sizes[0]) ** 2 for share, size in zip(shares, sizes))
        return cls(rate, predictor.size, known)

    def add(self, route: ImageDecision, pixels: np.ndarray) -> None:
        """Note a frame.

        Args:
            route: that it took.
            pixels: (H, W, 3) RGB uint8.
        """
        sketch = cuts.sketch(pixels)
        if self._sketch is not None and cuts.is_cut(self._sketch, sketch):
            self._cuts.append(len(self))
        self._sketch = sketch
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
        cost.plot(time[every], self._means()[every], color="#18212B", linewidth=1.2)
        if self.budget is not None:
            cost.axhline(self.budget, color="#D55E00", linestyle="--", linewidth=1.2, label="budget")
            cost.legend(loc="upper right")
        cost.set(xlabel="seconds", ylabel=f"pixels of all high,\nlast {SECONDS:g} s", ylim=(0, 1.05))
        for axes in (sizes, scores, cost):
            axes.grid(alpha=0.3)
            for number in self._cuts:
                axes.axvline(number / self.rate, color="#B0568F", linestyle=":", linewidth=1)
        with atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=120, format="png")

    def _means(self) -> np.ndarray:
        """(n,) mean cost of the last seconds at each frame."""
        sums = np.concatenate([[0.0], np.cumsum(self._shares())])
        first = np.maximum(0, np.arange(1, len(self) + 1) - self.window)
        return np.asarray((sums[1:] - sums[first]) / (np.arange(1, len(self) + 1) - first))

    def save_page(self, path: Path, name: str) -> None:
        """Write it as a page that asks nothing of the network.

        Args:
            path: of the HTML.
            name: of the video.
        """
        from dualres_plugin.evaluate.report.clips import section
        from dualres_plugin.evaluate.report.page import framed

        told = f"{len(self)} frames at {self.rate:g} a second · largest size {self.largest} px"
        body = section(
            "the pixels that the detector saw in the last seconds, as a share of all frames at the largest size"
        )
        write_text(path, framed(f"{body}</main>", name, told, "routes.csv", {"stream": self.series()}, SCRIPTS))

    def series(self) -> dict[str, Any]:
        """What the page draws, as plain values; of a long video every k-th frame."""
        every = _thinned(np.arange(len(self)), MOST_OF_PAGE)
        steps, counts = np.array(self._step), {name: self._step.count(step) for step, name in self._names.items()}
        ran = np.where(steps == SKIP, np.nan, np.array(self._score))
        said = ", ".join(f"{count} {name}" for name, count in counts.items())
        budget = "" if self.budget is None else f", budget {self.budget:.0%}"
        many = f" Drawn: one frame in {every[1]}." if len(every) > 1 and every[1] > 1 else ""
        spent = f"{len(self._cuts)} cuts; mean cost {self._shares().mean():.0%}{budget}."
        return {
            "x": (every / self.rate).round(3).tolist(),
            "step": steps[every].tolist(),
            "score": ran[every].round(4).tolist(),
            "threshold": np.array(self._threshold)[every].round(4).tolist(),
            "cost": self._means()[every].round(4).tolist(),
            "cuts": [round(number / self.rate, 3) for number in self._cuts],
            "names": {str(step): name for step, name in self._names.items()},
            "count": max(2, 1 + max(self._step, default=0)),
            "budget": self.budget,
            "xName": "seconds",
            "costName": f"pixels of all high, last {SECONDS:g} s",
            "summary": f"{len(self)} frames: {said}; {spent}{many}",
        }


def _thinned(at: np.ndarray, most: int = MOST) -> np.ndarray:
    return np.asarray(at[:: max(1, -(-len(at) // most))])
