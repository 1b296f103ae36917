"""What a router is compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.baselines import bootstrap_auc, cascade_uncertainty, fixed_size_curve
from dualres_plugin.evaluate.evaluation import evaluate, summary
from dualres_plugin.profile.coco_ap import MixedAP
from dualres_plugin.profile.table import Profile
from tests.evaluate.helpers import N, bright_router, quick
from tests.fakes import brightness, planted_profile


def test_a_cascade_pays_low_always_and_high_on_top(profile: Profile) -> None:
    result = quick(profile, brightness(profile))
    (cascade,) = (c for c in result.others if c.name == "cascade")
    assert np.allclose(cascade.gmacs, 1.0 + cascade.beta * 4.0)
    assert (cascade.ap[0], cascade.ap[-1]) == (result.ap_low, result.ap_high)
    counts = [len(profile.detections("low", r)) for r in profile.originals]
    assert np.allclose(cascade_uncertainty(profile, profile.originals), 0.16 * np.array(counts), atol=1e-5)


def test_the_interval_holds_most_resamples_and_narrows_with_more_images(
    tmp_path: Path, profile: Profile, mixed: MixedAP
) -> None:
    rng = np.random.default_rng
    few = bootstrap_auc(mixed, brightness(profile), 60, rng(0))
    large = planted_profile(tmp_path / "large", 4 * N, seed=3)
    many = bootstrap_auc(MixedAP(large), brightness(large), 60, rng(0))
    assert many[1] - many[0] < few[1] - few[0]
    assert np.isnan(bootstrap_auc(mixed, brightness(profile), 0, rng(0))).all()


def test_sizes_in_between_make_a_curve(profile: Profile) -> None:
    """The same planted images, profiled as if at sizes in between."""
    table = profile.table
    for name, value in (("gmacs_low", 0.4), ("gmacs_high", 0.7)):
        at = table.schema.get_field_index(name)
        low, high = profile.gmacs
        column = np.full(len(profile), low + value * (high - low), np.float32)
        table = table.set_column(at, table.schema.field(at), [column])
    between = Profile(dict(profile.meta), table, profile.path)
    result = quick(profile, brightness(profile))
    curve = fixed_size_curve(profile, [between])
    said = evaluate(profile, bright_router(), bootstrap=0, permutations=1, other_sizes=[between])
    assert "scaled down by us" in said.metrics()["notes"][-1] and "host's own imgsz" in summary(said)
    assert curve.name == "fixed size" and curve.beta == pytest.approx([0, 0.4, 0.7, 1], abs=1e-5)
    assert curve.ap == pytest.approx([result.ap_low, result.ap_low, result.ap_high, result.ap_high])


def test_a_profile_of_something_else_is_no_size_in_between(profile: Profile) -> None:
    other = Profile({**profile.meta, "detector": "other.pt"}, profile.table, profile.path)
    with pytest.raises(DualResError, match=r"is a profile of other\.pt on 40 images"):
        fixed_size_curve(profile, [other])
    fewer = Profile(profile.meta, profile.table.slice(1), profile.path)
    with pytest.raises(DualResError, match="on 39 images, not of"):
        fixed_size_curve(profile, [fewer])


def test_a_namesake_with_other_weights_is_no_size_in_between(profile: Profile) -> None:
    ours, theirs = ({**profile.meta, "detector_fingerprint": mark} for mark in ("0" * 16, "f" * 16))
    own = Profile(ours, profile.table, profile.path)
    with pytest.raises(DualResError, match=r"has other weights than that of"):
        fixed_size_curve(own, [Profile(theirs, profile.table, profile.path)])
    unknown = Profile({**ours, "detector_fingerprint": ""}, profile.table, profile.path)
    assert fixed_size_curve(own, [unknown]).name == fixed_size_curve(own, [own]).name == "fixed size"
