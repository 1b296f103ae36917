"""Where boxes go from frame to frame: matched by overlap, moved at constant velocity.

Boxes are shares of the frame here, 0 to 1 across and down: overlap does not depend on the unit, and what is remembered
fits whatever size the frame has where it is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

MATCH_IOU = 0.3  # of a box and where it was expected
SMOOTHING = 0.5  # how much of a newly seen velocity is believed
THINNEST = 2e-3  # share of the frame: of a box that has almost left it


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of every pair of boxes, without torch.

    Args:
        a: (N, 4) xyxy.
        b: (M, 4) xyxy.

    Returns:
        (N, M) in [0, 1]; 0 where neither box has an area.
    """
    corner = np.maximum(a[:, None, :2], b[None, :, :2])
    size = np.clip(np.minimum(a[:, None, 2:], b[None, :, 2:]) - corner, 0, None)
    common = size[..., 0] * size[..., 1]
    area_a, area_b = ((x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (a, b))
    return np.asarray(common / np.maximum(area_a[:, None] + area_b[None] - common, 1e-9))


@dataclass(frozen=True)
class Objects:
    """The detections of one frame, with where they are going.

    Attributes:
        boxes: (N, 4) float32, xyxy as shares of the frame.
        scores: (N,) float32 in [0, 1], highest first.
        labels: (N,) int64.
        velocity: (N, 4) float32, of each edge, shares per frame.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    velocity: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def still(cls, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> Objects:
        """Detections of which no motion is known yet.

        Args:
            boxes: (N, 4) xyxy as shares of the frame.
            scores: (N,).
            labels: (N,).
        """
        edges = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
        return cls(edges, np.asarray(scores, np.float32), np.asarray(labels, np.int64), np.zeros_like(edges))

    def moved(self, frames: int) -> Objects:
        """Where they will be so many frames later, clipped to the frame; what has left it is gone."""
        boxes = (self.boxes + np.float32(frames) * self.velocity).clip(0, 1)
        inside = (boxes[:, 2:] - boxes[:, :2] >= THINNEST).all(axis=1)
        return Objects(boxes[inside], self.scores[inside], self.labels[inside], self.velocity[inside])

    def of_at_least(self, score: float) -> Objects:
        """Those that the detector is this sure of."""
        keep = self.scores >= score
        return Objects(self.boxes[keep], self.scores[keep], self.labels[keep], self.velocity[keep])


def pairs(expected: Objects, found: Objects) -> tuple[np.ndarray, np.ndarray]:
    """Which box is which, best overlap first; only boxes of one class.

    Args:
        expected: where the boxes of an earlier frame should be now.
        found: those of now.

    Returns:
        (K,) numbers among `expected`, and (K,) among `found`.
    """
    if not len(expected) or not len(found):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    overlap = iou(expected.boxes, found.boxes)
    overlap[expected.labels[:, None] != found.labels[None]] = 0
    rows, columns = np.nonzero(overlap >= MATCH_IOU)
    taken_rows: set[int] = set()
    taken_columns: set[int] = set()
    kept: list[tuple[int, int]] = []
    for i in np.argsort(-overlap[rows, columns], kind="stable"):
        row, column = int(rows[i]), int(columns[i])
        if row not in taken_rows and column not in taken_columns:
            taken_rows.add(row)
            taken_columns.add(column)
            kept.append((row, column))
    chosen = np.array(kept, dtype=np.int64).reshape(-1, 2)
    return chosen[:, 0], chosen[:, 1]


def follow(before: Objects, found: Objects, frames: int, least: float = 0.0) -> Objects:
    """The detections of a frame with their velocities.

    A box that was there before goes on as it went, corrected by half of what was seen: edges tremble, and more so
    where the size changed between the frames. A new one goes with the others: where the camera moves, everything does.

    Args:
        before: the last frame's, with velocities.
        found: this frame's.
        frames: between the two.
        least: score below which a box is not looked for: it goes with the others.
    """
    sure = before.of_at_least(least)
    expected = replace(sure, boxes=sure.boxes + np.float32(frames) * sure.velocity)
    old, new = pairs(expected, found.of_at_least(least))  # scores fall: numbers among the sure are those among all
    if not len(old):
        return found
    seen = (found.boxes[new] - sure.boxes[old]) / max(1, frames)
    believed = sure.velocity[old] + SMOOTHING * (seen - sure.velocity[old])
    velocity = np.tile(np.median(believed, axis=0), (len(found), 1)).astype(np.float32)
    velocity[new] = believed
    return replace(found, velocity=velocity)
