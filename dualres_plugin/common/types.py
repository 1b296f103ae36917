"""Small data types shared by every module. Boxes are xyxy in pixels of the original image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Detections:
    """What a detector found on one image.

    Attributes:
        boxes: (N, 4) float32, xyxy in pixels of the original image.
        scores: (N,) float32 in [0, 1], highest first.
        labels: (N,) int64, the detector's own class index.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def from_arrays(cls, boxes: object, scores: object, labels: object, limit: int | None = None) -> Detections:
        """Sort by score, stable, highest first.

        Args:
            boxes: (N, 4) xyxy in pixels of the original image.
            scores: (N,).
            labels: (N,).
            limit: keep the first so many; None keeps all.
        """
        b = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
        s = np.asarray(scores, dtype=np.float32).reshape(-1)
        n = np.asarray(labels, dtype=np.int64).reshape(-1)
        order = np.argsort(-s, kind="stable")[:limit]
        return cls(b[order], s[order], n[order])

    @classmethod
    def empty(cls) -> Detections:
        """Nothing found."""
        return cls.from_arrays([], [], [])


@dataclass(frozen=True)
class Targets:
    """Ground truth of one image.

    Attributes:
        boxes: (N, 4) float32, xyxy in pixels of the original image.
        labels: (N,) int64, the detector's own class index (-1: a class that the detector does not know).
        ignore: (N,) bool, COCO's `iscrowd`: neither a hit nor a miss.
    """

    boxes: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))

    def __post_init__(self) -> None:
        if len(self.ignore) != len(self.labels):
            object.__setattr__(self, "ignore", np.zeros(len(self.labels), dtype=bool))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def trainable(self) -> Targets:
        """Only what a detector's loss can use: known classes, no crowds."""
        keep = ~self.ignore & (self.labels >= 0)
        return Targets(self.boxes[keep], self.labels[keep])


class RouterImages(NamedTuple):
    """What an adapter hands to the router: RGB in [0, 1] and where the photo lies in it.

    Attributes:
        images: (B, 3, H, W) tensor, or a list of B tensors (3, H_i, W_i) of different shapes.
        content: one (x0, y0, x1, y1) in pixels per image; padding lies outside.
    """

    images: Tensor | list[Tensor]
    content: list[tuple[int, int, int, int]]


@dataclass(frozen=True)
class Decision:
    """The routing of one batch.

    Attributes:
        scores: (B,) float tensor, the router's logits.
        high: (B,) bool tensor, True where the image goes to the high resolution (Eq. 3).
        threshold: the score above which an image goes high.
    """

    scores: Tensor
    high: Tensor
    threshold: float

    @property
    def rate(self) -> float:
        """Share of images at high."""
        return float(self.high.float().mean()) if len(self.high) else 0.0

    def of(self, i: int) -> ImageDecision:
        """The routing of the image with number `i` of the batch."""
        return ImageDecision("high" if bool(self.high[i]) else "low", float(self.scores[i]), self.threshold)


@dataclass(frozen=True)
class ImageDecision:
    """The routing of one image: `results[0].dualres.route`, `.score`."""

    route: str
    score: float
    threshold: float

    def __str__(self) -> str:
        return f"{self.route} (score {self.score:+.3f})"


def as_index(mask: Tensor) -> Tensor:
    """Where a mask is true.

    Args:
        mask: (B,) bool.

    Returns:
        (n,) int64 indices.
    """
    return torch.nonzero(mask, as_tuple=False).flatten()
