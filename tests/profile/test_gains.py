"""Gains, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.types import Detections
from dualres_plugin.profile.gains import GAINS, NEEDS_LABELS, compute_gain, iou_matrix
from dualres_plugin.profile.table import Profile
from tests.fakes import make_profile, truth

A, B = (10.0, 10.0, 60.0, 60.0), (100.0, 100.0, 150.0, 150.0)


def found(*rows: tuple[tuple[float, ...], float, int]) -> Detections:
    return Detections.from_arrays([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    two = truth([(*A, 1, False), (*B, 2, False)])
    both = found((A, 0.9, 1), (B, 0.8, 2))
    return make_profile(
        tmp_path,
        [
            {"truth": two, "high": both, "low": found((A, 0.9, 1)), "losses": (3.0, 1.0)},  # low misses one
            {"truth": two, "high": both, "low": both, "losses": (2.0, 2.0)},  # the same
            {"truth": two, "high": found((A, 0.9, 1)), "low": both, "losses": (1.5, 2.0)},  # low is better
            {"truth": truth([]), "high": found((A, 0.9, 1)), "low": Detections.empty()},  # nothing to find
            {"truth": two, "high": both, "low": found((A, 0.9, 2), (B, 0.8, 2))},  # low names one wrongly
            {"truth": truth([(*A, 1, True)]), "high": both, "low": both},  # a crowd alone
        ],
    )


def test_loss_is_low_minus_high(profile: Profile) -> None:
    assert compute_gain("loss", profile).tolist() == [2.0, 0.0, -0.5, 1.0, 1.0, 1.0]


def test_ap_is_the_difference_of_the_images_own_ap(profile: Profile) -> None:
    gain = compute_gain("ap", profile)
    assert gain[:3].tolist() == [0.5, 0.0, -0.5]
    assert gain[4] > 0
    assert np.isnan(gain[[3, 5]]).all(), "without objects it says nothing"


def test_objects_weigh_by_the_root_of_their_number(profile: Profile) -> None:
    expected = compute_gain("ap", profile) * np.sqrt([2, 2, 2, 0, 2, 0])
    assert np.allclose(compute_gain("ap_objects", profile), expected, equal_nan=True)


def test_matched_counts_what_each_object_costs(profile: Profile) -> None:
    gain = compute_gain("matched", profile)
    hit, miss = -np.log(0.8), -np.log(1e-3) + 1
    assert gain[0] == pytest.approx((miss - hit) / 2, rel=1e-5)
    assert gain[1] == 0 and gain[2] == pytest.approx(-gain[0])
    assert gain[3] == 0 and gain[5] == 0
    assert gain[4] == pytest.approx((miss + np.log(0.9)) / 2, rel=1e-5), "another class is no match"


def test_agreement_is_what_low_does_not_find_again(profile: Profile) -> None:
    gain = compute_gain("agreement", profile)
    assert gain[0] == pytest.approx(0.8 / np.sqrt(1.7), rel=1e-5)
    assert gain[1] == pytest.approx(0, abs=1e-6)
    assert gain[2] == pytest.approx(0, abs=1e-6)
    assert gain[3] == pytest.approx(0.9 / np.sqrt(0.9), rel=1e-5)
    assert gain[4] == pytest.approx(0.9 / np.sqrt(1.7), rel=1e-5)


def test_unsure_detections_are_no_pseudo_objects(tmp_path: Path) -> None:
    profile = make_profile(tmp_path, [{"high": found((A, 0.1, 1)), "low": Detections.empty()}], labelled=False)
    assert compute_gain("agreement", profile)[0] == 0
    assert compute_gain("score_mass", profile)[0] == pytest.approx(0.1)


def test_rows_can_be_chosen(profile: Profile) -> None:
    for name in GAINS:
        rows = np.array([2, 0])
        assert np.allclose(compute_gain(name, profile, rows), compute_gain(name, profile)[rows], equal_nan=True)


def test_labels_are_asked_for_where_they_are_needed(tmp_path: Path) -> None:
    profile = make_profile(tmp_path, [{"high": found((A, 0.9, 1))}], labelled=False)
    for name in GAINS:
        if name in NEEDS_LABELS:
            with pytest.raises(DualResError, match=f"'{name}' needs labels"):
                compute_gain(name, profile)
        else:
            assert np.isfinite(compute_gain(name, profile)).all()
    with pytest.raises(DualResError, match="unknown gain 'luck'; known: loss, ap"):
        compute_gain("luck", profile)


def test_iou() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 3]], float)
    overlap = iou_matrix(boxes, boxes)
    assert np.allclose(np.diag(overlap), [1, 1, 1, 0])
    assert overlap[0, 1] == pytest.approx(50 / 150) and overlap[0, 2] == 0
    assert iou_matrix(boxes[:0], boxes).shape == (0, 4)
