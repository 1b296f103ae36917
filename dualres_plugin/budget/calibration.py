"""Share at high <-> threshold, read off the scores of calibration images. The one copy: router, session, controller.

A calibration is a list of score quantiles, evenly spaced from 0 to 100 %, on images like those to come.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dualres_plugin.common.errors import DualResError

POINTS = 101  # quantiles that are kept: 0, 1, ..., 100 %


def check_rate(target_high_rate: float) -> float:
    """A share of images at high, as a float.

    Args:
        target_high_rate: 0 (all low) to 1 (all high).

    Raises:
        DualResError: If it is no number or lies outside.
    """
    if not isinstance(target_high_rate, (int, float)) or not 0.0 <= target_high_rate <= 1.0:
        raise DualResError(f"target_high_rate={target_high_rate!r} must lie between 0 (all low) and 1 (all high).")
    return float(target_high_rate)


def check_threshold(threshold: float) -> float:
    """A score that divides high from low, as a float; the infinities are the exact ends.

    Args:
        threshold: what the user gave.

    Raises:
        DualResError: If it is no number, with which nothing would ever go high.
    """
    if not isinstance(threshold, (int, float)) or threshold != threshold:
        raise DualResError(
            f"threshold={threshold!r} is not a number: give a score, or inf for all low, -inf for all high."
        )
    return float(threshold)


def score_quantiles(scores: Sequence[float] | np.ndarray) -> list[float]:
    """The calibration that some images' scores give.

    Args:
        scores: (n,) the router's, in any order.

    Returns:
        `POINTS` quantiles, ascending.

    Raises:
        DualResError: If there are no scores or some are not finite.
    """
    values = np.asarray(scores, dtype=np.float64).reshape(-1)
    if not len(values) or not np.isfinite(values).all():
        raise DualResError("calibration needs at least one image, and finite scores.")
    return [float(q) for q in np.quantile(values, np.linspace(0, 1, POINTS))]


def score_at(level: float | np.ndarray, quantiles: Sequence[float]) -> np.ndarray:
    """Scores below which a share of the calibration images lies, linear between the quantiles.

    Args:
        level: the share, 0 to 1; or (m,) shares.
        quantiles: (n,) scores, ascending, evenly spaced from 0 to 100 %.

    Returns:
        A score for each level, in the same shape.
    """
    return np.asarray(np.interp(level, np.linspace(0, 1, len(quantiles)), quantiles))


def threshold_for(target_high_rate: float, quantiles: Sequence[float]) -> float:
    """The threshold that sends a share of the calibration images high.

    Args:
        target_high_rate: the share, 0 to 1. Both ends are exact: plus and minus infinity, so that no image, or every
            image, goes high.
        quantiles: (n,) scores, as `score_quantiles` makes them; empty is "never calibrated".

    Raises:
        DualResError: If the rate is outside [0, 1], or there is no calibration.
    """
    rate = check_rate(target_high_rate)
    if rate in (0.0, 1.0):
        return float("inf") if rate == 0 else float("-inf")
    if not len(quantiles):
        raise DualResError(
            "this router has no calibration, so a target_high_rate means nothing yet. Call `fit`, run `dualres swap` "
            "on unlabelled images of yours (and export again), or give a threshold."
        )
    return float(score_at(1.0 - rate, quantiles))


def rate_of(threshold: float, quantiles: Sequence[float]) -> float:
    """The share of the calibration images whose score is above a threshold.

    Args:
        threshold: a score; infinities are the exact ends of `threshold_for`.
        quantiles: (n,) scores, as `score_quantiles` makes them.

    Returns:
        0 to 1.
    """
    if np.isinf(threshold):
        return float(threshold < 0)
    return float(1.0 - np.interp(threshold, quantiles, np.linspace(0, 1, len(quantiles))))
