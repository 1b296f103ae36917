"""Real YOLO weights and photos, and data files for Ultralytics."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.shared import ROOT, require_shared


def val_photos(count: int) -> list[Path]:
    """Photos of coco_mini's val split."""
    return sorted(require_shared("data", "coco_mini", "images", "val2017").iterdir())[:count]


def real_yolo() -> Any:
    from ultralytics import YOLO

    return YOLO(str(require_shared("weights", "yolo11n.pt")))


def random_yolo(config: str = "yolov8n.yaml", seed: int = 0) -> Any:
    from ultralytics import YOLO

    torch.manual_seed(seed)
    return YOLO(config, task="detect")


def small_coco(folder: Path, count: int) -> tuple[Path, Path]:
    """The first few val photos with their labels, as COCO: (annotation file, image folder)."""
    photos = val_photos(count)
    coco = json.loads(require_shared("data", "coco_mini", "annotations", "instances_val2017.json").read_text())
    names = {p.name for p in photos}
    images = [im for im in coco["images"] if im["file_name"] in names]
    kept = {im["id"] for im in images}
    coco.update(images=images, annotations=[a for a in coco["annotations"] if a["image_id"] in kept])
    for kind in ("annotations", "images/val"):
        (folder / kind).mkdir(parents=True)
    for photo in photos:
        shutil.copy(photo, folder / "images" / "val" / photo.name)
    file = folder / "annotations" / "instances_val.json"
    file.write_text(json.dumps(coco))
    return file, folder / "images" / "val"


def data_yaml(folder: Path, count: int) -> Path:
    """The same as an Ultralytics data file, written by the converter of the examples."""
    small_coco(folder / "coco", count)
    spec = importlib.util.spec_from_file_location("train_ultralytics", ROOT / "examples" / "train_ultralytics.py")
    assert spec and spec.loader
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    path: Path = example.coco_to_yolo(folder / "coco", folder / "yolo", {"train": "val", "val": "val"})
    return path


def video(path: Path, frames: int = 6) -> Path:
    """A camera that pans over a photo."""
    import cv2

    photo = cv2.imread(str(val_photos(1)[0]))
    h, w = photo.shape[0] - 60, photo.shape[1] - 60
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (w, h))
    for i in range(frames):
        writer.write(photo[5 * i : 5 * i + h, 5 * i : 5 * i + w])
    writer.release()
    return path


def rows(result: Any) -> np.ndarray:
    """(N, 6) boxes, scores and classes of a `Results`."""
    values: np.ndarray = result.boxes.data.cpu().numpy()
    return values
