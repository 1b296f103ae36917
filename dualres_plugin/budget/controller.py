"""Holding a budget on a stream whose content drifts.

A threshold calibrated on yesterday's images sends too many or too few of today's to high. The controller moves it:
an online quantile of the recent scores sets where the wanted rate lies now, and the images owed (or overspent) so far
shift that rate a little, so that the long-run share is exact whatever happens. Of more than two sizes it is the mean
cost that is held: between the smallest size's, 0, and the largest size's, 1; of two sizes that is the share at high.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dualres_plugin.budget import calibration, ladder
from dualres_plugin.budget.cost import rate_for_budget
from dualres_plugin.common.errors import DualResError, check_number

logger = logging.getLogger("dualres")


def refuse_threshold(threshold: float | Sequence[float] | None) -> None:
    """Whoever holds a rate moves the threshold: one of the user's own contradicts that.

    Args:
        threshold: what the user gave; None is nothing.

    Raises:
        DualResError: If it is not None.
    """
    if threshold is not None:
        given = threshold if isinstance(threshold, (int, float)) else ", ".join(f"{t:g}" for t in threshold)
        raise DualResError(
            f"hold_rate keeps a share of images at high by moving the threshold, so threshold={given} cannot "
            "hold too: give target_high_rate, not threshold."
        )


@dataclass(frozen=True)
class ControllerState:
    """What the controller knows, for logs and dashboards. A rate is the share at high; of more than two sizes the mean
    cost, 0 (all at the smallest size) to 1 (all at the largest).

    Attributes:
        images, high: counts so far; high is the largest size.
        rate: of all images.
        recent_rate: of the last 2 x `window` images.
        fixed_rate: of the last `watch` images, by default as many, had the calibrated thresholds alone decided.
        threshold: in force for the next image; of more than two sizes the highest one.
        target: wanted rate.
        drifting: `fixed_rate` has left the band around the target.
        counts: images so far at each size, largest first.
    """

    images: int
    high: int
    rate: float
    recent_rate: float
    fixed_rate: float
    threshold: float
    target: float
    drifting: bool
    counts: tuple[int, ...] = ()


class BudgetController:
    """Adapts the threshold so that a wanted share of a stream goes high; of several sizes, so that a mean cost is held.

    Args:
        target_high_rate: wanted share, 0 to 1; of several sizes the share of each, largest size first, whose mean cost
            is held.
        quantiles: the router's calibration (`router.quantiles`), used until the window has filled.
        window: how many recent scores set the threshold: shorter follows faster and is noisier. Recent rates are given
            over twice as many images.
        watch: how many images drift is judged over; None is twice the window. Frames of a video are alike for long.
        band: how far the calibrated threshold's own rate may leave the target before a warning.
        costs: of one image at each size, largest size first, in any unit; of two sizes they do not matter.

    Raises:
        DualResError: If the rate is outside [0, 1], the window, the band or the costs cannot be, or there is no
            calibration.
    """

    def __init__(
        self,
        target_high_rate: float | list[float] | tuple[float, ...],
        quantiles: Sequence[float],
        window: int = 32,
        band: float = 0.15,
        costs: Sequence[float] | None = None,
        watch: int | None = None,
    ):
        if not len(quantiles):
            raise DualResError("the budget controller starts from a calibrated router: fit it, or run `dualres swap`.")
        if not isinstance(window, int) or not 1 <= window <= 1_000_000:
            raise DualResError(f"window={window!r}: the budget controller needs at least 1 recent score, at most 1e6.")
        check_number("watch", watch, 1, 1_000_000)
        if not 0 < band <= 1:
            raise DualResError(f"band={band!r} must be above 0, at most 1: it is a difference of shares.")
        self.shares = _shares(target_high_rate)
        self.costs = _costs(costs, len(self.shares))
        self.target = ladder.mean_level(self.shares, self.costs)
        self.window = window
        self.band = float(band)
        self._calibrated = ladder.thresholds_for(self.shares, quantiles)
        # Scores as the calibration has them, evenly spread; real ones push them out.
        self._scores = deque(calibration.score_at(_spread(self.window), quantiles).tolist(), maxlen=self.window)
        self._routes: deque[float] = deque(maxlen=2 * self.window)
        self._fixed: deque[float] = deque(maxlen=watch or 2 * self.window)
        self._counts = [0] * len(self.shares)
        self._images, self._spent = 0, 0.0
        self._waived = 0.0  # of what skipped images left over: too long ago to be spent in one burst
        self._warned = False

    def __deepcopy__(self, memo: dict[int, Any]) -> BudgetController:
        return self  # hosts deep-copy their models; the stream is one

    @classmethod
    def for_latency(
        cls,
        budget_ms: float,
        router_ms: float,
        low_ms: float,
        high_ms: float,
        quantiles: Sequence[float],
        **options: Any,
    ) -> BudgetController:
        """A controller that meets a mean time per image, from measured times.

        Args:
            budget_ms: mean milliseconds per image that may be spent.
            router_ms, low_ms, high_ms: milliseconds of the router and of the two passes.
            quantiles: the router's calibration.
            **options: `window` and `band`.

        Raises:
            DualResError: If even all-low exceeds the budget, or high takes no longer than low.
        """
        return cls(rate_for_budget(budget_ms, router_ms, low_ms, high_ms, "ms"), quantiles, **options)

    @property
    def promised_shares(self) -> tuple[float, ...] | None:
        """The share at each size in the long run, largest first; None where it is not known before."""
        return self.shares

    def arrive(self, count: int) -> None:
        """Images are there, to be decided next. Nothing to do here; who measures time does.

        Args:
            count: how many are decided together.
        """

    def replay(self, score: float) -> None:
        """An image that an earlier, unfinished run has done.

        Args:
            score: the router's.
        """
        self.step(score)

    @property
    def threshold(self) -> float:
        """The score above which the next image goes to the largest size."""
        return self.thresholds[0]

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The thresholds for the next image, descending: one, of two sizes."""
        shares = ladder.tilted(self.shares, self.costs, self._level())
        upto = np.minimum(1.0, np.cumsum(shares[:-1]))
        return tuple(self._score_at(float(share)) for share in upto)

    def _level(self) -> float:
        """The mean cost that is wanted of the next images."""
        owed = self.target * self._images - self._spent - self._waived  # what the budget still has, may be negative
        return self.target + owed / self.window

    def _score_at(self, share: float) -> float:
        """The score that this share of the recent images is above."""
        if share <= 0:
            return float("inf")
        if share >= 1 - 1e-12:
            return float("-inf")
        return float(np.quantile(self._scores, 1 - share))

    def route(self, score: float) -> bool:
        """Decide one image of two sizes and learn from its score.

        Args:
            score: the router's.

        Returns:
            True where the image goes high.

        Raises:
            DualResError: If the score is NaN, which would stay in the window.
        """
        return self.step(score) == 0

    def step(self, score: float) -> int:
        """Decide one image and learn from its score.

        Args:
            score: the router's.

        Returns:
            0 for the largest size, 1 for the next smaller one, …

        Raises:
            DualResError: If the score is NaN, which would stay in the window.
        """
        if math.isnan(score):
            raise DualResError("the router's score is NaN: the photo or the router holds values that are no numbers.")
        step = ladder.step_of(score, self.thresholds)
        self._scores.append(float(score))
        self._routes.append(self.costs[step])
        self._fixed.append(self.costs[ladder.step_of(score, self._calibrated)])
        self._images += 1
        self._counts[step] += 1
        self._spent += self.costs[step]
        self._watch()
        return step

    def skip(self, cost: float = 0.0) -> None:
        """Count an image on which no size ran; what it left over is for the next ones, up to a window full.

        Args:
            cost: on the scale of rates: 0 as the smallest size, below 0 where it cost less.

        Raises:
            DualResError: If the cost is not finite, or above 0.
        """
        if not (math.isfinite(cost) and cost <= 0):
            raise DualResError(f"cost={cost!r} of a skipped image must be finite and at most 0, the smallest size's.")
        self._images += 1
        self._spent += cost
        self._routes.append(cost)
        owed = self.target * self._images - self._spent - self._waived
        self._waived += max(0.0, owed - self.window)

    def _watch(self) -> None:
        state = self.state
        if state.drifting and not self._warned:
            logger.warning(
                "drift: the calibrated threshold would send %.0f %% of the last %d images high instead of %.0f %%%s. "
                "The controller compensates; recalibrate with `dualres swap` if the content has changed for good.",
                100 * state.fixed_rate,
                len(self._fixed),
                100 * self.target,
                "" if len(self.costs) == 2 else " (shares weighted by what a size costs)",
            )
        # Only what has come back well inside the band can leave it again: one warning for each time, not one a frame.
        self._warned = state.drifting or (self._warned and abs(state.fixed_rate - self.target) > self.band / 2)

    @property
    def state(self) -> ControllerState:
        """Counts, rates and threshold as they are now."""
        fixed = float(np.mean(self._fixed)) if self._fixed else self.target
        full = len(self._fixed) == self._fixed.maxlen
        return ControllerState(
            images=self._images,
            high=self._counts[0],
            rate=self._spent / self._images if self._images else 0.0,
            recent_rate=float(np.mean(self._routes)) if self._routes else 0.0,
            fixed_rate=fixed,
            threshold=self.threshold,
            target=self.target,
            drifting=full and abs(fixed - self.target) > self.band,
            counts=tuple(self._counts),
        )

    def to_dict(self) -> dict[str, Any]:
        """The state by name, for logs."""
        return asdict(self.state)

    def saved(self) -> dict[str, Any]:
        """All that a restarted process needs to go on, as plain values for JSON; see `resume`."""
        return {
            "scores": list(self._scores),
            "routes": list(self._routes),
            "fixed": list(self._fixed),
            "counts": list(self._counts),
            "images": self._images,
            "spent": self._spent,
            "waived": self._waived,
            "warned": self._warned,
        }

    def resume(self, saved: Mapping[str, Any]) -> None:
        """Go on where another controller of the same window and sizes stopped.

        Args:
            saved: what its `saved` gave.

        Raises:
            DualResError: If it is not that, or of another window or number of sizes.
        """
        try:
            scores, routes, fixed = ([float(v) for v in saved[name]] for name in ("scores", "routes", "fixed"))
            counts, images = [int(n) for n in saved["counts"]], int(saved["images"])
            spent, waived, warned = float(saved["spent"]), float(saved["waived"]), bool(saved["warned"])
        except (KeyError, TypeError, ValueError) as error:
            raise DualResError(f"this is no saved state of a budget controller ({error}): start without it.") from None
        numbers = [*scores, *routes, *fixed, spent, waived]
        lengths = (self._routes.maxlen or 0, self._fixed.maxlen or 0)
        fits = len(scores) == self.window and len(counts) == len(self._counts)
        fits = fits and len(routes) <= lengths[0] and len(fixed) <= lengths[1]
        if not fits or not all(map(math.isfinite, numbers)):
            raise DualResError(
                f"the saved state of a budget controller does not fit a window of {self.window} and "
                f"{len(self._counts)} sizes: resume with the settings that it was saved with."
            )
        self._scores.extend(scores)
        self._routes, self._fixed = deque(routes, lengths[0]), deque(fixed, lengths[1])
        self._counts, self._images = counts, images
        self._spent, self._waived, self._warned = spent, waived, warned


def _shares(target: float | list[float] | tuple[float, ...]) -> tuple[float, ...]:
    if isinstance(target, (list, tuple)):
        return ladder.check_shares(target)
    rate = calibration.check_rate(target)
    return rate, 1.0 - rate


def _costs(costs: Sequence[float] | None, count: int) -> tuple[float, ...]:
    if count == 2:
        return 1.0, 0.0
    if costs is None or len(costs) != count:
        raise DualResError(f"holding {count} sizes needs what an image costs at each of them, largest size first.")
    return ladder.relative_costs(costs)


def _spread(n: int) -> np.ndarray:
    """n levels in (0, 1), in an order that is even at every length: neighbours in time are far apart in level."""
    levels = (np.arange(n) + 0.5) / n
    order: np.ndarray = levels[np.argsort((np.arange(n) * 0.6180339887) % 1.0)]
    return order
