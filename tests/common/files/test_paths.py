"""Names in files: what may be opened through them, and what of a path is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.paths import base_names, inside, shareable


@pytest.mark.parametrize("name", ["a.jpg", "sub/a.jpg", "./a.jpg", "..a.jpg", "a..jpg"])
def test_names_inside(name: str, tmp_path: Path) -> None:
    assert inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a.jpg", "a/../../b", "a/../b", "C:\\a.jpg", "\\\\host\\a", "a\\..\\..\\b", ".."]
)
def test_names_that_lead_out(name: str, tmp_path: Path) -> None:
    with pytest.raises(DualResError, match=r"coco\.json names .* outside .*--allow-outside"):
        inside(tmp_path, name, "coco.json")
    assert inside(tmp_path, name, allow_outside=True) == tmp_path / name


@pytest.mark.parametrize("name", ["", " ", "a\0b"])
def test_names_that_cannot_be(name: str, tmp_path: Path) -> None:
    with pytest.raises(DualResError, match="cannot be"):
        inside(tmp_path, name, allow_outside=True)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("yolo11n.pt", "yolo11n.pt"),
        ("/home/me/my models/yolo11n.pt", "yolo11n.pt"),
        ("detector:/home/me/yolo11n.pt", "detector:yolo11n.pt"),
        ("mmdet:/home/me/c.py,/data/w.pth", "mmdet:c.py,w.pth"),
        ("detector:torchvision:ssd300_vgg16,weights=/data/w.pth", "detector:torchvision:ssd300_vgg16,weights=w.pth"),
        ("ultralytics:C:\\me\\yolo.pt", "ultralytics:yolo.pt"),
        ("mobilenet_v3_large@4", "mobilenet_v3_large@4"),
    ],
)
def test_a_detectors_words_without_folders(spec: str, told: str) -> None:
    assert base_names(spec) == told


def test_a_relative_path_is_told_as_it_is() -> None:
    assert shareable("runs/a") == "runs/a" and shareable("/home/me/runs/a") == "a"
