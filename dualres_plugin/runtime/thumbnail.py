"""The router's thumbnail from the bytes of a photo, for files that take it as an input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from dualres_plugin.common.errors import DualResError


def make_thumbnail(photo: np.ndarray, size: int) -> np.ndarray:
    """A photo as the router sees it: antialiased bilinear, as `common.resize.make_thumbnails` to a grey level.

    Args:
        photo: (H, W, 3) RGB uint8, without padding.
        size: side S of the thumbnail in pixels.

    Returns:
        (1, 3, S, S) float32, RGB in [0, 1].
    """
    ratios = [side / size for side in photo.shape[:2]]
    small = _by_opencv(photo, size, ratios)
    if small is None:
        small = np.asarray(Image.fromarray(photo).resize((size, size), Image.Resampling.BILINEAR))
    thumbnail = np.empty((1, 3, size, size), dtype=np.float32)
    np.divide(small.transpose(2, 0, 1), np.float32(255), out=thumbnail[0])
    return thumbnail


def _by_opencv(photo: np.ndarray, size: int, ratios: Sequence[float]) -> np.ndarray | None:
    """(size, size, 3) uint8; None without OpenCV, and where Pillow is better.

    Antialiased bilinear is a triangle as wide as the pixels that shrink into one. A blur whose weights are its values
    at whole pixels, read in between linearly, is the same triangle: exactly so where the ratio is a whole number.
    That takes a third of Pillow's time at a ratio of 4, but as long at 8, and below 2 the triangle has too few pixels.
    Photos that shrink further are halved first, which leaves a quarter of the pixels to blur.
    """
    halved = max(ratios) >= 5.5 and min(ratios) >= 3  # before, the other filter would move more routes
    if min(ratios) < 2 or max(ratios) > (16 if halved else 8):
        return None
    try:
        import cv2
    except ImportError:
        return None
    photo = np.ascontiguousarray(photo)
    if halved:
        return _blurred_half(cv2, photo, size, ratios)
    blurred = cv2.sepFilter2D(photo, -1, _triangle(ratios[1]), _triangle(ratios[0]))
    return np.asarray(cv2.resize(blurred, (size, size), interpolation=cv2.INTER_LINEAR))


def _blurred_half(cv2: Any, photo: np.ndarray, size: int, ratios: Sequence[float]) -> np.ndarray:
    """(size, size, 3) uint8, by way of a photo of half the sides."""
    # An odd last row or column is cut off: OpenCV takes four times as long for halves that are not whole pixels. So
    # what is read linearly lies where it does in the photo, not in the half of another size.
    height, width = (side // 2 for side in photo.shape[:2])
    half = cv2.resize(photo[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    blurred = cv2.sepFilter2D(half, -1, _triangle_of_halves(ratios[1]), _triangle_of_halves(ratios[0]))
    y, x = (ratio / 2 for ratio in ratios)
    places = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(blurred, places, (size, size), flags=how, borderMode=cv2.BORDER_REPLICATE))


def _triangle(ratio: float) -> np.ndarray:
    """Weights of a triangle that reaches `ratio` pixels to both sides."""
    reach = math.ceil(ratio) - 1
    return _weights(reach, 1 / ratio)


def _triangle_of_halves(ratio: float) -> np.ndarray:
    """Weights for the pixels of a halved photo, so that all in all the blur is as wide as a triangle of `ratio`.

    Widths are variances, which add up: ratio²/6 is the triangle's in pixels of the photo; halving brings 1/4, and
    reading linearly, between pixels twice as large, 4/6. The weights 1 - slope |k| have the rest, a quarter of it in
    pixels of the half; that is linear in the slope.
    """
    variance = (ratio**2 / 6 - 1 / 4 - 4 / 6) / 4
    reach = math.ceil(ratio / 2) - 1
    sides, count = reach * (reach + 1), 2 * reach + 1  # 2 Σk and Σ1; Σk² is sides count / 3, 2 Σk³ sides² / 2
    return _weights(reach, count * (sides / 3 - variance) / (sides * (sides / 2 - variance)))


def _weights(reach: int, slope: float) -> np.ndarray:
    weights = 1 - slope * np.abs(np.arange(-reach, reach + 1))
    return np.asarray(weights / weights.sum())


def content_bytes(images: np.ndarray, content: Sequence[int] | None) -> np.ndarray:
    """The photo inside a network input, as bytes.

    Args:
        images: (1, 3, H, W) float32, RGB in [0, 1].
        content: (x0, y0, x1, y1) of the photo in pixels; None is all of it.

    Returns:
        (y1 - y0, x1 - x0, 3) uint8.

    Raises:
        DualResError: If nothing of the photo lies in the frame.
    """
    x0, y0, x1, y1 = content or (0, 0, *images.shape[:1:-1])
    inside = images[0, :, max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    if not inside.size:
        raise DualResError(f"content {content} holds nothing of a frame of {images.shape[2]}x{images.shape[3]} pixels.")
    return np.ascontiguousarray(np.rint(inside * 255).clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def check_thumbnail(thumbnail: np.ndarray | None, size: int) -> np.ndarray:
    """Return the thumbnail if the graph can take it.

    Args:
        thumbnail: should be (1, 3, S, S) float32.
        size: S in pixels.

    Raises:
        DualResError: If it is missing, or has another shape or type.
    """
    wanted = (1, 3, size, size)
    if thumbnail is None:
        raise DualResError(f"this file was exported with its thumbnail outside: give `thumbnail` {wanted}, in [0, 1].")
    shape = tuple(getattr(thumbnail, "shape", ()))
    if shape != wanted or thumbnail.dtype != np.float32:
        kind = getattr(thumbnail, "dtype", type(thumbnail).__name__)
        raise DualResError(f"`thumbnail` must be {wanted} float32, RGB in [0, 1]; got {shape} {kind}.")
    return thumbnail
