"""Training the demo's detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import read_json
from dualres_plugin.demo import train_detector as training
from dualres_plugin.demo.detector import (
    build_demo_detector,
    load_weights,
)
from dualres_plugin.demo.scenes import Scene


def test_augmentation_moves_boxes_with_the_pixels() -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    image[30:50, 200:280] = 200
    scene = Scene(image, np.array([[200, 30, 280, 50]], np.float32), np.array([2]))
    rng = np.random.default_rng(0)
    for upright in (False, True) * 6:
        moved, target = training.augment(scene, upright, rng)
        assert (moved.shape[1] > moved.shape[2]) == upright
        rows, columns = torch.nonzero(moved.amax((0, 2)))[:, 0], torch.nonzero(moved.amax((0, 1)))[:, 0]
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert target["boxes"][0].tolist() == [float(value) for value in box]
        assert target["labels"].tolist() == [2]


def test_an_epoch_uses_every_scene_at_most_once(scenes: list[Scene]) -> None:
    drawn = list(training.batches(scenes, np.random.default_rng(0)))
    assert len(drawn) == training.count_batches(scenes) > 0
    assert all(len(images) == len(targets) == training.BATCH for images, targets in drawn)
    for images, _ in drawn:
        assert len({image.shape for image in images}) == 1


def test_one_training_writes_weights_that_load(tmp_path: Path) -> None:
    training.make_detector(tmp_path, 1, 2 * training.BATCH, 0, sizes={96: 1.0}, test_scenes=4)
    report = read_json(tmp_path / "detector.json")
    assert "--epochs 1" in report["trained_by"] and 0 <= report["ap_low"] <= 1
    load_weights(build_demo_detector(pretrained=False), tmp_path / "detector.safetensors")


def test_impossible_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DualResError, match="at least 1 epoch"):
        training.main(["--epochs", "0", "--out", str(tmp_path)])


def test_the_average_follows_the_weights_ever_more_slowly() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = AveragedModel(model, multi_avg_fn=training._follow)
    expected = None
    for step in range(1, 40):
        torch.nn.init.constant_(model.weight, float(step))
        average.update_parameters(model)
        decay = step / (step + 10)
        expected = float(step) if expected is None else decay * expected + (1 - decay) * step
        assert float(average.module.weight) == pytest.approx(expected)
