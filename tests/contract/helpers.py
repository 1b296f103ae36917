"""Batches, labels and comparisons that the contract's cases share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from dualres_plugin.common.types import Detections, Targets
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.profile.gains import iou_matrix
from tests.contract.hosts import Host, pictures

SCALE = 0.5


def labels_of(adapter: HostAdapter[Any]) -> list[int]:
    return sorted(adapter.class_names) if adapter.class_names else list(adapter.label_ids or [])


def targets_for(adapter: HostAdapter[Any], images: list[np.ndarray]) -> list[Targets]:
    known = labels_of(adapter)
    made = []
    for i, image in enumerate(images):
        h, w = image.shape[:2]
        boxes = np.array([[w * 0.1, h * 0.2, w * 0.6, h * 0.9], [w * 0.5, h * 0.1, w * 0.95, h * 0.6]], np.float32)
        made.append(Targets(boxes[: 1 + i % 2], np.array([known[i % len(known)], known[0]])[: 1 + i % 2]))
    return made


def collate(adapter: HostAdapter[Any], host: Host, images: list[np.ndarray] | None = None, labels: bool = True) -> Any:
    images = pictures() if images is None else images
    return adapter.collate(images, host.size, targets_for(adapter, images) if labels else None)


def everything(count: int) -> torch.Tensor:
    return torch.arange(count)


def same(a: Detections, b: Detections, tolerance: float = 2e-3) -> bool:
    """Equal up to rounding; detections of nearly equal score may swap places."""
    if len(a) != len(b) or not np.allclose(a.scores, b.scores, atol=1e-4):
        return False
    overlap = iou_matrix(a.boxes, b.boxes) * (a.labels[:, None] == b.labels[None])
    close = np.abs(a.boxes[:, None] - b.boxes[None]).max(axis=2) < tolerance * max(1.0, float(np.abs(a.boxes).max()))
    return bool(((overlap > 0.99) | close).any(axis=1).mean() > 0.98)
