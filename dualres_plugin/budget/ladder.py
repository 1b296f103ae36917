"""Several sizes by one score: the share of the images at each size <-> the thresholds between the sizes.

Sizes are in order, the largest first, and so are shares and costs. K sizes have K-1 thresholds, descending; two sizes
are the threshold and the share at high of `calibration`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from dualres_plugin.budget import calibration
from dualres_plugin.common.errors import DualResError

STEPS = 50  # of a bisection: to the last bits of a share
STEEPEST = 700.0  # e to this is still a float


def check_shares(shares: Sequence[float], count: int | None = None) -> tuple[float, ...]:
    """Shares of the images, as floats that sum to one.

    Args:
        shares: one a size, largest size first.
        count: of sizes; None takes any from two.

    Raises:
        DualResError: If they are no shares, or not as many as the sizes.
    """
    numbers = tuple(float(s) for s in shares if isinstance(s, (int, float)) and 0 <= s <= 1)
    if len(numbers) != len(shares) or len(numbers) < 2 or abs(sum(numbers) - 1) > 1e-3:
        raise DualResError(
            f"shares={tuple(shares)!r}: give the share of the images at each size, largest size first, 1 in all."
        )
    if count is not None and len(numbers) != count:
        raise DualResError(f"{count} sizes need {count} shares, not {len(numbers)}: {numbers}.")
    return numbers


def check_thresholds(thresholds: float | Sequence[float], count: int | None = None) -> tuple[float, ...]:
    """Thresholds between sizes, as floats.

    Args:
        thresholds: descending; a number is that of two sizes.
        count: of sizes; None takes any.

    Raises:
        DualResError: If one is NaN, they ascend, or there is not one between any two sizes.
    """
    given = [thresholds] if isinstance(thresholds, (int, float)) else list(thresholds)
    numbers = tuple(calibration.check_threshold(t) for t in given)
    if any(upper < lower for upper, lower in pairwise(numbers)):
        raise DualResError(
            f"thresholds={numbers}: they must descend, the first being the score above which an image goes to the "
            "largest size."
        )
    if count is not None and len(numbers) != count - 1:
        raise DualResError(f"{count} sizes need {count - 1} thresholds between them, not {len(numbers)}.")
    return numbers


def thresholds_for(shares: Sequence[float], quantiles: Sequence[float]) -> tuple[float, ...]:
    """The thresholds that send these shares of the calibration images to the sizes.

    Args:
        shares: (K,) largest size first.
        quantiles: of the scores, see `calibration.score_quantiles`.

    Returns:
        K-1 thresholds, descending.

    Raises:
        DualResError: If there is no calibration.
    """
    upto, found = 0.0, []
    for share in shares[:-1]:
        upto = min(1.0, upto + share)
        found.append(calibration.threshold_for(1.0 if 1 - upto < 1e-9 else upto, quantiles))
    return tuple(found)


def shares_of(thresholds: Sequence[float], quantiles: Sequence[float]) -> tuple[float, ...]:
    """The share of the calibration images at each size.

    Args:
        thresholds: (K-1,) descending.
        quantiles: of the scores.

    Returns:
        (K,) shares, largest size first.
    """
    above = [0.0, *(calibration.rate_of(t, quantiles) for t in thresholds), 1.0]
    return tuple(upper - lower for lower, upper in pairwise(above))


def step_of(score: float, thresholds: Sequence[float]) -> int:
    """The size of an image: 0 for the largest, 1 for the next smaller one, …

    Args:
        score: the router's.
        thresholds: descending.
    """
    return sum(not score > threshold for threshold in thresholds)


def relative_costs(costs: Sequence[float]) -> tuple[float, ...]:
    """Costs on a scale from 0, the smallest size's, to 1, the largest size's.

    Args:
        costs: (K,) of one image at each size, largest size first, in any unit.

    Raises:
        DualResError: If a larger size does not cost more.
    """
    if not all(larger > smaller for larger, smaller in pairwise(costs)) or not all(map(math.isfinite, costs)):
        raise DualResError(f"costs per image of {[f'{c:.4g}' for c in costs]}: a smaller size must cost less.")
    return tuple((cost - costs[-1]) / (costs[0] - costs[-1]) for cost in costs)


def mean_level(shares: Sequence[float], costs: Sequence[float]) -> float:
    """The mean of relative costs: of two sizes, the share at high.

    Args:
        shares, costs: (K,) largest size first.
    """
    return sum(share * cost for share, cost in zip(shares, costs))


def tilted(shares: Sequence[float], costs: Sequence[float], level: float) -> tuple[float, ...]:
    """Shares as near to the given ones as a mean cost allows: each times `exp(β cost)`, with one β for all.

    Of all shares with that mean cost these have the least relative entropy to the given ones. Of two sizes there is
    but one answer, whatever the given ones are.

    Args:
        shares: (K,) that are wanted, largest size first; a size without a share gets none.
        costs: (K,) relative costs, 1 to 0.
        level: the mean relative cost; beyond what the sizes in use can give, the nearest end.

    Returns:
        (K,) shares.
    """
    if len(shares) == 2:
        return min(1.0, max(0.0, level)), 1.0 - min(1.0, max(0.0, level))
    used = [cost for share, cost in zip(shares, costs) if share > 0]
    if level >= max(used) or level <= min(used):
        end = max(used) if level >= max(used) else min(used)
        return tuple(float(share > 0 and cost == end) for share, cost in zip(shares, costs))
    low, high = -STEEPEST, STEEPEST
    for _ in range(STEPS):
        middle = (low + high) / 2
        if mean_level(_weighted(shares, costs, middle), costs) < level:
            low = middle
        else:
            high = middle
    return _weighted(shares, costs, (low + high) / 2)


def even_shares(count: int) -> tuple[float, ...]:
    """As many images at each of `count` sizes."""
    return (1 / count,) * count


def _weighted(shares: Sequence[float], costs: Sequence[float], beta: float) -> tuple[float, ...]:
    top = max(beta * cost for cost in costs)
    weights = [share * math.exp(beta * cost - top) for share, cost in zip(shares, costs)]
    total = sum(weights)
    return tuple(weight / total for weight in weights)
