"""Small data types shared by every module. Boxes are xyxy in pixels of the original image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from dualres_plugin.common.card import SKIP, SKIPPED

Kind = TypeVar("Kind")


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
    """The routing of one batch to two sizes, high and low, or to more.

    Attributes:
        scores: (B,) float tensor, the router's logits.
        steps: (B,) int64 tensor, the size of each image: 0 is the largest ("high"), 1 the next smaller one, …; `SKIP`
            where none runs.
        thresholds: one fewer than there are sizes, descending: an image whose score is above the first goes to the
            largest size (Eq. 3), above the second to the next, and so on.
        sizes: in pixels, largest first; None where nothing has run yet.
        recalled: of each image what it reuses where it is skipped, boxes as shares of the photo; else None.
    """

    scores: Tensor
    steps: Tensor
    thresholds: tuple[float, ...]
    sizes: tuple[int, ...] | None = None
    recalled: tuple[Detections | None, ...] = ()

    @classmethod
    def by_thresholds(cls, scores: Tensor, thresholds: tuple[float, ...]) -> Decision:
        """What scores and thresholds say.

        Args:
            scores: (B,); NaN goes to the smallest size.
            thresholds: descending.
        """
        above = [scores > threshold for threshold in thresholds]
        return cls(scores, len(thresholds) - torch.stack(above).sum(0), thresholds)

    @classmethod
    def of_two(cls, scores: Tensor, high: Tensor, threshold: float) -> Decision:
        """High or low, decided elsewhere.

        Args:
            scores: (B,).
            high: (B,) bool, True where the image goes to the high resolution.
            threshold: that is reported.
        """
        return cls(scores, (~high).long(), (threshold,))

    @property
    def high(self) -> Tensor:
        """(B,) bool tensor, True where the image goes to the largest size."""
        return self.steps == 0

    @property
    def threshold(self) -> float:
        """The score above which an image goes to the largest size."""
        return self.thresholds[0]

    @property
    def rate(self) -> float:
        """Share of images at high."""
        return float(self.high.float().mean()) if len(self.steps) else 0.0

    def of(self, i: int) -> ImageDecision:
        """The routing of the image with number `i` of the batch."""
        step = int(self.steps[i])
        size = None if self.sizes is None or step == SKIP else self.sizes[step]
        return ImageDecision(self._name(step), float(self.scores[i]), self.threshold, step, size)

    def _name(self, step: int) -> str:
        if step == SKIP:
            return SKIPPED
        if len(self.thresholds) == 1:
            return "low" if step else "high"
        return f"size {step + 1}" if self.sizes is None else str(self.sizes[step])


@dataclass(frozen=True)
class ImageDecision:
    """The routing of one image: `results[0].dualres.route`, `.score`, `.size`.

    Attributes:
        route: "high" or "low" of two sizes; of more the size in pixels, such as "512"; "skip" of a frame of a stream on
            which no size ran.
        score: the router's logit; of a stream with a head, the gain that this expects; of a skipped frame, that of the
            last one that ran.
        threshold: the score above which an image goes to the largest size.
        step: 0 for the largest size, 1 for the next smaller one, …; -1 of a skipped frame.
        size: in pixels, in the host's own meaning of size; None where it is not known, or none ran.
    """

    route: str
    score: float
    threshold: float
    step: int
    size: int | None = None

    def __str__(self) -> str:
        return f"{self.route} (score {self.score:+.3f})"


def all_of(lists: Sequence[list[Kind] | None]) -> list[Kind] | None:
    """Lists, one of each batch, as one.

    Args:
        lists: at least one.

    Returns:
        None where the first is None: batches of one source have it, or have it not.
    """
    return None if lists[0] is None else [item for part in lists for item in part or ()]


def as_index(mask: Tensor) -> Tensor:
    """Where a mask is true.

    Args:
        mask: (B,) bool.

    Returns:
        (n,) int64 indices.
    """
    return torch.nonzero(mask, as_tuple=False).flatten()
