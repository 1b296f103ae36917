"""What makes an evaluation worthless is said first, everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dualres_plugin.evaluate.caution import cautions
from dualres_plugin.evaluate.evaluation import evaluate, summary
from dualres_plugin.evaluate.report.write import write_evaluation
from dualres_plugin.profile.overlap import image_sketch, share_seen
from dualres_plugin.profile.table import Profile
from tests.evaluate.helpers import bright_router
from tests.fakes import planted_profile


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return planted_profile(tmp_path_factory.mktemp("other") / "p", 40, seed=7)


def test_evaluating_on_the_training_images_cannot_be_overlooked(profile: Profile, tmp_path: Path) -> None:
    router = bright_router()
    router.info = {"trained_on": [{"images": image_sketch(profile)}], "warnings": ["trained on <b>2</b> images"]}
    result = evaluate(profile, router, bootstrap=5, permutations=2)
    assert summary(result).startswith("WARNING: this router was trained on these images (100% of its training images")
    write_evaluation(tmp_path / "out", result, profile, title="t", run={}, gallery=0)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert len(metrics["warnings"]) == 2 and "too good" in metrics["warnings"][0]
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.index('class="alarm" role="alert"') < page.index('<p class="lead">')
    assert "trained on these images" in page and "trained on &lt;b&gt;2&lt;/b&gt; images" in page


def test_other_images_are_no_reason_to_worry(profile: Profile, other: Profile) -> None:
    assert cautions({"trained_on": [{"images": image_sketch(other), "dataset_fingerprint": "b"}]}, profile) == []
    for info in ({}, {"trained_on": None}, {"trained_on": [5, {}]}, {"trained_on": [{"images": ""}], "warnings": "x"}):
        assert cautions(info, profile) == []


def test_some_images_in_common(profile: Profile, other: Profile) -> None:
    mixed = Profile(other.meta, other.table.slice(0, 30), other.path)
    assert share_seen(image_sketch(other), mixed) == pytest.approx(0.75)
    (said,) = cautions({"trained_on": [{"images": image_sketch(other)}]}, mixed)
    assert "some of these images (75% of" in said


def test_the_same_data_set_by_its_fingerprint(profile: Profile) -> None:
    here = Profile({**profile.meta, "dataset_fingerprint": "abc"}, profile.table, profile.path)
    assert cautions({"trained_on": [{"dataset_fingerprint": "abc"}]}, here)
    assert not cautions({"trained_on": [{"dataset_fingerprint": ""}]}, profile)


def test_notes_of_the_profile_are_passed_on(profile: Profile) -> None:
    noted = Profile({**profile.meta, "notes": ["classes by order"]}, profile.table, profile.path)
    assert cautions({}, noted) == ["classes by order"]


def test_views_of_an_image_do_not_count(tmp_path: Path) -> None:
    many = planted_profile(tmp_path / "many", 300, views=2)
    assert len(image_sketch(many).split()) == 256 and share_seen(image_sketch(many), many) == 1
