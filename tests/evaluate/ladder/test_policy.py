"""From scores to sizes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dualres_plugin.evaluate.ladder.policy import LadderPolicy

COST = np.array([4.0, 2.5, 1.0])


def planted(seed: int = 0, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and quality at three sizes: the higher the score, the more each size gains."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n)
    rank = scores.argsort().argsort() / n
    gain = np.stack([0.4 * rank, 0.3 * rank, 0 * rank], axis=1)
    return scores, gain + rng.normal(0, 0.05, (n, 1))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), price=st.floats(0, 1))
def test_thresholds_are_the_choice(seed: int, price: float) -> None:
    scores, quality = planted(seed)
    policy = LadderPolicy.fit(scores, quality, COST)
    steps = policy.thresholds(price)
    assert steps[0][1] == -np.inf and [limit for _, limit in steps] == sorted(limit for _, limit in steps)
    by_threshold = np.zeros(len(scores), dtype=int)
    for number, limit in steps:
        by_threshold[scores > limit] = number
    np.testing.assert_array_equal(by_threshold, policy.choose(scores, price))


@given(first=st.floats(0, 1), second=st.floats(0, 1))
def test_a_higher_price_never_costs_more(first: float, second: float) -> None:
    scores, quality = planted()
    policy = LadderPolicy.fit(scores, quality, COST)
    cheap, dear = (COST[policy.choose(scores, price)].mean() for price in sorted((first, second)))
    assert dear <= cheap


def test_two_sizes_are_one_threshold() -> None:
    scores, quality = planted()
    policy = LadderPolicy.fit(scores, quality[:, [0, 2]], COST[[0, 2]])
    route = policy.choose(scores, 0.06)
    cut = np.sort(scores[route == 0])[0]
    assert set(route) == {0, 1} and ((scores >= cut) == (route == 0)).all()


def test_a_size_that_is_never_best_is_not_chosen() -> None:
    scores, quality = planted()
    quality[:, 1] = quality[:, 2]  # costs more than the smallest, and gains nothing
    policy = LadderPolicy.fit(scores, quality, COST)
    assert policy.best_sizes(0.05, 2) == (0, 2)
    assert 1 not in policy.choose(scores, 0.05)


def test_images_without_objects_say_nothing() -> None:
    scores, quality = planted()
    holes = np.concatenate([quality, np.full((5, 3), np.nan)])
    policy = LadderPolicy.fit(np.concatenate([scores, np.full(5, 9.0)]), holes, COST)
    assert np.isfinite(policy.level).all() and policy.slope[0] > 0.3


def test_three_sizes_are_two_thresholds() -> None:
    """Where the first pixels are worth most, the size in between has its stretch of the score."""
    scores = np.linspace(0, 1, 200)
    gain = np.stack([0.6 * scores, 0.1 + 0.3 * scores, 0 * scores], axis=1)
    policy = LadderPolicy.fit(scores, gain, COST)
    assert policy.best_sizes(0.1, 3) == (0, 1, 2)
    assert [number for number, _ in policy.thresholds(0.1)] == [2, 1, 0]


def test_a_larger_size_is_never_that_of_the_lower_scores() -> None:
    """No thresholds could choose it."""
    scores = np.linspace(0, 1, 200)
    gain = np.stack([0.5 - 0.3 * scores, 0.3 + 0 * scores, 0.4 * scores], axis=1)
    policy = LadderPolicy.fit(scores, gain, COST)
    for price in (0.0, 0.02, 0.05, 0.1):
        assert len(policy.best_sizes(price, 3)) == 1
