"""Sweeps over operating points, and the curves that they make."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualres_plugin.evaluate.curve import Curve, descending, sweep
from dualres_plugin.profile.coco_ap import MixedAP
from tests.evaluate.helpers import N


def test_a_sweep_runs_from_all_low_to_all_high_through_the_top_k(mixed: MixedAP) -> None:
    order = np.random.default_rng(0).permutation(N)
    beta, ap = sweep(mixed, order)
    assert np.allclose(beta, np.arange(N + 1) / N), "40 images have 41 operating points"
    assert (ap[0], ap[-1]) == mixed.ends()
    for k in (1, 7, 20, 39):
        high = np.zeros(N, bool)
        high[order[:k]] = True
        assert ap[k] == pytest.approx(mixed.ap(high), abs=1e-12)


@pytest.mark.parametrize("points", [2, 5, 21, 101])
def test_points_are_spread_evenly(points: int, mixed: MixedAP) -> None:
    beta, ap = sweep(mixed, np.arange(N), points)
    assert len(beta) == len(ap) == min(points, N + 1)
    assert beta[0] == 0 and beta[-1] == 1
    assert (np.diff(beta) > 0).all()
    assert np.abs(beta - np.linspace(0, 1, len(beta))).max() <= 0.5 / N + 1e-9


def test_weights_are_repetitions(mixed: MixedAP) -> None:
    rng = np.random.default_rng(1)
    weights = rng.integers(0, 3, N).astype(float)
    beta, ap = sweep(mixed, np.arange(N), 11, weights)
    assert beta[0] == 0 and beta[-1] == 1
    assert (ap[0], ap[-1]) == mixed.ends(weights)
    assert np.allclose(beta * weights.sum(), np.round(beta * weights.sum()))


def test_scores_in_order_nan_last() -> None:
    assert descending(np.array([0.5, np.nan, 2.0, -np.inf, 0.5])).tolist()[:3] == [2, 0, 4]
    assert set(descending(np.array([np.nan, 1.0, np.nan]))[1:]) == {0, 2}


@settings(max_examples=15)
@given(st.integers(0, 1000), st.floats(0.01, 50), st.floats(-5, 5))
def test_only_the_order_of_the_scores_matters(mixed: MixedAP, seed: int, factor: float, shift: float) -> None:
    scores = np.random.default_rng(seed).normal(size=N)
    curves = [
        sweep(mixed, descending(s), 11) for s in (scores, factor * scores + shift, np.argsort(np.argsort(scores)))
    ]
    assert all(np.array_equal(curves[0][1], ap) for _, ap in curves)


def test_a_curve_between_its_points() -> None:
    curve = Curve("x", np.array([0.0, 0.5, 1.0]), np.array([1.0, 2.0, 3.0]), np.array([0.2, 0.4, 0.5]))
    assert curve.ap_at(1.5) == pytest.approx(0.3) and curve.ap_at(9) == 0.5
    assert curve.points()[1] == {"beta": 0.5, "gmacs": 2.0, "ap": 0.4}
