"""The budget controller: exact in the long run, quick after a change, honest about drift."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualres_plugin.budget.controller import BudgetController
from dualres_plugin.common.errors import DualResError

QUANTILES = np.quantile(np.random.default_rng(0).normal(size=2000), np.linspace(0, 1, 101)).tolist()


@settings(max_examples=30, deadline=None)
@given(rate=st.floats(0.05, 0.95), shifts=st.lists(st.floats(-4, 4), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_holds_the_rate_over_abrupt_changes(rate: float, shifts: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    controller = BudgetController(rate, QUANTILES)
    for shift in shifts:
        for score in rng.normal(shift, rng.uniform(0.2, 3), size=200):
            controller.route(score)
        assert abs(controller.state.rate - rate) < 0.03
    assert abs(controller.state.recent_rate - rate) < 0.12


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["above", "below", "saw", "same", "steps", "huge"])
def test_holds_the_rate_against_an_adversary(rate: float, kind: str) -> None:
    """Scores made to miss it: by one who sees the threshold, in cycles as long as the window, or all the same."""
    controller = BudgetController(rate, QUANTILES)
    high = 0
    for i in range(1500):
        seen = float(np.clip(controller.threshold, -100, 100))
        score = {
            "above": seen + 1e-6,
            "below": seen - 1e-6,
            "saw": (i % 32) / 8 - 2,
            "same": 0.5,
            "steps": 3.0 if i // 64 % 2 else -3.0,
            "huge": (-1.0) ** i * 1e30,
        }[kind]
        high += controller.route(score)
    assert abs(high / 1500 - rate) < 0.03


def test_a_fixed_threshold_would_fail_the_same_stream() -> None:
    rng = np.random.default_rng(1)
    controller = BudgetController(0.3, QUANTILES)
    scores = np.concatenate([rng.normal(0, 1, 200), rng.normal(2, 1, 200)])
    fixed = np.quantile(QUANTILES, 0.7)
    routes = [controller.route(s) for s in scores]
    assert np.mean(scores > fixed) > 0.45
    assert abs(np.mean(routes) - 0.3) < 0.03


def test_prefers_the_images_with_higher_scores() -> None:
    rng = np.random.default_rng(2)
    controller = BudgetController(0.5, QUANTILES)
    scores = rng.normal(size=500)
    routes = np.array([controller.route(s) for s in scores])
    assert scores[routes].mean() - scores[~routes].mean() > 1.2


def test_warns_once_when_the_content_drifts(caplog: pytest.LogCaptureFixture) -> None:
    controller = BudgetController(0.3, QUANTILES)
    with caplog.at_level(logging.WARNING, "dualres"):
        for score in np.random.default_rng(3).normal(size=200):
            controller.route(score)
        assert not caplog.records
        for score in np.random.default_rng(4).normal(3, 1, size=200):
            controller.route(score)
    assert len(caplog.records) == 1
    assert "drift" in caplog.text
    assert controller.state.drifting


def test_ends_are_exact() -> None:
    for rate in (0.0, 1.0):
        controller = BudgetController(rate, QUANTILES)
        assert {controller.route(s) for s in np.random.default_rng(5).normal(size=50)} == {bool(rate)}


def test_latency_becomes_a_rate() -> None:
    controller = BudgetController.for_latency(30.0, router_ms=1.0, low_ms=10.0, high_ms=48.0, quantiles=QUANTILES)
    assert controller.target == pytest.approx((30 - 11) / 38)
    with pytest.raises(DualResError, match="below the cheapest point"):
        BudgetController.for_latency(5.0, 1.0, 10.0, 48.0, QUANTILES)


def test_needs_a_calibration() -> None:
    with pytest.raises(DualResError, match="calibrated"):
        BudgetController(0.3, [])


def test_settings_that_cannot_be() -> None:
    for options in ({"window": 0}, {"window": -1}, {"window": 2.5}, {"band": 0.0}, {"band": float("nan")}):
        with pytest.raises(DualResError, match=next(iter(options))):
            BudgetController(0.5, [0.0, 1.0], **options)
    with pytest.raises(DualResError, match="NaN"):
        BudgetController(0.5, [0.0, 1.0]).route(float("nan"))


def test_skipped_images_leave_their_share_to_the_others_but_not_for_ever() -> None:
    controller = BudgetController(0.5, QUANTILES)
    for _ in range(1000):
        controller.skip(-0.3)
    assert controller.state.rate == pytest.approx(-0.3)
    routes = [controller.route(s) for s in np.random.default_rng(0).normal(size=400)]
    assert np.mean(routes[:32]) > 0.9, "what is owed comes first"
    assert np.mean(routes[-200:]) == pytest.approx(0.5, abs=0.1), "and is paid back in a minute, not in an hour"
    with pytest.raises(DualResError, match="skipped image"):
        controller.skip(float("nan"))


def test_it_goes_on_where_it_was_saved() -> None:
    scores = np.random.default_rng(1).normal(1, 2, size=300)
    whole, first, second = (BudgetController(0.3, QUANTILES) for _ in range(3))
    expected = [whole.route(s) for s in scores]
    before = [first.route(s) for s in scores[:130]]
    second.resume(json.loads(json.dumps(first.saved())))
    assert before + [second.route(s) for s in scores[130:]] == expected
    assert second.state == whole.state


@pytest.mark.parametrize("change", [{"scores": [0.0]}, {"counts": [1]}, {"spent": float("nan")}, {"images": "many"}])
def test_what_is_no_saved_state_is_refused(change: dict[str, object]) -> None:
    controller = BudgetController(0.3, QUANTILES)
    with pytest.raises(DualResError, match="saved state"):
        controller.resume({**controller.saved(), **change})


def test_a_stream_of_scenes_is_not_warned_of_scene_by_scene(caplog: pytest.LogCaptureFixture) -> None:
    """Each scene alone is far from the target, all together are on it."""
    rng = np.random.default_rng(0)
    scores = [rng.normal(level, 0.1) for level in rng.permutation(np.resize([-2, -1, -0.5, 1], 40)) for _ in range(100)]
    counts = []
    for watch in (None, 3000):
        caplog.clear()
        controller = BudgetController(0.25, QUANTILES, watch=watch)
        for score in scores:
            controller.route(score)
        counts.append(len(caplog.records))
    assert counts[0] >= 5 and counts[1] == 0
