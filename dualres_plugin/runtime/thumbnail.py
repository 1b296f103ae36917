"""The router's thumbnail from the bytes of a photo, for files that take it as an input."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
    # Pillow's is exact. OpenCV's takes a third of the time at a ratio of 4, but as long at 8, and below 2 its triangle
    # has too few pixels.
    small = _by_opencv(photo, size, ratios) if min(ratios) >= 2 and max(ratios) <= 8 else None
    if small is None:
        small = np.asarray(Image.fromarray(photo).resize((size, size), Image.Resampling.BILINEAR))
    thumbnail = np.empty((1, 3, size, size), dtype=np.float32)
    np.divide(small.transpose(2, 0, 1), np.float32(255), out=thumbnail[0])
    return thumbnail


def _by_opencv(photo: np.ndarray, size: int, ratios: Sequence[float]) -> np.ndarray | None:
    """(size, size, 3) uint8; None without OpenCV.

    Antialiased bilinear is a triangle as wide as the pixels that shrink into one. A blur whose weights are its values
    at whole pixels, read in between linearly, is the same triangle: exactly so where the ratio is a whole number.
    """
    try:
        import cv2
    except ImportError:
        return None
    rows, columns = map(_triangle, ratios)
    blurred = cv2.sepFilter2D(np.ascontiguousarray(photo), -1, columns, rows)
    return np.asarray(cv2.resize(blurred, (size, size), interpolation=cv2.INTER_LINEAR))


def _triangle(ratio: float) -> np.ndarray:
    """Weights of a triangle that reaches `ratio` pixels to both sides."""
    reach = math.ceil(ratio) - 1
    weights = 1 - np.abs(np.arange(-reach, reach + 1)) / ratio
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
