"""What a user may spend: one operating point, as a share at high, a threshold, GMACs or milliseconds."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from dualres_plugin.budget.calibration import check_threshold
from dualres_plugin.common.errors import DualResError, check_number


@dataclass(frozen=True)
class Budget:
    """What a user asks for: one of these, or nothing for half of the images at high.

    Attributes:
        target_high_rate: share of images at high.
        threshold: score above which an image goes high.
        gmacs, ms: mean compute or time per image.

    Raises:
        DualResError: If more than one is given, or a number is out of range.
    """

    target_high_rate: float | None = None
    threshold: float | None = None
    gmacs: float | None = None
    ms: float | None = None

    def __post_init__(self) -> None:
        given = [f.name for f in fields(self) if getattr(self, f.name) is not None]
        if len(given) > 1:
            raise DualResError(f"give only one of the budgets, not {' and '.join(given)}.")
        check_number("target_high_rate", self.target_high_rate, 0, 1)
        if self.threshold is not None:
            check_threshold(self.threshold)
        check_number("gmacs", self.gmacs, above=0)
        check_number("ms", self.ms, above=0)


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


def cost_at(rate: float, router: float, low: float, high: float) -> float:
    """Mean cost per image at a share of images at high, router included.

    Args:
        rate: share at high, 0 to 1.
        router, low, high: cost of the router and of the two passes, in any one unit.
    """
    return router + low + rate * (high - low)
