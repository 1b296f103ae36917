"""What a user may spend: one operating point, as shares of the images, thresholds, GMACs or milliseconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from dualres_plugin.budget import ladder
from dualres_plugin.budget.calibration import check_threshold
from dualres_plugin.common.errors import DualResError, check_number


@dataclass(frozen=True)
class Budget:
    """What a user asks for: one of these, or nothing for half of the images at high.

    Attributes:
        target_high_rate: share of images at high.
        threshold: score above which an image goes high.
        gmacs, ms: mean compute or time per image.
        shares: share of the images at each of several sizes, largest size first.
        thresholds: scores between several sizes, descending.
        fps: mean frames per second, held by what frames take while they run.

    Raises:
        DualResError: If more than one is given, or a number is out of range.
    """

    target_high_rate: float | None = None
    threshold: float | None = None
    gmacs: float | None = None
    ms: float | None = None
    shares: tuple[float, ...] | None = None
    thresholds: tuple[float, ...] | None = None
    fps: float | None = None

    def __post_init__(self) -> None:
        given = [f.name for f in fields(self) if getattr(self, f.name) is not None]
        if len(given) > 1:
            raise DualResError(f"give only one of the budgets, not {' and '.join(given)}.")
        check_number("target_high_rate", self.target_high_rate, 0, 1)
        if self.threshold is not None:
            check_threshold(self.threshold)
        check_number("gmacs", self.gmacs, above=0)
        check_number("ms", self.ms, above=0)
        check_number("fps", self.fps, above=0)
        if self.shares is not None:
            object.__setattr__(self, "shares", ladder.check_shares(self.shares))
        if self.thresholds is not None:
            object.__setattr__(self, "thresholds", ladder.check_thresholds(self.thresholds))

    def fixed_thresholds(self, count: int = 2) -> tuple[float, ...] | None:
        """The thresholds that are asked for; None where they follow from something else.

        Args:
            count: of sizes.

        Raises:
            DualResError: If they are not one fewer than the sizes.
        """
        given = self.thresholds if self.threshold is None else self.threshold
        return None if given is None else ladder.check_thresholds(given, count)

    def wanted_shares(self, count: int = 2) -> tuple[float, ...]:
        """The shares that are asked for, largest size first; all alike by default.

        Args:
            count: of sizes.

        Raises:
            DualResError: If they are not as many as the sizes.
        """
        if self.shares is not None:
            return ladder.check_shares(self.shares, count)
        if self.target_high_rate is None:
            return ladder.even_shares(count)
        if count != 2:
            raise DualResError(
                f"target_high_rate={self.target_high_rate:g} is for two sizes: give the share of each of the {count}."
            )
        return self.target_high_rate, 1.0 - self.target_high_rate


def rate_for_budget(budget: float, router: float, low: float, high: float, unit: str = "GMACs") -> float:
    """The share of images at high that meets a mean budget: `β = (T - t_router - t_low) / (t_high - t_low)`.

    Args:
        budget: mean cost per image that may be spent, in any unit.
        router, low, high: cost of the router and of the two passes, in the same unit.
        unit: of all of them, for messages.

    Returns:
        β in [0, 1]; 1 where the budget is more than all-high needs.

    Raises:
        DualResError: If even all-low exceeds the budget, high costs no more than low, or a cost is not finite.
    """
    if not all(math.isfinite(cost) for cost in (budget, router, low, high)):
        raise DualResError(f"costs must be finite {unit}: budget {budget}, router {router}, low {low}, high {high}.")
    if high <= low:
        raise DualResError(f"high costs {high:g} {unit} and low {low:g}: routing can save nothing.")
    if budget < router + low:
        raise DualResError(
            f"a budget of {budget:g} {unit} is below the cheapest point, all low with the router: "
            f"{router + low:.3g} {unit}. All high costs {router + high:.3g}."
        )
    return min(1.0, (budget - router - low) / (high - low))


def shares_for_budget(
    budget: float, router: float, costs: Sequence[float], unit: str = "GMACs", shares: Sequence[float] | None = None
) -> tuple[float, ...]:
    """The shares that meet a mean budget; of two sizes those of `rate_for_budget`.

    Args:
        budget: mean cost per image that may be spent, in any unit.
        router: cost of the router in the same unit.
        costs: (K,) of one image at each size, largest size first.
        unit: of all of them, for messages.
        shares: (K,) to stay as near to as the budget allows; None is all alike.

    Returns:
        (K,) shares; all at the largest size where the budget is more than that needs.

    Raises:
        DualResError: If the budget is below the cheapest point, or a cost cannot be.
    """
    level = rate_for_budget(budget, router, costs[-1], costs[0], unit)
    wanted = ladder.check_shares(shares, len(costs)) if shares is not None else ladder.even_shares(len(costs))
    return ladder.tilted(wanted, ladder.relative_costs(costs), level)


def cost_at(rate: float, router: float, low: float, high: float) -> float:
    """Mean cost per image at a share of images at high, router included.

    Args:
        rate: share at high, 0 to 1.
        router, low, high: cost of the router and of the two passes, in any one unit.
    """
    return router + low + rate * (high - low)
