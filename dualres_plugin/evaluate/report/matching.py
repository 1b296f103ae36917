"""Which boxes of one image are right: what the pictures of a report colour. AP itself comes from coco_ap."""

from __future__ import annotations

import numpy as np

from dualres_plugin.common.types import Detections, Targets
from dualres_plugin.profile.gains import iou_matrix

WRONG, RIGHT, NEUTRAL = 0, 1, 2
IOU = 0.5  # the mildest of COCO's thresholds


def judge(found: Detections, targets: Targets) -> tuple[np.ndarray, np.ndarray]:
    """Match detections to objects of the same class, highest score first, at IoU 0.5.

    Args:
        found: D detections, highest score first.
        targets: T objects.

    Returns:
        (D,) WRONG, RIGHT or NEUTRAL (inside a crowd region, which counts neither way), and (T,) bool, True for
        the objects that were found.
    """
    verdicts = np.full(len(found), WRONG)
    seen = np.zeros(len(targets), dtype=bool)
    if not len(found) or not len(targets):
        return verdicts, seen
    overlap = iou_matrix(found.boxes, targets.boxes)
    same = found.labels[:, None] == targets.labels[None]
    inside = _share_inside(found.boxes, targets.boxes)
    for d in range(len(found)):
        free = same[d] & ~targets.ignore & ~seen
        best = int(np.argmax(np.where(free, overlap[d], -1.0)))
        if free[best] and overlap[d, best] >= IOU:
            verdicts[d], seen[best] = RIGHT, True
        elif np.any(same[d] & targets.ignore & (inside[d] >= IOU)):
            verdicts[d] = NEUTRAL
    return verdicts, seen


def _share_inside(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, M) share of each box of `a` that lies in each box of `b`: COCO's overlap with crowd regions."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = np.prod(np.clip(bottom_right - top_left, 0, None), axis=2)
    share: np.ndarray = inter / np.maximum(np.prod(a[:, 2:] - a[:, :2], axis=1), 1e-9)[:, None]
    return share
