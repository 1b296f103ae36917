"""From a profile and scores to a curve, its AUC-Policy, baselines and intervals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.auc_policy import auc_policy
from dualres_plugin.evaluate.evaluation import evaluate, evaluate_scores, summary
from dualres_plugin.profile.coco_ap import MixedAP
from dualres_plugin.profile.table import Profile
from tests.evaluate.helpers import N, bright_router, quick
from tests.fakes import brightness, planted_profile

# -- AUC-Policy -----------------------------------------------------------------------------------------------


def test_knowing_the_gain_beats_random_beats_its_opposite(profile: Profile) -> None:
    good = quick(profile, brightness(profile))
    bad = quick(profile, -brightness(profile))
    assert good.router.auc_policy > 0.65
    assert bad.router.auc_policy < 0.35
    assert 0.4 < good.random_auc < 0.6
    assert good.oracle.auc_policy == pytest.approx(good.router.auc_policy, abs=0.03)
    assert good.ci95[0] < good.router.auc_policy < good.ci95[1]
    assert good.random_auc == bad.random_auc and good.oracle.auc_policy == bad.oracle.auc_policy


def test_the_routers_own_cost_moves_the_curve_but_not_its_area(profile: Profile) -> None:
    cheap = evaluate_scores(profile, brightness(profile), 0.0, bootstrap=1, permutations=1)
    dear = evaluate_scores(profile, brightness(profile), 0.5, bootstrap=1, permutations=1)
    assert np.allclose(dear.router.gmacs, cheap.router.gmacs + 0.5)
    assert dear.router.auc_policy == pytest.approx(cheap.router.auc_policy)
    assert cheap.router.gmacs[0] == 1.0 and cheap.router.gmacs[-1] == 4.0
    assert cheap.router.auc_policy == pytest.approx(auc_policy(cheap.router.beta, cheap.router.ap))


def test_the_summary_calls_added_compute_by_its_name(profile: Profile) -> None:
    result = quick(profile, brightness(profile))
    result.routed["gmacs"] = 1.03 * result.high_gmacs
    assert "(3% more than high)" in summary(result) and "saved" not in summary(result)
    result.routed["gmacs"] = 0.63 * result.high_gmacs
    assert "(37% less than high)" in summary(result)


def test_the_same_seed_gives_the_same_numbers(profile: Profile) -> None:
    scores = np.random.default_rng(5).normal(size=N)
    a, b, c = (quick(profile, scores, seed).metrics() for seed in (0, 0, 1))
    assert a == b
    assert a["points"] == c["points"] and a["auc_policy_ci95"] != c["auc_policy_ci95"]


def test_no_difference_between_high_and_low_is_an_error(tmp_path: Path) -> None:
    profile = planted_profile(tmp_path / "p", 6)
    same = profile.table
    for name in ("boxes", "scores", "categories"):
        i = same.schema.get_field_index(f"low_{name}")
        same = same.set_column(i, f"low_{name}", same.column(f"high_{name}"))
    with pytest.raises(DualResError, match=r"same|equal"):
        quick(Profile(profile.meta, same, profile.path), np.arange(6.0))


def test_a_detector_that_finds_nothing_is_an_error(tmp_path: Path) -> None:
    profile = planted_profile(tmp_path / "p", 6)
    lost = profile.table
    for size in ("low", "high"):
        i = lost.schema.get_field_index(f"{size}_categories")
        column = [[label + 50 for label in labels] for labels in lost.column(i).to_pylist()]
        lost = lost.set_column(i, lost.schema.field(i), pa.array(column, lost.schema.field(i).type))
    with pytest.raises(DualResError, match=r"AP is 0 at both sizes.*Do the classes of the labels belong"):
        quick(Profile(profile.meta, lost, profile.path), np.arange(6.0))


def test_metrics_hold_what_is_documented_and_are_json(profile: Profile) -> None:
    metrics = quick(profile, brightness(profile)).metrics()
    wanted = {"auc_policy", "auc_policy_ci95", "ap_low", "ap_high", "ap_routed", "n_images", "router_gmacs"}
    wanted |= {"low_gmacs", "high_gmacs", "points", "random", "oracle"}
    assert wanted <= metrics.keys()
    assert metrics["n_images"] == N and metrics["low_gmacs"] == 1.0 and metrics["high_gmacs"] == 4.0
    assert metrics["points"][0].keys() == {"beta", "gmacs", "ap"}
    assert len(metrics["points"]) == N + 1
    assert json.loads(json.dumps(metrics)) == metrics
    assert any("40 images are few" in note for note in metrics["notes"])


# -- a router ---------------------------------------------------------------------------------------------------


def test_the_operating_point_is_the_calibrated_one(profile: Profile) -> None:
    router = bright_router()
    router.calibrate(brightness(profile))
    result = evaluate(profile, router, bootstrap=5, permutations=2)
    assert result.routed["beta"] == pytest.approx(0.5, abs=0.03)
    high = brightness(profile) > router.threshold_for(0.5)
    assert result.metrics()["ap_routed"] == pytest.approx(MixedAP(profile).ap(high))
    expected = result.router_gmacs + 1.0 + result.routed["beta"] * 3.0
    assert result.routed["gmacs"] == pytest.approx(expected)
    fewer = evaluate(profile, router, target_high_rate=0.2, bootstrap=5, permutations=2)
    assert fewer.routed["target_high_rate"] == 0.2
    assert fewer.routed["beta"] == pytest.approx(0.2, abs=0.03)
    router.quantiles = []
    assert evaluate(profile, router, bootstrap=5, permutations=2).routed["beta"] == 0.5
