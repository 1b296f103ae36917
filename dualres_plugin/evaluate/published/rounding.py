"""AUC-Policy of rounded points: which values a published table can stand for."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.auc_policy import RANDOM_MIX, Array, area_under, as_values, sorted_points


def decimals_of(values: Any) -> int:
    """The smallest number of decimals (0 to 9) that writes every value exactly; 9 if none does.

    Args:
        values: (N,) numbers.

    Returns:
        0 to 9.

    Raises:
        DualResError: If one is no finite number.
    """
    array = as_values(values, "values")
    for decimals in range(9):
        if np.allclose(np.round(array, decimals), array, rtol=0, atol=1e-10 * max(1.0, np.abs(array).max())):
            return decimals
    return 9


def rounding_band(compute: Any, metric: Any, decimals: int, compute_decimals: int | None = None) -> tuple[float, float]:
    """Every AUC-Policy that points published with so many decimals can stand for lies in this interval.

    A value printed as 53.3 is anything in [53.25, 53.35]. Over that box AUC-Policy is linear-fractional in
    the metrics for fixed compute, and the other way round, so its extremes sit on corners. For the largest
    value every inner metric is at the same side of its box (all push the area the same way); then each inner
    compute is at the side that its coefficient, y[i-1] - y[i+1], asks for. That leaves the four end values:
    16 cases, and the result is exact. Rounding never swaps two different printed values, so the order is
    certain except among points of equal printed compute; those get the most favourable metric of their
    group, which can only widen the interval.

    Args:
        compute: printed compute of each point, (N,).
        metric: printed metric of each point, (N,).
        decimals: decimals the metric was printed with.
        compute_decimals: decimals of compute; None for as many as its values show, at least none.

    Returns:
        Lowest and highest possible value; infinite where rounding cannot tell the two end metrics apart.

    Raises:
        DualResError: As `auc_policy`, or values that show more decimals than stated.

    Examples:
        >>> low, high = rounding_band([112.4, 143.2, 174.0, 181.7], [52.1, 53.3, 53.8, 53.9], decimals=1)
        >>> f"{low:.3f} {high:.3f}"
        '0.573 0.655'
    """
    f, m = sorted_points(compute, metric)
    if compute_decimals is None:
        compute_decimals = decimals_of(f)
    else:
        _check_decimals(f, compute_decimals, "compute")
    _check_decimals(m, decimals, "metric")
    if len(f) == 2:
        return RANDOM_MIX, RANDOM_MIX
    half_f, half_m = 0.5 * 10.0**-compute_decimals, 0.5 * 10.0**-decimals
    groups = [np.isclose(f, value, rtol=0, atol=half_f / 2) for value in f]
    lowest = np.array([m[group].min() for group in groups]) - half_m
    highest = np.array([m[group].max() for group in groups]) + half_m
    if lowest[-1] <= highest[0] and lowest[0] <= highest[-1]:
        return -np.inf, np.inf
    return _extreme(f, lowest, highest, half_f, -1), _extreme(f, lowest, highest, half_f, 1)


def _check_decimals(values: Array, decimals: int, what: str) -> None:
    if not 0 <= decimals <= 15:
        raise DualResError(f"decimals of {what} must be 0 to 15, got {decimals}.")
    if not np.allclose(np.round(values, decimals), values, rtol=1e-12, atol=10.0 ** -(decimals + 4)):
        raise DualResError(f"{what} has values with more than {decimals} decimals: say how many were printed.")


def _extreme(f: Array, lowest: Array, highest: Array, half: float, sign: int) -> float:
    """The largest (sign 1) or smallest (sign -1) area over the box; `rounding_band` says why corners do."""
    rising = lowest[-1] > highest[0]
    inner = highest if (sign > 0) == rising else lowest
    first, last = np.isclose(f, f[0], atol=half / 2), np.isclose(f, f[-1], atol=half / 2)
    best = -np.inf
    for m0, m1 in product((lowest[0], highest[0]), (lowest[-1], highest[-1])):
        m = np.concatenate(([m0], inner[1:-1], [m1]))
        y = sign * (m - m0) / (m1 - m0)
        sides = np.where(y[:-2] > y[2:], 1.0, -1.0)
        for left, right in product((-1.0, 1.0), repeat=2):
            x = f + half * np.concatenate(([left], sides, [right]))
            if left > 0:
                x[first] = x[0]  # nothing is cheaper than the first point
            if right < 0:
                x[last] = x[-1]
            if x[-1] - x[0] > half * 1e-6:  # else every point sits on one spot: no curve
                best = max(best, sign * area_under(x, m))
    return sign * best
