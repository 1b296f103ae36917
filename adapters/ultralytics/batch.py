"""What Ultralytics feeds its networks: letterboxed images, and where the photo lies in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dualres_plugin.common.types import Targets, all_of

GREY = 114 / 255  # the host's letterbox colour


@dataclass(frozen=True)
class YoloBatch:
    """A letterboxed batch.

    Attributes:
        images: (B, 3, H, W) RGB in [0, 1].
        high: (height, width) of the high input this came from; boxes leave in its pixels.
        sizes: (height, width) of each original image, where known.
        targets: ground truth in original pixels, where known.
        low: made by `resize`.
        size: the high size that was asked for, in pixels, where known; the long side of `high` otherwise.
    """

    images: Tensor
    high: tuple[int, int]
    sizes: list[tuple[int, int]] | None = None
    targets: list[Targets] | None = None
    low: bool = False
    size: int | None = None

    def take(self, index: Tensor) -> YoloBatch:
        """The images `index`, (K,) int64, in that order."""
        chosen = index.tolist()
        if chosen == list(range(len(self.images))):
            return self  # everything: no copy
        return replace(
            self,
            images=self.images[index],
            sizes=[self.sizes[i] for i in chosen] if self.sizes else None,
            targets=[self.targets[i] for i in chosen] if self.targets else None,
        )

    @classmethod
    def joined(cls, batches: Sequence[YoloBatch]) -> YoloBatch:
        """High batches of one shape, B >= 1, as one."""
        return replace(
            batches[0],
            images=torch.cat([b.images for b in batches]),
            sizes=all_of([b.sizes for b in batches]),
            targets=all_of([b.targets for b in batches]),
        )


def decoded(raw: Any) -> Tensor:
    """The decoded boxes of the host's output, with or without its training part: (B, 4 + nc, N) or (B, N, 6)."""
    y: Tensor = raw[0] if isinstance(raw, (tuple, list)) else raw
    return y


def letterboxed(image_size: tuple[int, int], size: int) -> tuple[int, int]:
    """(height, width) of an image of (height, width) scaled to fit a square of `size` pixels."""
    gain = min(size / image_size[0], size / image_size[1])
    return max(1, round(image_size[0] * gain)), max(1, round(image_size[1] * gain))


def content_box(image: Tensor) -> tuple[int, int, int, int]:
    """Where the photo lies in a letterboxed image: the box without the grey border.

    Read off the pixels, so that it holds wherever the batch comes from: predict, val, track or an exported graph.

    Args:
        image: (3, H, W) RGB in [0, 1].

    Returns:
        (x0, y0, x1, y1) in pixels.
    """
    height, width = image.shape[-2:]
    x0, x1 = _content_range(image, 2, width)
    y0, y1 = _content_range(image, 1, height)
    if x0 >= x1 or y0 >= y1:  # an all-grey photo
        return 0, 0, width, height
    return x0, y0, x1, y1


def _content_range(image: Tensor, axis: int, length: int) -> tuple[int, int]:
    edges = image.select(axis, 0), image.select(axis, length - 1)
    if not any(bool(_is_grey(edge).all()) for edge in edges):
        return 0, length
    other = 3 - axis
    content = (~_is_grey(image)).any(dim=0).any(dim=other - 1).nonzero().flatten()
    if not len(content):
        return 0, 0
    # The host pads both sides alike, up to one pixel more at the end: any further grey is the photo's own.
    before, after = int(content[0]), length - int(content[-1]) - 1
    before = min(before, after)
    return before, length - min(after, before + 1)


def _is_grey(pixels: Tensor) -> Tensor:
    return (pixels - GREY).abs() < 1e-3  # also holds in half precision
