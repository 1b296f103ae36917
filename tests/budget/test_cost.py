"""Rates and budgets."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dualres_plugin.budget.cost import Budget, cost_at, rate_for_budget
from dualres_plugin.common.errors import DualResError

costs = st.floats(0.01, 100)


def test_by_hand() -> None:
    assert rate_for_budget(2.0, router=0.1, low=0.8, high=3.2) == pytest.approx((2.0 - 0.1 - 0.8) / 2.4)
    assert cost_at(0.5, 0.1, 0.8, 3.2) == pytest.approx(2.1)


@given(st.floats(0, 1), costs, costs, costs)
def test_a_budget_and_its_rate_are_inverse(rate: float, router: float, low: float, more: float) -> None:
    high = low + more
    assume(high > low)
    budget = cost_at(rate, router, low, high)
    assume(budget >= router + low)  # rounding can fall a hair below
    assert rate_for_budget(budget, router, low, high) == pytest.approx(rate, abs=1e-6 * (router + high) / (high - low))


@given(costs, costs, costs, st.floats(0, 1000))
def test_more_than_all_high_is_all_high(router: float, low: float, more: float, extra: float) -> None:
    assume(low + more > low)
    assert rate_for_budget(router + low + more + extra, router, low, low + more) == pytest.approx(1.0)


def test_impossible_budgets() -> None:
    with pytest.raises(DualResError, match=r"0\.5 GMACs is below the cheapest point.*0\.9 GMACs"):
        rate_for_budget(0.5, 0.1, 0.8, 3.2)
    with pytest.raises(DualResError, match=r"5 ms is below .* ms"):
        rate_for_budget(5, 1, 10, 20, unit="ms")
    for high in (0.8, 0.5):
        with pytest.raises(DualResError, match="routing can save nothing"):
            rate_for_budget(2, 0.1, 0.8, high)


def test_one_budget_at_a_time() -> None:
    assert Budget().ms is None and Budget(ms=12).ms == 12
    with pytest.raises(DualResError, match="only one of the budgets, not target_high_rate and ms"):
        Budget(target_high_rate=0.5, ms=12)


@pytest.mark.parametrize("name", ["target_high_rate", "threshold", "gmacs", "ms"])
def test_a_budget_is_a_number(name: str) -> None:
    with pytest.raises(DualResError, match=f"{name}=nan (must|is not a number)"):
        Budget(**{name: float("nan")})
    if name in ("gmacs", "ms"):
        with pytest.raises(DualResError, match="above 0"):
            Budget(**{name: 0.0})
    with pytest.raises(DualResError, match="finite"):
        rate_for_budget(1.0, 0.1, float("nan"), 2.0)
