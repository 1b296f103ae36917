"""The advice: a ladder where it helps, one size where it does not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.ladder.advise import advise
from dualres_plugin.evaluate.ladder.budget import read_budget, read_times
from dualres_plugin.evaluate.ladder.difference import Difference
from dualres_plugin.evaluate.ladder.frontier import Measured, cross_fitted, fixed_sizes, prices_of, routed_sizes
from dualres_plugin.evaluate.ladder.paired import draw
from dualres_plugin.evaluate.ladder.steps import Step
from dualres_plugin.profile.table import Profile
from tests.evaluate.helpers import bright_router
from tests.fakes import brightness, planted_ladder

NONE = Difference(0, 0, 0)


def test_routing_is_advised_where_it_helps(tmp_path: Path) -> None:
    found = advise(planted_ladder(tmp_path / "p", 160), bright_router(), bootstrap=60)
    assert found.route and len(found.choice.thresholds) == len(found.choice.sizes) - 1
    assert found.over_range.low > 0 and "prove" not in found.sentence
    assert found.choice.cost < 4.0 and found.saved == pytest.approx(1 - found.choice.cost / 4)
    assert found.sentence.startswith(f"route {found.choice.command} (") and sum(found.choice.shares) == pytest.approx(1)
    assert json.loads(json.dumps(found.to_dict()))["sentence"] == found.sentence
    sizes = ["two sizes", "three sizes", "four sizes"]
    assert list(found.frontiers) == ["one size (host)", "one size (high frame scaled)", *sizes] and not found.ways


def test_what_is_advised_costs_and_gives_what_it_says(tmp_path: Path) -> None:
    """The two sizes and the threshold, run on other photos of the same kind."""
    router = bright_router()
    found = advise(planted_ladder(tmp_path / "p", 160), router, bootstrap=10)
    other = Measured.of(planted_ladder(tmp_path / "other", 400, seed=5))
    bright = brightness(Profile.load(tmp_path / "other"))
    below = sum((bright <= limit).astype(int) for limit in found.choice.thresholds)
    route = np.array([other.sizes.index(size) for size in found.choice.sizes])[below]
    assert other.mixed.ap(route) == pytest.approx(found.choice.ap, abs=0.03)
    assert other.cost[np.arange(400), route].mean() + router.gmacs() == pytest.approx(found.choice.cost, abs=0.3)
    assert np.bincount(below, minlength=len(found.choice.sizes)) / 400 == pytest.approx(found.choice.shares, abs=0.15)


def test_a_router_that_ranks_backwards_is_not_advised(tmp_path: Path) -> None:
    profile = planted_ladder(tmp_path / "p", 160)
    router = bright_router()
    with torch.no_grad():
        router.head[0].weight.neg_()
    found = advise(profile, router, bootstrap=20)
    assert not found.route


def test_one_size_is_advised_where_all_photos_are_alike(tmp_path: Path) -> None:
    found = advise(planted_ladder(tmp_path / "p", 160, useful=False), bright_router(), bootstrap=60)
    assert not found.route and len(found.choice.sizes) == 1
    assert "routing adds nothing that 160 photos can show" in found.sentence and "\n" not in found.sentence


def test_a_budget_is_kept(tmp_path: Path) -> None:
    profile = planted_ladder(tmp_path / "p", 160)
    for budget in (1.5, 2.2, 3.5):
        assert advise(profile, bright_router(), budget=budget, bootstrap=10).choice.cost <= budget
    with pytest.raises(DualResError, match="below the smallest size"):
        advise(profile, bright_router(), budget=0.5, bootstrap=10)


def test_no_photo_chooses_its_own_size(tmp_path: Path) -> None:
    """Other labels on one photo change the sizes of others, never its own."""
    profile = planted_ladder(tmp_path / "p", 60)
    measured, none = Measured.of(profile), np.zeros((0, 60), dtype=np.float32)
    routes = []
    for gain in (0, 50):
        measured.quality[7] = [gain, 0, 0, 0]
        parts = cross_fitted(measured, brightness(profile), 3)
        prices = [np.array([price]) for price in (0.03, 0.06, 0.12)]
        routes.append([routed_sizes(measured, parts, brightness(profile), 0, none, p).routes[0] for p in prices])
    before, after = np.array(routes)
    assert (before[:, 7] == after[:, 7]).all() and (before != after).any()


def test_fixed_sizes_are_the_better_of_the_hosts_and_ours(tmp_path: Path) -> None:
    measured = Measured.of(planted_ladder(tmp_path / "p", 60))
    draws = draw(60, 4, np.random.default_rng(0))
    ours, host, best = (fixed_sizes(measured, draws, kind) for kind in (False, True, None))
    assert len(host.ap) == 3 and len(ours.ap) == len(best.ap) == 4
    assert best.ap[1] == ours.ap[1] > host.ap[0]  # 448 px: the host finds one object less
    np.testing.assert_allclose(best.mean_cost, [1.0, 2.0, 2.6, 4.0], rtol=1e-6)


def test_the_order_of_scores_is_all_that_matters(tmp_path: Path) -> None:
    profile = planted_ladder(tmp_path / "p", 60)
    measured, none = Measured.of(profile), np.zeros((0, 60), dtype=np.float32)
    bright = brightness(profile)
    first, second = (
        routed_sizes(measured, cross_fitted(measured, s, 3), s, 0.0, none, prices_of(measured))
        for s in (bright, np.exp(bright / 100))
    )
    np.testing.assert_array_equal(first.routes, second.routes)


# -- what chooses, and what may be spent ------------------------------------------------------------------------


def test_other_photos_choose(tmp_path: Path) -> None:
    """Labels of the photos that give the figures change no size and no threshold."""
    train, val = planted_ladder(tmp_path / "train", 160), planted_ladder(tmp_path / "val", 120, seed=4)
    dull = planted_ladder(tmp_path / "dull", 120, seed=4, useful=False)
    here = [advise(p, bright_router(), choose_on=train, budget=2.5, bootstrap=20) for p in (val, dull)]
    assert here[0].chosen_on == 160 and here[0].n == 120
    steps = [step for found in here for step in [found.choice] if len(step.sizes) > 1]
    assert steps and len({(*step.sizes, *step.thresholds) for step in steps}) == 1
    assert here[0].choice.ap != here[1].choice.ap


def test_other_photos_must_be_of_the_same_detector_and_sizes(tmp_path: Path) -> None:
    other = planted_ladder(tmp_path / "other", 20)
    other.meta["detector"] = "another"
    with pytest.raises(DualResError, match="same detector and"):
        advise(planted_ladder(tmp_path / "p", 20), bright_router(), choose_on=other, bootstrap=4)


def test_without_labels_it_says_what_to_do(tmp_path: Path) -> None:
    profile = planted_ladder(tmp_path / "p", 20)
    profile.meta["labelled"] = False
    with pytest.raises(DualResError, match=r"no labels.*--data"):
        advise(profile, bright_router(), bootstrap=4)


def test_costs_can_be_milliseconds(tmp_path: Path) -> None:
    profile = planted_ladder(tmp_path / "p", 120)
    low = profile.passes[-1].size
    times: dict[int | str, float] = {640: 40.0, 512: 30.0, 448: 25.0, low: 12.0, "router": 1.0}
    found = advise(profile, bright_router(), times=times, budget=28, bootstrap=10)
    assert found.unit == "ms" and 12 <= found.choice.cost <= 28
    assert found.saved == pytest.approx(1 - found.choice.cost / 40)
    del times["router"]
    with pytest.raises(DualResError, match="times lack router"):
        advise(profile, bright_router(), times=times, bootstrap=10)


def test_the_options_that_run_a_ladder() -> None:
    step = Step([640, 512, 448], [0.31, -0.2], [0.2, 0.5, 0.3], 1.5, 0.4, NONE, NONE)
    assert step.command == "--sizes 640,512,448 --thresholds 0.3100,-0.2000"
    two = Step([640, 448], [0.31], [0.2, 0.8], 1.5, 0.4, NONE, NONE)
    assert two.command == "--high 640 --low 448 --threshold 0.3100"


def test_everything_that_can_be_run_has_falling_sizes_and_thresholds(tmp_path: Path) -> None:
    found = advise(planted_ladder(tmp_path / "p", 120), bright_router(), bootstrap=20, every=True)
    assert list(found.ways) == ["one size", "two sizes", "three sizes", "four sizes"]
    for steps in found.ways.values():
        for step in steps:
            assert step.sizes == sorted(step.sizes, reverse=True) and sum(step.shares) == pytest.approx(1)
            assert step.thresholds == sorted(step.thresholds, reverse=True)
            assert len(step.thresholds) == len(step.sizes) - 1
    assert all(step.against_fixed.mean == 0 for step in found.ways["one size"])


def test_folds_do_not_cut_through_groups(tmp_path: Path) -> None:
    measured, groups = Measured.of(planted_ladder(tmp_path / "p", 40)), np.repeat(np.arange(10), 4)
    parts = cross_fitted(measured, np.arange(40.0), 2, groups=groups)
    assert len(parts) == 5 and sum(part.here.sum() for part in parts) == 40
    assert all(len({*part.here[groups == k]}) == 1 for part in parts for k in range(10))


@pytest.mark.parametrize(
    ("text", "budget"),
    [("1.6", (1.6, "GMACs")), ("1.6gmacs", (1.6, "GMACs")), (" 40 ms", (40.0, "ms")), ("2GMac", (2.0, "GMACs"))],
)
def test_budgets(text: str, budget: tuple[float, str]) -> None:
    assert read_budget(text) == budget


@pytest.mark.parametrize("text", ["", "-1", "0", "40s", "ms", "1,6", "1e999"])
def test_budgets_that_are_none(text: str) -> None:
    with pytest.raises(DualResError, match="--budget"):
        read_budget(text)


def test_times_are_read(tmp_path: Path) -> None:
    file = tmp_path / "times.csv"
    file.write_text("size,ms\n640,40.5\n320,12\nrouter,1\n")
    assert read_times(file) == {640: 40.5, 320: 12.0, "router": 1.0}
    benched = "case,photo,step_where_mixed,ms\nplain_640,0,0,40\nplain_640,1,0,42\nplain_640,2,0,90\nrouter,0,0,1.5\n"
    file.write_text(benched + "cond_640,0,0,9\nrouter_network,0,0,1\nlean_640,0,0,8\neager_plain_640,0,0,70\n")
    assert read_times(file) == {640: 42.0, "router": 1.5}, "medians of what bench measured"
    for text, message in (("size,ms\n640,fast\n", "line 2"), ("a,b\n1,2\n", "line 2"), ("size,ms\n640,-1\n", "ms")):
        file.write_text(text)
        with pytest.raises(DualResError, match=message):
            read_times(file)
    with pytest.raises(DualResError, match="cannot be read"):
        read_times(tmp_path / "none.csv")
