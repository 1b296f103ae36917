"""Paired resamples: equal to evaluating every draw anew, and intervals that hold what they promise."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dualres_plugin.common.types import Detections
from dualres_plugin.evaluate.ladder import paired
from dualres_plugin.evaluate.ladder.paired import PairedAP, draw, halves
from dualres_plugin.profile.coco_ap import Matches, MixedAP, Objects
from tests.fakes import planted_ladder
from tests.profile.random_images import profile_of, random_images

# A recall of 29 in 100 reaches COCO's point .29, or does not, as the last bit of a division falls.
ROUNDING = 2e-3
PASSES = ("high", "s512", "s448", "low")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> MixedAP:
    return MixedAP(planted_ladder(tmp_path_factory.mktemp("ladder") / "p", 41), passes=PASSES)


def test_a_draw_is_what_evaluating_it_anew_gives(mixed: MixedAP) -> None:
    rng = np.random.default_rng(0)
    routes = np.stack([*(np.full(mixed.n, k) for k in range(4)), *rng.integers(0, 4, (6, mixed.n))])
    draws = draw(mixed.n, 9, rng)
    assert draws.max() > 1  # repeats count
    exact = [[mixed.ap(route, weights) for weights in draws] for route in routes]
    wrong = np.abs(PairedAP(mixed, bins=10**6).resampled(routes, draws) - exact)
    assert wrong.max() <= 1 / 100 and wrong.mean() < 1e-3  # one of the recall points of this single category, rarely


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_also_for_odd_detections(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = np.random.default_rng(seed)
    images = random_images(seed, 12, ties=False)
    assume(any(not crowd for image in images for *_, crowd in image.objects))
    mixed = MixedAP(profile_of(tmp_path_factory.mktemp("odd") / "p", images))
    routes, draws = rng.integers(0, 2, (4, mixed.n)), draw(mixed.n, 3, rng)
    exact = np.array([[mixed.ap(route, weights) for weights in draws] for route in routes])
    np.testing.assert_allclose(PairedAP(mixed, bins=10**6).resampled(routes, draws), exact, atol=ROUNDING)


def test_few_cells_move_the_difference_little(mixed: MixedAP) -> None:
    rng = np.random.default_rng(1)
    routes, draws = np.stack([np.full(mixed.n, k) for k in range(4)]), draw(mixed.n, 50, rng)
    fine, coarse = (PairedAP(mixed, bins).resampled(routes, draws) for bins in (10**6, 64))
    assert np.abs((fine[0] - fine) - (coarse[0] - coarse)).max() < 0.01


def test_images_that_move_in_blocks_give_the_same(mixed: MixedAP, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    routes, draws = rng.integers(0, 4, (6, mixed.n)), draw(mixed.n, 5, rng)
    whole = PairedAP(mixed).resampled(routes, draws)
    monkeypatch.setattr(paired, "MOVED", 7)
    assert (PairedAP(mixed).resampled(routes, draws) == whole).all()


def test_a_detection_takes_few_bytes() -> None:
    """A data set of 120,000 images has more than a million of them."""
    rng, n, count = np.random.default_rng(0), 20_000, 200_000
    hit = rng.integers(0, 2**10, count, dtype=np.uint16)
    category = np.sort(rng.integers(0, 10, count, dtype=np.int32))
    score = -np.sort(-rng.random((10, count // 10), dtype=np.float32), axis=1).reshape(-1)
    images = np.arange(n, dtype=np.int32)
    held = Objects(np.arange(10), images % 10, images, np.ones(n, dtype=np.int32))
    source = rng.integers(0, 2, count, dtype=np.int8)
    matches = Matches(rng.choice(images, count), source, score, category, hit, ~hit & 1023, held, n)
    mixed: Any = SimpleNamespace(matches=matches, n=n, passes=("low", "high"))
    routes, draws = rng.integers(0, 2, (2, n)), draw(n, 2, rng)
    tracemalloc.start()
    PairedAP(mixed).resampled(routes, draws)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * count  # 480 when what a detection adds to each cell was held


def test_groups_are_drawn_whole() -> None:
    groups = np.repeat([5, 3, 9], [2, 3, 4])
    draws = draw(9, 20, np.random.default_rng(0), groups)
    for number in (5, 3, 9):
        part = draws[:, groups == number]
        assert (part == part[:, :1]).all()
    assert draws.std() > 0 and draw(9, 20, np.random.default_rng(0)).sum(axis=1).tolist() == [9.0] * 20


@pytest.mark.parametrize("groups", [None, np.repeat([5, 3, 9, 1], [2, 3, 1, 4])])
def test_halves_are_half_of_the_images_or_of_the_groups(groups: np.ndarray | None) -> None:
    drawn = halves(10, 400, np.random.default_rng(0), groups)
    assert set(np.unique(drawn)) == {0.0, 1.0}
    assert drawn.mean(axis=0) == pytest.approx(0.5, abs=0.1)  # every image is in half of them
    if groups is None:
        assert (drawn.sum(axis=1) == 5).all()
    else:
        assert all((drawn[:, groups == k] == drawn[:, groups == k][:, :1]).all() for k in groups)
    assert set(halves(5, 40, np.random.default_rng(0)).sum(axis=1)) == {2, 3}


def test_a_mean_has_its_standard_error() -> None:
    """Of a plain mean the spread of halves is the standard error."""
    values = np.random.default_rng(0).normal(size=200)
    drawn = halves(200, 4000, np.random.default_rng(1))
    spread = (drawn @ values / drawn.sum(axis=1)).std()
    assert spread == pytest.approx(values.std(ddof=1) / np.sqrt(200), rel=0.05)


def test_no_hit_at_all_is_an_ap_of_zero(tmp_path: Path) -> None:
    images = random_images(1, 6, ties=False)
    for image in images:
        image.high = image.low = Detections.empty()
    mixed = MixedAP(profile_of(tmp_path / "p", images))
    assert PairedAP(mixed).resampled(np.zeros((1, 6), int), np.ones((2, 6))).tolist() == [[0.0, 0.0]]


def test_intervals_hold_what_they_promise(tmp_path: Path) -> None:
    """95 % intervals of a difference, on samples of a population whose true difference is known."""
    population = MixedAP(planted_ladder(tmp_path / "p", 1500, seed=3), passes=PASSES)
    everything = np.arange(population.n)
    truth = population.ap(everything * 0) - population.ap(everything * 0 + 2)
    paired, rng, held, trials = PairedAP(population), np.random.default_rng(0), 0, 100
    both = np.stack([everything * 0, everything * 0 + 2])
    for _ in range(trials):
        sample = rng.choice(population.n, 100, replace=False)
        draws = np.zeros((1 + 120, population.n), dtype=np.float32)  # the whole sample, and halves of it
        draws[0, sample] = 1
        draws[1:, sample] = halves(100, 120, rng)
        exact, *differences = np.subtract(*paired.resampled(both, draws))
        low, high = exact + np.percentile(np.array(differences) - np.mean(differences), [2.5, 97.5])
        held += low <= truth <= high
    assert 0.90 <= held / trials <= 0.99
