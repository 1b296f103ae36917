"""Size, score and cost of a video over time, as a small picture and as a page."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dualres_plugin.budget.pace import PacedController
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


class Cost(NamedTuple):
    """What frames cost, and what they may.

    Attributes:
        of: (n,) each frame's.
        budget: the mean that is wanted; None where nothing is promised.
        name: with its unit.
        most: up to where it is drawn at least.
    """

    of: np.ndarray
    budget: float | None
    name: str
    most: float

    def means(self, window: int) -> np.ndarray:
        """(n,) mean of the last so many frames at each frame; what is not known does not count."""
        known = np.isfinite(self.of)
        sums, counts = (np.concatenate([[0.0], np.cumsum(v)]) for v in (np.where(known, self.of, 0.0), known))
        first = np.maximum(0, np.arange(1, len(self.of) + 1) - window)
        return np.asarray((sums[1:] - sums[first]) / np.maximum(1, counts[1:] - counts[first]))


class Timeline:
    """Notes the route of every frame: 29 bytes each.

    Args:
        rate: frames per second.
        largest: the largest size in pixels, which the cost is a share of: it may not be among the frames.
        budget: the mean cost that is wanted, as such a share; None where nothing is promised.
        paced: holds frames per second; the cost is then in ms.
    """

    def __init__(self, rate: float, largest: int, budget: float | None = None, paced: PacedController | None = None):
        self.rate = rate
        self.largest = largest
        self.budget = budget
        self.paced = paced
        self.window = max(1, round(SECONDS * rate))
        self._step, self._score, self._threshold, self._size = array("b"), array("d"), array("d"), array("i")
        self._ms = array("d")  # of the frame before each
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
        paced = predictor.controller if isinstance(predictor.controller, PacedController) else None
        return cls(rate, predictor.size, known, paced)

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
        if self.paced is not None:
            self._ms.append(self.paced.last_ms)

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
        self._draw_cost(cost, time, every)
        for axes in (sizes, scores, cost):
            axes.grid(alpha=0.3)
            for number in self._cuts:
                axes.axvline(number / self.rate, color="#B0568F", linestyle=":", linewidth=1)
        with atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=120, format="png")

    def _draw_cost(self, axes: Any, time: np.ndarray, every: np.ndarray) -> None:
        cost = self.cost
        means = cost.means(self.window)
        axes.plot(time[every], means[every], color="#18212B", linewidth=1.2)
        if cost.budget is not None:
            axes.axhline(cost.budget, color="#D55E00", linestyle="--", linewidth=1.2, label="budget")
            axes.legend(loc="upper right")
        most = max(cost.most, float(means.max(initial=0)))
        axes.set(xlabel="seconds", ylabel=f"{cost.name},\nlast {SECONDS:g} s", ylim=(0, 1.05 * most))

    @property
    def cost(self) -> Cost:
        """What the frames cost: in pixels; in ms where frames per second are held."""
        if self.paced is None:
            return Cost(self._shares(), self.budget, "pixels of all high", 1.0)
        took = np.array([*self._ms[1:], np.nan])
        return Cost(took, self.paced.budget_ms, "ms a frame", self.paced.budget_ms)

    def save_page(self, path: Path, name: str) -> None:
        """Write it as a page that asks nothing of the network.

        Args:
            path: of the HTML.
            name: of the video.
        """
        from dualres_plugin.evaluate.report.clips import section
        from dualres_plugin.evaluate.report.page import framed

        told = f"{len(self)} frames at {self.rate:g} a second · largest size {self.largest} px"
        pixels = "the pixels that the detector saw in the last seconds, as a share of all frames at the largest size"
        body = section(pixels if self.paced is None else "what the frames of the last seconds took")
        write_text(path, framed(f"{body}</main>", name, told, "routes.csv", {"stream": self.series()}, SCRIPTS))

    def series(self) -> dict[str, Any]:
        """What the page draws, as plain values; of a long video every k-th frame."""
        every = _thinned(np.arange(len(self)), MOST_OF_PAGE)
        steps = np.array(self._step)
        largest_first = sorted(self._names, key=lambda step: (step == SKIP, step))
        ran = np.where(steps == SKIP, np.nan, np.array(self._score))
        said = ", ".join(f"{self._step.count(step)} {self._names[step]}" for step in largest_first)
        cost = self.cost
        means = cost.means(self.window)
        text = "{:.0%}" if self.paced is None else "{:.1f} ms"
        budget = "" if cost.budget is None else f", budget {text.format(cost.budget)}"
        many = f" Drawn: one frame in {every[1]}." if len(every) > 1 and every[1] > 1 else ""
        spent = f"{len(self._cuts)} cuts; mean cost {text.format(np.nanmean(cost.of))}{budget}."
        return {
            "x": (every / self.rate).round(3).tolist(),
            "step": steps[every].tolist(),
            "score": ran[every].round(4).tolist(),
            "threshold": np.array(self._threshold)[every].round(4).tolist(),
            "cost": means[every].round(4).tolist(),
            "cuts": [round(number / self.rate, 3) for number in self._cuts],
            "names": {str(step): name for step, name in self._names.items()},
            "count": max(2, 1 + max(self._step, default=0)),
            "budget": cost.budget,
            "most": max(cost.most, float(means.max(initial=0))),
            "share": self.paced is None,
            "xName": "seconds",
            "costName": f"{cost.name}, last {SECONDS:g} s",
            "summary": f"{len(self)} frames: {said}; {spent}{many}",
        }


def _thinned(at: np.ndarray, most: int = MOST) -> np.ndarray:
    return np.asarray(at[:: max(1, -(-len(at) // most))])
