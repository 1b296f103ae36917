"""Share at high <-> threshold: monotone, each other's inverse, exact at the ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualres_plugin.budget.calibration import POINTS, check_rate, rate_of, score_at, score_quantiles, threshold_for
from dualres_plugin.common.errors import DualResError

rates = st.floats(0, 1)
scores = st.lists(st.floats(-50, 50), min_size=1, max_size=200)
INF = float("inf")


def spread(count: int, seed: int) -> np.ndarray:
    """Scores without ties, as a router gives them."""
    return np.random.default_rng(seed).normal(size=count)


@given(scores)
def test_quantiles_rise_from_the_least_score_to_the_largest(values: list[float]) -> None:
    quantiles = score_quantiles(values)
    assert len(quantiles) == POINTS and (quantiles[0], quantiles[-1]) == (min(values), max(values))
    assert (np.diff(quantiles) >= 0).all()
    assert quantiles == score_quantiles(np.random.default_rng(0).permutation(values)), "in any order"


@given(scores, rates, rates)
def test_more_at_high_never_has_a_higher_threshold(values: list[float], a: float, b: float) -> None:
    less, more = sorted((a, b))
    assert threshold_for(less, score_quantiles(values)) >= threshold_for(more, score_quantiles(values))


@given(scores, st.floats(-60, 60), st.floats(-60, 60))
def test_a_higher_threshold_never_sends_more_high(values: list[float], a: float, b: float) -> None:
    lower, higher = sorted((a, b))
    quantiles = score_quantiles(values)
    assert 0 <= rate_of(higher, quantiles) <= rate_of(lower, quantiles) <= 1


@given(st.integers(20, 300), st.integers(0, 50), rates)
def test_the_two_are_each_others_inverse(count: int, seed: int, rate: float) -> None:
    quantiles = score_quantiles(spread(count, seed))
    assert rate_of(threshold_for(rate, quantiles), quantiles) == pytest.approx(rate, abs=1e-6)


@given(st.integers(20, 300), st.integers(0, 50), rates)
def test_the_images_themselves_have_the_rate_within_a_step_of_the_quantiles(count: int, seed: int, rate: float) -> None:
    values = spread(count, seed)
    got = float((values > threshold_for(rate, score_quantiles(values))).mean())
    assert abs(got - rate) <= 1 / count + 1 / (POINTS - 1)


@given(scores)
def test_the_ends_are_exact_even_beyond_the_calibration_images(values: list[float]) -> None:
    for quantiles in (score_quantiles(values), []):
        assert (threshold_for(0, quantiles), threshold_for(1, quantiles)) == (INF, -INF)
        assert (rate_of(INF, quantiles), rate_of(-INF, quantiles)) == (0.0, 1.0)


def test_between_two_quantiles_it_is_linear() -> None:
    quantiles = [0.0, 10.0, 20.0]  # a calibration may have any number of points
    assert score_at(np.array([0.0, 0.25, 0.5, 1.0]), quantiles).tolist() == [0.0, 5.0, 10.0, 20.0]
    assert threshold_for(0.75, quantiles) == 5.0 and rate_of(5.0, quantiles) == 0.75


@pytest.mark.parametrize("rate", [-1e-9, 1 + 1e-9, 50, float("nan"), INF, -INF, None, "0.5"])
def test_what_is_no_share_is_refused_with_its_value(rate: float) -> None:
    for refuse in (check_rate, lambda r: threshold_for(r, [0.0, 1.0]), lambda r: threshold_for(r, [])):
        with pytest.raises(DualResError, match=r" must lie between 0 \(all low\) and 1 \(all high\)") as error:
            refuse(rate)
        assert repr(rate) in str(error.value)


def test_a_rate_without_calibration_says_what_to_do() -> None:
    with pytest.raises(DualResError, match=r"no calibration.*dualres swap"):
        threshold_for(0.5, [])


@pytest.mark.parametrize("values", [[], [float("nan")], [0.0, INF]])
def test_a_calibration_needs_finite_scores(values: list[float]) -> None:
    with pytest.raises(DualResError, match="finite scores"):
        score_quantiles(values)
