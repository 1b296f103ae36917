"""The low-resolution input: its size, the resampling, and the way back to high-resolution pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.types import RouterImages


def check_scale(scale: float) -> float:
    """Return `scale` if it is a valid low / high ratio.

    Args:
        scale: low size over high size.

    Raises:
        DualResError: If it is not inside (0, 1).
    """
    if not 0.0 < scale < 1.0:
        raise DualResError(
            f"low={scale:g}: the low size must be smaller than the high size. "
            "Give a ratio between 0 and 1, or a size in pixels below the high size; of a pair of networks, the one "
            "with the smaller input is low."
        )
    return float(scale)


@dataclass(frozen=True)
class LowSize:
    """The low size as it was asked for: pixels stay pixels, whatever high size a call runs at.

    Attributes:
        ratio: low / high, inside (0, 1); of pixels, at the high size that was known when they were given.
        pixels: None where a ratio was asked for.
    """

    ratio: float
    pixels: float | None = None

    @classmethod
    def of(cls, low: float | LowSize, high: int) -> LowSize:
        """What a user's `low` means.

        Args:
            low: a ratio (0.5), a size in pixels (320), or one that is known already.
            high: the high size in pixels.

        Raises:
            DualResError: If it is not smaller than the high size.
        """
        if isinstance(low, LowSize):
            return low
        if low > 1:
            return cls(pixel_ratio(low, high), low)
        return cls(check_scale(low))

    def at(self, high: int | None) -> float:
        """The low / high ratio of a batch.

        Args:
            high: its high size in pixels; None is the one that `ratio` holds for.

        Raises:
            DualResError: If the low size is not smaller.
        """
        return self.ratio if self.pixels is None or high is None else pixel_ratio(self.pixels, high)

    def __str__(self) -> str:
        return f"{self.ratio:g}" if self.pixels is None else f"{self.pixels:g} px"


def pixel_ratio(low: float, high: int) -> float:
    """The low / high ratio of two sizes.

    Args:
        low, high: in pixels.

    Raises:
        DualResError: If the low size is not smaller.
    """
    if not low < high:
        raise DualResError(
            f"low={low:g}: the low size must be smaller than the high size, which is {high} pixels here. "
            "Give a smaller low or a larger high size; of a pair of networks, the one with the smaller input is low."
        )
    return low / high


def check_pair(high: int, low: int) -> None:
    """Refuse two networks that are swapped.

    Args:
        high, low: the size in pixels that each was built for.

    Raises:
        DualResError: If the low one was built for the larger size.
    """
    if low > high:
        raise DualResError(
            f"the low detector was built for {low} px, the high one for {high} px: swap the two, so that the one with "
            "the smaller input is low."
        )


def low_size(size: tuple[int, int], scale: float, stride: int) -> tuple[int, int]:
    """(height, width) of the low input: `ceil(size * scale / stride) * stride` per axis.

    Rounding up per axis keeps every detector's stride, so the two axes may shrink by different ratios:
    480x640 at 0.5 and stride 32 is 256x320, not 240x320.

    Args:
        size: (height, width) of the high input in pixels.
        scale: low / high ratio.
        stride: of the detector, in pixels.
    """
    # The small subtraction keeps 640 * 0.55 = 352.00000000000006 from being rounded up a whole stride.
    h, w = (max(stride, math.ceil(side * scale / stride - 1e-9) * stride) for side in size)
    return min(h, _up(size[0], stride)), min(w, _up(size[1], stride))


def _up(side: int, stride: int) -> int:
    return math.ceil(side / stride) * stride


def to_unit(pixels: Tensor) -> Tensor:
    """Pixels as networks take them.

    Args:
        pixels: uint8 of any shape, 0 to 255.

    Returns:
        float32 of the same shape, 0 to 1.
    """
    return torch.div(pixels, 255).float()


def resize_images(images: Tensor, size: tuple[int, int], antialias: bool = True) -> Tensor:
    """Bilinear resize, the one that every part of this package uses.

    Args:
        images: (B, C, H, W) float.
        size: wanted (height, width).
        antialias: average over the pixels that shrink into one, as image libraries do when they make a thumbnail;
            without it every other pixel is dropped, which is cheaper and what an ONNX `Resize` does.

    Returns:
        (B, C, height, width); `images` itself where it has that size already.
    """
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=antialias)


def axis_ratio(high: Sequence[int], low: Sequence[int]) -> tuple[float, float]:
    """Factors that take low-resolution pixels to high-resolution pixels.

    Args:
        high, low: (height, width) in pixels.

    Returns:
        (x, y).
    """
    return high[1] / low[1], high[0] / low[0]


def scale_boxes(boxes: Tensor, ratio: tuple[float, float]) -> Tensor:
    """Multiply boxes by a ratio.

    Args:
        boxes: (..., 4), xyxy or xywh.
        ratio: (x, y) factors.

    Returns:
        (..., 4), new.
    """
    x, y = ratio
    return boxes * torch.tensor([x, y, x, y], dtype=boxes.dtype, device=boxes.device)


def make_thumbnails(batch: RouterImages, size: int) -> Tensor:
    """The canonical router input: content only, RGB in [0, 1], antialiased.

    Args:
        batch: B images with their content boxes.
        size: side of the thumbnails in pixels.

    Returns:
        (B, 3, size, size) float32.
    """
    rows = [
        resize_images(image[None, :, y0:y1, x0:x1].float(), (size, size)).clamp(0, 1)
        for image, (x0, y0, x1, y1) in zip(batch.images, batch.content)
    ]
    return torch.cat(rows) if rows else torch.zeros(0, 3, size, size)
