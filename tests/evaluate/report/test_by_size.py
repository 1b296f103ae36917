"""AP of small, medium and large objects."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dualres_plugin.evaluate.evaluation import Evaluation
from dualres_plugin.evaluate.report.by_size import ap_by_size
from dualres_plugin.evaluate.report.write import write_evaluation
from dualres_plugin.profile.coco_ap import MixedAP
from dualres_plugin.profile.table import Profile
from tests.report_case import build_profile, evaluate_case


def test_ends_by_size_are_the_plain_evaluations(profile: Profile, evaluation: Evaluation) -> None:
    for curve in ap_by_size(profile, evaluation.scores):
        assert (curve.ap[0], curve.ap[-1]) == pytest.approx(MixedAP(profile, area=curve.name).ends())
        assert curve.at(0.5) == pytest.approx(np.interp(0.5, curve.beta, curve.ap))


def test_a_size_without_objects_has_no_numbers(tmp_path: Path) -> None:
    profile = build_profile(tmp_path / "case", sides=(10, 30))  # nothing above 32 x 32
    write_evaluation(tmp_path, evaluate_case(profile, 0), profile, title="t", run={}, gallery=0)
    sizes = json.loads((tmp_path / "metrics.json").read_text())["by_size"]
    assert sizes["small"]["objects"] > 0 and sizes["small"]["ap_high"] > sizes["small"]["ap_low"]
    empty = {"objects": 0, "ap_low": None, "ap_high": None, "ap_routed": None, "points": []}
    assert sizes["medium"] == sizes["large"] == empty
