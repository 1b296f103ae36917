"""Which images the page holds, and what it knows of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualres_plugin.evaluate.report import gallery as gallery_module
from dualres_plugin.evaluate.report.gallery import Ranked, build_gallery, choose, costliest
from dualres_plugin.profile.table import Profile
from tests.evaluate.report.helpers import ranked_of

gains = st.lists(st.one_of(st.floats(-1, 1), st.just(float("nan"))), min_size=1, max_size=60)


@given(gains, st.integers(0, 60), st.integers(1, 8))
def test_costliest_are_the_largest_gains_at_low(values: list[float], at_high: int, shown: int) -> None:
    found = costliest(np.array(values), at_high, shown)
    left = sorted((v for v in values[at_high:] if v > 0), reverse=True)
    assert [values[rank] for rank in found] == left[:shown]
    assert all(rank >= at_high for rank in found)


@given(gains, st.integers(1, 8), st.integers(1, 40))
def test_whatever_the_budget_the_costliest_images_are_in_the_page(values: list[float], shown: int, limit: int) -> None:
    ranked, counts = ranked_of(values), range(len(values) + 1)
    chosen = choose(ranked, counts, shown, limit)
    assert len(chosen) == len(set(chosen)) and set(chosen) <= set(range(len(values)))
    needed = {rank for count in counts for rank in costliest(ranked.gain, count, shown)}
    needed |= {*range(len(values))[:shown], *range(len(values))[-shown:]}
    assert needed <= set(chosen)
    assert len(chosen) <= max(limit, len(needed))
    if limit >= len(values):
        assert len(chosen) == len(values)


def test_pictures_stop_at_their_limit_of_bytes(profile: Profile) -> None:
    rows = profile.originals
    ranked = Ranked(rows, np.linspace(1, 0, len(rows)), np.zeros(len(rows)), np.zeros(len(rows)))
    whole, _ = build_gallery(profile, ranked, [0], 2)
    part, _ = build_gallery(profile, ranked, [0], 2, max_bytes=60_000)
    assert len(whole) == 30 and 0 < len(part) < 30
    assert sum(len(json.dumps(entry)) for entry in part) < 70_000


@given(st.integers(8, 300), st.integers(8, 300))
def test_a_choice_that_is_cut_short_is_still_spread(n: int, limit: int) -> None:
    chosen = choose(ranked_of([0.0] * n), [0], 1, limit)
    assert len(chosen) == min(n, limit)
    half = sorted(chosen[: len(chosen) // 2 + 1])
    assert max(np.diff([-1, *half, n])) <= 4 * n / len(half) + 1


def test_boxes_lie_on_the_grid_of_the_picture(profile: Profile) -> None:
    rows = profile.originals
    ranked = Ranked(rows, np.linspace(1, 0, len(rows)), np.zeros(len(rows)), np.zeros(len(rows)))
    entry = build_gallery(profile, ranked, [0], 2)[0][0]
    targets, high = profile.targets(int(rows[0])), profile.detections("high", int(rows[0]))
    assert max(entry["w"], entry["h"]) == gallery_module.GRID and entry["n"] == "photo_0000.jpg"
    objects = np.array(entry["t"]).reshape(-1, 7)
    assert objects[:, :4] == pytest.approx(targets.boxes * 2.5, abs=0.5)  # 400 px -> 1000
    found = np.array(entry["hi"]).reshape(-1, 7)
    assert found[:, :4] == pytest.approx(high.boxes * 2.5, abs=0.5)
    assert found[:, 5] == pytest.approx(100 * high.scores, abs=0.5)
    assert found[:, 6].sum() == objects[:, 6].sum()  # as many right boxes as found objects
