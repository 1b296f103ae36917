"""Ranks and their correlation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualres_plugin.train.ranks import ranked, spearman


@given(st.lists(st.one_of(st.integers(-5, 5).map(float), st.just(float("nan"))), max_size=40))
def test_ranked_keeps_order_ties_and_gaps(values: list[float]) -> None:
    given_values = np.array(values, float)
    made = ranked(given_values)
    assert np.array_equal(np.isnan(made), np.isnan(given_values))
    known = ~np.isnan(given_values)
    a, b = given_values[known], made[known]
    assert np.array_equal(np.sign(a[:, None] - a[None]), np.sign(np.round(b[:, None] - b[None], 9)))
    if known.any():
        assert np.isfinite(b).all()


def test_spearman_equals_scipy_where_it_is_there() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 6, 30).astype(float), rng.integers(0, 6, 30).astype(float)
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert spearman(np.ones(5), np.arange(5.0)) == 0
