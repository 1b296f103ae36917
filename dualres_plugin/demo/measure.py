"""COCO AP of the demo's detector on generated scenes."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torchvision.models.detection import FCOS
from tqdm.auto import tqdm

from dualres_plugin.demo.detector import HIGH_SIZE
from dualres_plugin.demo.scenes import Scene, coco_dataset


def set_size(model: FCOS, size: int) -> None:
    """Make the model scale the long side of its pictures.

    Args:
        model: changed in place.
        size: long side in pixels.
    """
    model.transform.min_size = (size,)
    model.transform.max_size = size


def to_tensor(image: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    """A picture as torchvision's detectors take it.

    Args:
        image: (H, W, 3) uint8 RGB.

    Returns:
        (3, H, W) float32 in [0, 1].
    """
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255


@torch.inference_mode()
def detect(model: FCOS, scenes: Sequence[Scene], size: int, batch: int = 8) -> list[dict[str, Tensor]]:
    """Run the detector at one size.

    Args:
        model: the detector, in evaluation mode.
        scenes: what to look at.
        size: long side in pixels.
        batch: pictures per pass.

    Returns:
        torchvision's dict for each scene, boxes in the scene's own pixels.
    """
    set_size(model, size)
    found: list[dict[str, Tensor]] = []
    for start in tqdm(range(0, len(scenes), batch), desc=f"testing at {size}", leave=False):
        found += model([to_tensor(scene.image) for scene in scenes[start : start + batch]])
    set_size(model, HIGH_SIZE)
    return found


def coco_eval(scenes: Sequence[Scene], found: Sequence[dict[str, Tensor]]) -> COCOeval:
    """COCO's box evaluation.

    Args:
        scenes: the truth.
        found: torchvision's dict for each scene.

    Returns:
        The evaluation, accumulated and summarised: `.stats[0]` is AP, `.evalImgs` are per image.
    """
    rows = []
    for image_id, result in enumerate(found, 1):
        boxes = result["boxes"].clone()
        boxes[:, 2:] -= boxes[:, :2]
        numbers = torch.cat([boxes, result["scores"][:, None], result["labels"][:, None].float()], 1)
        rows.append(torch.cat([torch.full((len(numbers), 1), float(image_id)), numbers], 1))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = coco_dataset(scenes)
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(torch.cat(rows).double().numpy()), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


def average_precision(model: FCOS, scenes: Sequence[Scene], size: int) -> float:
    """COCO AP (IoU 0.50 to 0.95) of the detector at one size.

    Args:
        model: the detector, in evaluation mode.
        scenes: images with labels.
        size: long side in pixels.

    Returns:
        AP in [0, 1].
    """
    return float(coco_eval(scenes, detect(model, scenes, size)).stats[0])
