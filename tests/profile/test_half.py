"""Half precision: the passes compute in it, the router does not, and a profile of it is not mixed with another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.sources import iter_source
from dualres_plugin.hosts.half import half_passes, in_full
from dualres_plugin.hosts.registry import load_detector
from dualres_plugin.profile.build import ProfileSettings, build_profile
from dualres_plugin.profile.data.dataset import load_dataset
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.gate import Gate
from tests.fakes import FakeAdapter, FakeBatch
from tests.predicting_case import make_router, predictor
from tests.profile.helpers import SETTINGS, build
from tests.shared import require_shared

HALF = replace(SETTINGS, half="bf16")


class Watched(FakeAdapter):
    """Notes in what its passes compute."""

    def predict(self, batch: FakeBatch) -> Any:
        self.__dict__.setdefault("seen", set()).add(torch.is_autocast_enabled("cpu"))
        with in_full():  # its arrays are NumPy's, which has no bf16
            return super().predict(batch)


@pytest.mark.parametrize("half", [None, "bf16"])
def test_the_passes_compute_in_half_and_the_router_does_not(
    half: str | None, data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Watched()
    made = build(data, tmp_path / "profile", host, replace(SETTINGS, half=half))
    assert host.__dict__["seen"] == {half is not None} and made.meta.get("half") == half
    seen = []
    plain = Gate.__call__
    monkeypatch.setattr(Gate, "__call__", lambda *a: (seen.append(torch.is_autocast_enabled("cpu")), plain(*a))[1])
    host = Watched()
    routed = predictor(make_router(), host)
    routed.half = half
    assert len(list(routed.stream(iter_source(data[1])))) and set(seen) == {False}
    assert host.__dict__["seen"] == {half is not None}


def test_profiles_in_half_and_without_are_not_mixed(data: tuple[Path, Path], tmp_path: Path) -> None:
    build(data, tmp_path / "half", settings=HALF)
    build(data, tmp_path / "plain")
    for folder, settings in (("half", SETTINGS), ("plain", HALF)):
        with pytest.raises(DualResError, match=r"other settings \(half"):
            build(data, tmp_path / folder, settings=settings)


def test_what_cannot_be_computed() -> None:
    module = torch.nn.Linear(1, 1)
    with pytest.raises(DualResError, match="known are fp16 and bf16"):
        half_passes("int8", module)
    with pytest.raises(DualResError, match="needs a GPU"):
        half_passes("fp16", module)
    with half_passes("bf16", module), in_full():
        assert module(torch.ones(1, 1)).dtype == torch.float32


@pytest.mark.shared
def test_a_real_detector_in_half_finds_the_same(tmp_path: Path) -> None:
    folder, weights = require_shared("data", "coco_mini"), require_shared("weights", "yolo11n.pt")
    dataset = load_dataset(folder / "annotations" / "instances_val2017.json", folder / "images" / "val2017")
    dataset.records = dataset.records[:4]
    for name, half in (("plain", None), ("half", "bf16")):
        adapter = load_detector(f"ultralytics:{weights}")
        build_profile(adapter, dataset, tmp_path / name, ProfileSettings(320, 0.5, half=half), progress=False)
    plain, made = (Profile.load(tmp_path / name) for name in ("plain", "half"))
    for row in range(4):
        a, b = (p.detections("high", row) for p in (plain, made))
        assert b.boxes.dtype == np.float32 and abs(a.scores[0] - b.scores[0]) < 0.05
        side = max(plain.column("width")[row], plain.column("height")[row])
        assert np.abs(a.boxes[0] - b.boxes[0]).max() < 0.03 * side
    assert np.isfinite(made.column("loss_high")).all()
    assert np.abs(made.column("loss_high") / plain.column("loss_high") - 1).max() < 0.1
