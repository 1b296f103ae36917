"""The demo's detector: the weights in the package load, fit, are small, and really detect."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.detection import FCOS

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files import read_json
from dualres_plugin.demo import train_detector as training
from dualres_plugin.demo.detector import (
    HIGH_SIZE,
    LOW_SIZE,
    WEIGHTS_PATH,
    build_demo_detector,
    load_weights,
    save_weights,
)
from dualres_plugin.demo.scenes import CLASSES, Scene, generate_scenes


@pytest.fixture(scope="module")
def model() -> FCOS:
    return build_demo_detector()


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return list(generate_scenes(11, "unit-test", 24))


def test_trained_weights_detect_and_random_ones_do_not(model: FCOS, scenes: list[Scene]) -> None:
    assert training.average_precision(model, scenes, HIGH_SIZE) > 0.4
    torch.manual_seed(0)
    untrained = build_demo_detector(pretrained=False)
    assert training.average_precision(untrained, scenes[:8], HIGH_SIZE) < 0.02


def test_high_resolution_pays(model: FCOS, scenes: list[Scene]) -> None:
    high = training.average_precision(model, scenes, HIGH_SIZE)
    assert high - training.average_precision(model, scenes, LOW_SIZE) > 0.05
    assert model.transform.min_size == (HIGH_SIZE,) and model.transform.max_size == HIGH_SIZE


def test_output_is_torchvisions(model: FCOS, scenes: list[Scene]) -> None:
    assert isinstance(model, FCOS) and not model.training
    images = [training.to_tensor(scene.image) for scene in scenes[:2]]
    with torch.inference_mode():
        found = model(images)
    for image, result in zip(images, found):
        height, width = image.shape[1:]
        assert set(result) == {"boxes", "scores", "labels"} and 0 < len(result["boxes"]) <= 100
        assert result["boxes"].min() >= 0
        assert result["boxes"][:, 2].max() <= width and result["boxes"][:, 3].max() <= height
        assert result["labels"].min() >= 0 and result["labels"].max() <= len(CLASSES)


def test_weights_file_is_small_and_half_precision(tmp_path: Path, model: FCOS) -> None:
    assert WEIGHTS_PATH.stat().st_size <= 4_000_000
    assert all(value.dtype == torch.float32 for value in model.parameters())
    save_weights(model, tmp_path / "again.safetensors")  # half to single and back loses nothing
    assert (tmp_path / "again.safetensors").read_bytes() == WEIGHTS_PATH.read_bytes()


def test_report_beside_the_weights_matches_the_code(model: FCOS) -> None:
    report = read_json(WEIGHTS_PATH.with_suffix(".json"))
    assert report["classes"] == list(CLASSES)
    assert (report["high_size"], report["low_size"]) == (HIGH_SIZE, LOW_SIZE)
    assert report["parameters"] == sum(value.numel() for value in model.parameters())
    assert report["ap_high"] - report["ap_low"] > 0.05


def test_bad_weights_get_one_clear_error(tmp_path: Path, model: FCOS) -> None:
    target = build_demo_detector(pretrained=False)
    with pytest.raises(DualResError, match="do not exist"):
        load_weights(target, tmp_path / "absent.safetensors")
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes(WEIGHTS_PATH.read_bytes()[:1000])
    with pytest.raises(DualResError, match="cannot read"):
        load_weights(target, truncated)
    other = tmp_path / "other.safetensors"
    save_weights(torch.nn.Linear(2, 2), other)
    with pytest.raises(DualResError, match="do not fit"):
        load_weights(target, other)


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
