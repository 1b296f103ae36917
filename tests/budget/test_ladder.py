"""Shares <-> thresholds of several sizes, and shares that meet a mean cost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualres_plugin.budget import calibration
from dualres_plugin.budget.calibration import score_quantiles
from dualres_plugin.budget.controller import BudgetController
from dualres_plugin.budget.cost import Budget, rate_for_budget, shares_for_budget
from dualres_plugin.budget.ladder import (
    check_shares,
    check_thresholds,
    even_shares,
    mean_level,
    relative_costs,
    shares_of,
    step_of,
    thresholds_for,
    tilted,
)
from dualres_plugin.common.errors import DualResError

SCORES = np.random.default_rng(0).normal(size=4000)
QUANTILES = score_quantiles(SCORES)
COSTS = (4.0, 2.5, 1.0, 0.4)


def share_lists(count: int) -> st.SearchStrategy[tuple[float, ...]]:
    weights = st.lists(st.floats(0.01, 1), min_size=count, max_size=count)
    return weights.map(lambda w: tuple(x / sum(w) for x in w))


@settings(deadline=None)
@given(st.integers(2, 5).flatmap(share_lists))
def test_thresholds_send_the_shares_they_were_asked_for(shares: tuple[float, ...]) -> None:
    thresholds = thresholds_for(shares, QUANTILES)
    assert list(thresholds) == sorted(thresholds, reverse=True)
    assert np.allclose(shares_of(thresholds, QUANTILES), shares, atol=1e-6)
    steps = np.array([step_of(score, thresholds) for score in SCORES])
    realised = [np.mean(steps == k) for k in range(len(shares))]
    assert np.allclose(realised, shares, atol=0.02)


@given(st.floats(0, 1).filter(lambda rate: not 0 < 1 - rate < 1e-9))  # so near to all of them is all of them
def test_two_sizes_are_the_threshold_that_they_were(rate: float) -> None:
    assert thresholds_for((rate, 1 - rate), QUANTILES) == (calibration.threshold_for(rate, QUANTILES),)


def test_the_ends_are_exact_and_nan_goes_to_the_smallest() -> None:
    assert thresholds_for((0.0, 0.0, 1.0), QUANTILES) == (float("inf"), float("inf"))
    assert thresholds_for((1.0, 0.0, 0.0), QUANTILES) == (float("-inf"), float("-inf"))
    upper, lower = thresholds_for((0.3, 0.0, 0.7), QUANTILES)
    assert upper == lower, "a size without a share is never taken"
    assert step_of(float("nan"), (1.0, 0.0)) == 2 and step_of(0.5, (1.0, 0.0)) == 1 and step_of(1.0, (1.0, 0.0)) == 1


@settings(deadline=None)
@given(share_lists(4), st.floats(0, 1))
def test_tilted_shares_have_the_mean_cost_that_was_asked_for(shares: tuple[float, ...], level: float) -> None:
    costs = relative_costs(COSTS)
    found = tilted(shares, costs, level)
    assert sum(found) == pytest.approx(1) and min(found) >= 0
    assert mean_level(found, costs) == pytest.approx(level, abs=1e-6)


@given(share_lists(4))
def test_shares_that_cost_what_is_asked_stay_as_they_are(shares: tuple[float, ...]) -> None:
    costs = relative_costs(COSTS)
    assert np.allclose(tilted(shares, costs, mean_level(shares, costs)), shares, atol=1e-6)


def test_tilting_keeps_to_the_sizes_in_use() -> None:
    costs = relative_costs(COSTS)
    found = tilted((0.5, 0.0, 0.5, 0.0), costs, 0.9)
    assert found[1] == found[3] == 0 and mean_level(found, costs) == pytest.approx(0.9)
    assert tilted((0.5, 0.0, 0.5, 0.0), costs, 0.0) == (0.0, 0.0, 1.0, 0.0), "the nearest end"


@given(st.floats(0.5, 5))
def test_a_budget_of_two_sizes_is_what_it_was(budget: float) -> None:
    rate = rate_for_budget(budget, 0.05, 0.4, 4.0)
    assert shares_for_budget(budget, 0.05, (4.0, 0.4)) == (rate, 1 - rate)


def test_a_budget_is_spent_on_average() -> None:
    shares = shares_for_budget(1.7, 0.05, COSTS)
    assert 0.05 + sum(s * c for s, c in zip(shares, COSTS)) == pytest.approx(1.7)
    assert shares_for_budget(9, 0.05, COSTS) == (1.0, 0.0, 0.0, 0.0)
    with pytest.raises(DualResError, match="below the cheapest point"):
        shares_for_budget(0.3, 0.05, COSTS)
    with pytest.raises(DualResError, match="a smaller size must cost less"):
        shares_for_budget(1.0, 0.05, (4.0, 0.3, 0.4))


def test_what_is_asked_for_is_checked() -> None:
    assert check_shares((0.2, 0.8)) == (0.2, 0.8) and even_shares(4) == (0.25,) * 4
    for wrong in ((0.5, 0.6), (1.0,), (-0.5, 1.5), (float("nan"), 1.0)):
        with pytest.raises(DualResError, match="largest size first, 1 in all"):
            check_shares(wrong)
    with pytest.raises(DualResError, match="3 sizes need 3 shares, not 2"):
        check_shares((0.5, 0.5), 3)
    with pytest.raises(DualResError, match="they must descend"):
        check_thresholds((0.0, 1.0))
    with pytest.raises(DualResError, match="3 sizes need 2 thresholds between them, not 1"):
        check_thresholds(0.5, 3)
    with pytest.raises(DualResError, match="not a number"):
        check_thresholds((1.0, float("nan")))
    with pytest.raises(DualResError, match="for two sizes: give the share of each of the 3"):
        Budget(target_high_rate=0.3).wanted_shares(3)
    with pytest.raises(DualResError, match="only one of the budgets, not gmacs and shares"):
        Budget(gmacs=1.0, shares=(0.5, 0.5))


# -- a stream ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [(0.2, 0.3, 0.3, 0.2), (0.1, 0.1, 0.1, 0.7), (0.5, 0.0, 0.0, 0.5)])
def test_the_mean_cost_is_held_when_the_content_drifts(shares: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    controller = BudgetController(shares, QUANTILES, costs=COSTS)
    wanted = sum(s * c for s, c in zip(shares, COSTS))
    spent: list[float] = []
    for shift, spread in ((0, 1), (3, 0.2), (-2, 2), (0, 1)):
        spent += [COSTS[controller.step(score)] for score in rng.normal(shift, spread, 400)]
        assert np.mean(spent) == pytest.approx(wanted, abs=0.03 * (COSTS[0] - COSTS[-1]))
    state = controller.state
    assert state.images == 1600 == sum(state.counts) and state.rate == pytest.approx(controller.target, abs=0.02)
    fixed = [COSTS[step_of(s, thresholds_for(shares, QUANTILES))] for s in rng.normal(3, 0.2, 400)]
    assert abs(np.mean(fixed) - wanted) > 0.5, "without it this stream would cost something else"


def test_held_shares_stay_near_the_asked_ones_on_content_like_the_calibration() -> None:
    controller = BudgetController((0.2, 0.3, 0.3, 0.2), QUANTILES, costs=COSTS)
    for score in np.random.default_rng(1).normal(size=3000):
        controller.step(score)
    assert np.allclose(np.array(controller.state.counts) / 3000, (0.2, 0.3, 0.3, 0.2), atol=0.04)


def test_several_sizes_need_their_costs() -> None:
    with pytest.raises(DualResError, match="holding 3 sizes needs what an image costs"):
        BudgetController((0.3, 0.3, 0.4), QUANTILES)
