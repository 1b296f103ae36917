"""Training on a ready profile: it learns what is planted, the same way every time, and reports what it did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.scoring import score_profile
from dualres_plugin.profile.table import Profile
from dualres_plugin.train.objectives import make_objective
from dualres_plugin.train.train import _warnings, split_rows
from dualres_plugin.train.training_set import training_set
from tests.fakes import make_profile, planted_profile
from tests.train.helpers import QUICK, order, train


def test_the_same_seed_gives_the_same_router_another_does_not(profile: Profile) -> None:
    a, b = train(profile).state_dict(), train(profile).state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    c = train(profile, replace(QUICK, seed=1)).state_dict()
    assert not all(torch.equal(a[k], c[k]) for k in a)


def test_it_is_calibrated_on_held_out_images(profile: Profile, unseen: Profile) -> None:
    router = train(profile)
    assert router.info["calibrated_on"] == "24 held-out images"
    scores = score_profile(router, unseen)
    for rate in (0.25, 0.5, 0.75):
        assert abs(float((scores > router.threshold_for(rate)).mean()) - rate) < 0.2
    everything = train(profile, replace(QUICK, holdout=0.0))
    assert everything.info["calibrated_on"] == "the training images"


def test_views_of_an_image_stay_on_one_side_of_the_split(tmp_path: Path) -> None:
    profile = planted_profile(tmp_path / "p", 30, views=4)
    data = training_set([profile], "auto", 16)
    fit, held = split_rows(data, make_objective("rank", QUICK), QUICK)
    assert len(held) == 6 * 4 and len(fit) == 24 * 4
    assert not set(data.group[fit]) & set(data.group[held])


def test_what_it_was_trained_on_is_written_down(profile: Profile) -> None:
    info = train(profile).info
    assert info["gain"] == "ap_objects" and info["rows"] == 120 and info["images"] == 120
    assert info["trained_on"][0]["detector"] == "fake" and info["trained_on"][0]["high"] == 640
    assert info["config"]["epochs"] == 4


def test_without_labels_it_learns_agreement(tmp_path: Path, profile: Profile, unseen: Profile) -> None:
    blind = Profile({**profile.meta, "labelled": False}, profile.table, profile.path)
    router = train(blind)
    assert router.info["gain"] == "agreement" and order(router, unseen) > 0.9


@pytest.mark.parametrize("count", [2, 3, 6, 12])
def test_few_images_still_train(count: int, tmp_path: Path) -> None:
    router = train(planted_profile(tmp_path / "p", count))
    assert len(router.quantiles) == 101
    correlation = router.info["metrics"]["holdout_spearman"]
    assert correlation is None or np.isnan(correlation) or -1 <= correlation <= 1


def test_thumbnails_that_are_too_small(profile: Profile) -> None:
    with pytest.raises(DualResError, match="input_size 64 is larger than the profile's 16 px"):
        train(profile, replace(QUICK, input_size=64))


def test_an_unknown_gain(profile: Profile) -> None:
    with pytest.raises(DualResError, match="unknown gain 'luck'"):
        train(profile, replace(QUICK, gain="luck"))


def test_a_profile_without_any_object_teaches_nothing(tmp_path: Path) -> None:
    with pytest.raises(DualResError, match="no image of the profile has a gain"):
        train(make_profile(tmp_path / "p", [{} for _ in range(8)]))


def test_a_training_that_cannot_teach_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    few = train(planted_profile(tmp_path / "few", 3))
    assert few.info["warnings"] == ["the router was trained on 3 images only: its scores mean little."]
    assert few.info["warnings"][0] in caplog.text
    same = planted_profile(tmp_path / "same", 30)
    table = same.table
    for which in ("high", "low"):
        for part in ("boxes", "scores", "categories"):
            name = f"{which}_{part}"
            column = same.table.column(f"high_{part}").take([0] * 30)
            table = table.set_column(table.schema.get_field_index(name), name, column)
    router = train(Profile(same.meta, table, same.path))
    assert "all training images have the same gain" in router.info["warnings"][0]


def test_a_router_remembers_what_it_was_trained_on(profile: Profile) -> None:
    router = train(profile)
    assert router.info["warnings"] == [] and len(router.info["trained_on"][0]["images"].split()) > 20


def test_a_router_that_is_worse_than_chance_on_held_out_images_says_so(profile: Profile) -> None:
    data = training_set([profile], "auto", 16)
    assert _warnings(data, 0.1) == _warnings(data, None) == []
    (warning,) = _warnings(data, -0.2)
    assert "correlated the wrong way (-0.20)" in warning
