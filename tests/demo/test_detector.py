"""The demo's detector: the weights in the package load, fit, are small, and really detect."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.models.detection import FCOS

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import read_json
from dualres_plugin.demo.detector import (
    HIGH_SIZE,
    LOW_SIZE,
    WEIGHTS_PATH,
    build_demo_detector,
    load_weights,
    save_weights,
)
from dualres_plugin.demo.measure import average_precision, to_tensor
from dualres_plugin.demo.scenes import CLASSES, Scene


def test_trained_weights_detect_and_random_ones_do_not(model: FCOS, scenes: list[Scene]) -> None:
    assert average_precision(model, scenes, HIGH_SIZE) > 0.4
    torch.manual_seed(0)
    untrained = build_demo_detector(pretrained=False)
    assert average_precision(untrained, scenes[:8], HIGH_SIZE) < 0.02


def test_high_resolution_pays(model: FCOS, scenes: list[Scene]) -> None:
    high = average_precision(model, scenes, HIGH_SIZE)
    assert high - average_precision(model, scenes, LOW_SIZE) > 0.05
    assert model.transform.min_size == (HIGH_SIZE,) and model.transform.max_size == HIGH_SIZE


def test_output_is_torchvisions(model: FCOS, scenes: list[Scene]) -> None:
    assert isinstance(model, FCOS) and not model.training
    images = [to_tensor(scene.image) for scene in scenes[:2]]
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
