"""Holding a budget on a stream whose content drifts.

A threshold calibrated on yesterday's images sends too many or too few of today's to high. The controller moves it:
an online quantile of the recent scores sets where the wanted rate lies now, and the images owed (or overspent) so far
shift that rate a little, so that the long-run share is exact whatever happens.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dualres_plugin.budget import calibration
from dualres_plugin.budget.cost import rate_for_budget
from dualres_plugin.common.errors import DualResError

logger = logging.getLogger("dualres")


def refuse_threshold(threshold: float | None) -> None:
    """Whoever holds a rate moves the threshold: one of the user's own contradicts that.

    Args:
        threshold: what the user gave; None is nothing.

    Raises:
        DualResError: If it is not None.
    """
    if threshold is not None:
        raise DualResError(
            f"hold_rate keeps a share of images at high by moving the threshold, so threshold={threshold:g} cannot "
            "hold too: give target_high_rate, not threshold."
        )


@dataclass(frozen=True)
class ControllerState:
    """What the controller knows, for logs and dashboards.

    Attributes:
        images, high: counts so far.
        rate: share of all images at high.
        recent_rate: share of the last 2 x `window` images at high.
        fixed_rate: share of the last 2 x `window` images that the calibrated threshold alone would have sent high.
        threshold: in force for the next image.
        target: wanted share.
        drifting: `fixed_rate` has left the band around the target.
    """

    images: int
    high: int
    rate: float
    recent_rate: float
    fixed_rate: float
    threshold: float
    target: float
    drifting: bool


class BudgetController:
    """Adapts the threshold so that a wanted share of a stream goes high.

    Args:
        target_high_rate: wanted share, 0 to 1.
        quantiles: the router's calibration (`router.quantiles`), used until the window has filled.
        window: how many recent scores set the threshold: shorter follows faster and is noisier. Drift is judged, and
            recent rates are given, over twice as many images.
        band: how far the calibrated threshold's own rate may leave the target before a warning.

    Raises:
        DualResError: If the rate is outside [0, 1], the window or the band cannot be, or there is no calibration.
    """

    def __init__(self, target_high_rate: float, quantiles: Sequence[float], window: int = 32, band: float = 0.15):
        if not len(quantiles):
            raise DualResError("the budget controller starts from a calibrated router: fit it, or run `dualres swap`.")
        if not isinstance(window, int) or not 1 <= window <= 1_000_000:
            raise DualResError(f"window={window!r}: the budget controller needs at least 1 recent score, at most 1e6.")
        if not 0 < band <= 1:
            raise DualResError(f"band={band!r} must be above 0, at most 1: it is a difference of shares.")
        self.target = calibration.check_rate(target_high_rate)
        self.window = window
        self.band = float(band)
        self._calibrated = calibration.threshold_for(self.target, quantiles)
        # Scores as the calibration has them, evenly spread; real ones push them out.
        self._scores = deque(calibration.score_at(_spread(self.window), quantiles).tolist(), maxlen=self.window)
        self._routes: deque[bool] = deque(maxlen=2 * self.window)
        self._fixed: deque[bool] = deque(maxlen=2 * self.window)
        self._images = self._high = 0
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
    def threshold(self) -> float:
        """The threshold for the next image."""
        owed = self.target * self._images - self._high  # images at high that the budget still has, may be negative
        rate = self.target + owed / self.window
        if rate <= 0:
            return float("inf")
        if rate >= 1:
            return float("-inf")
        return float(np.quantile(self._scores, 1 - rate))

    def route(self, score: float) -> bool:
        """Decide one image and learn from its score.

        Args:
            score: the router's.

        Returns:
            True where the image goes high.

        Raises:
            DualResError: If the score is NaN, which would stay in the window.
        """
        if math.isnan(score):
            raise DualResError("the router's score is NaN: the photo or the router holds values that are no numbers.")
        high = score > self.threshold
        self._scores.append(float(score))
        self._routes.append(high)
        self._fixed.append(score > self._calibrated)
        self._images += 1
        self._high += high
        self._watch()
        return high

    def _watch(self) -> None:
        drifting = self.state.drifting
        if drifting and not self._warned:
            logger.warning(
                "drift: the calibrated threshold would send %.0f %% of the last %d images high instead of %.0f %%. "
                "The controller compensates; recalibrate with `dualres swap` if the content has changed for good.",
                100 * self.state.fixed_rate,
                len(self._fixed),
                100 * self.target,
            )
        self._warned = drifting

    @property
    def state(self) -> ControllerState:
        """Counts, rates and threshold as they are now."""
        fixed = float(np.mean(self._fixed)) if self._fixed else self.target
        full = len(self._fixed) == self._fixed.maxlen
        return ControllerState(
            images=self._images,
            high=self._high,
            rate=self._high / self._images if self._images else 0.0,
            recent_rate=float(np.mean(self._routes)) if self._routes else 0.0,
            fixed_rate=fixed,
            threshold=self.threshold,
            target=self.target,
            drifting=full and abs(fixed - self.target) > self.band,
        )

    def to_dict(self) -> dict[str, float | int | bool]:
        """The state by name, for logs."""
        return asdict(self.state)


def _spread(n: int) -> np.ndarray:
    """n levels in (0, 1), in an order that is even at every length: neighbours in time are far apart in level."""
    levels = (np.arange(n) + 0.5) / n
    order: np.ndarray = levels[np.argsort((np.arange(n) * 0.6180339887) % 1.0)]
    return order
