"""Torchvision's detectors by name, their weights and their classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dualres_plugin.adapters.torchvision.adapter import TorchvisionAdapter
from dualres_plugin.adapters.torchvision.models import build_model
from dualres_plugin.common.errors import DualResError
from dualres_plugin.hosts.registry import load_detector
from tests.contract.hosts import torchvision_model


@pytest.mark.parametrize(
    "name",
    [
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        "retinanet_resnet50_fpn",
        "fcos_resnet50_fpn",
        "ssdlite320_mobilenet_v3_large",
        "maskrcnn_resnet50_fpn",
    ],
)
def test_classes_of_coco_models_are_named(name: str) -> None:
    from torchvision.models import get_model

    with torch.device("meta"):  # names need no weights
        adapter = TorchvisionAdapter(get_model(name, weights=None, weights_backbone=None))
    assert adapter.class_names and adapter.class_names[1] == "person" and adapter.class_names[90] == "toothbrush"
    assert len(adapter.class_names) == 80 and 0 not in adapter.class_names
    with torch.device("meta"):
        other = TorchvisionAdapter(get_model(name, weights=None, weights_backbone=None, num_classes=4))
    assert other.class_names is None and other.label_ids == [1, 2, 3]


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_from_a_local_file(suffix: str, tmp_path: Path) -> None:
    detector = torchvision_model("ssdlite320_mobilenet_v3_large")
    path = tmp_path / f"w.{suffix}"
    if suffix == "pth":
        torch.save({"model": detector.state_dict()}, path)
    else:
        from safetensors.torch import save_file

        save_file(detector.state_dict(), path)
    adapter = load_detector(f"torchvision:ssdlite320_mobilenet_v3_large,weights={path},num_classes=4")
    assert all(torch.equal(v, detector.state_dict()[k]) for k, v in adapter.detector.state_dict().items())
    with pytest.raises(DualResError, match=r"do not fit this model"):
        build_model("ssdlite320_mobilenet_v3_large", weights=str(path), num_classes="7")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DualResError, match=r"w\..* (do not fit|cannot)"):
        build_model("ssdlite320_mobilenet_v3_large", weights=str(path), num_classes="4")


def test_nothing_is_downloaded_without_being_asked(tmp_path: Path) -> None:
    with pytest.raises(DualResError, match="weights=DEFAULT"):
        build_model("retinanet_resnet50_fpn")


def test_weights_that_cannot_be_downloaded_are_one_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from urllib.error import URLError

    def refuse(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # nothing is there from before
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(DualResError, match=r"cannot be downloaded .*Name or service not known.*,weights=FILE\.pth"):
        build_model("ssdlite320_mobilenet_v3_large", weights="DEFAULT")
