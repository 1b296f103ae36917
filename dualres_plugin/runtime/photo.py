"""From a photo to a network input, in numpy, as the hosts do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dualres_plugin.common.card import Card, Preprocess
from dualres_plugin.common.images.photo import check_photo
from dualres_plugin.runtime.thumbnail import make_thumbnail

Shape = tuple[int, int]
ROUNDING: dict[str, Callable[[float], int]] = {"even": round, "up": lambda x: int(x + 0.5), "down": int}


@dataclass(frozen=True)
class Frame:
    """A network input and the way back.

    Attributes:
        images: (1, 3, H, W) float32, RGB in [0, 1].
        content: (x0, y0, x1, y1) of the photo inside it.
        original: (height, width) of the photo.
        gain: network pixels per photo pixel, (x, y).
        thumbnail: (1, 3, S, S) float32, RGB in [0, 1], where the graph does not make it itself; else None.
    """

    images: np.ndarray
    content: tuple[int, int, int, int]
    original: Shape
    gain: tuple[float, float]
    thumbnail: np.ndarray | None = None

    @property
    def edges(self) -> tuple[float, ...]:
        """(x0, y0, x1, y1) of the photo in network pixels, before they were rounded."""
        x0, y0 = self.content[:2]
        return x0, y0, x0 + self.original[1] * self.gain[0], y0 + self.original[0] * self.gain[1]

    def to_original(self, boxes: np.ndarray, clip: bool = True) -> np.ndarray:
        """Move boxes back to the photo.

        Args:
            boxes: (N, 4) xyxy in network pixels.
            clip: end them at the photo's edge.

        Returns:
            (N, 4) float32 xyxy in photo pixels.
        """
        h, w = self.original
        offset = np.array([self.content[0], self.content[1]] * 2, dtype=np.float32)
        moved = (boxes - offset) / np.array(self.gain * 2, dtype=np.float32)
        if not clip:
            return moved.astype(np.float32)
        return np.clip(moved, 0, np.array([w, h, w, h], dtype=np.float32)).astype(np.float32)


def make_frame(photo: np.ndarray, card: Card) -> Frame:
    """The network input for a photo, as the host makes it.

    Args:
        photo: (H, W, 3) RGB uint8.
        card: tells how.

    Raises:
        DualResError: If the photo has another shape or type.
    """
    check_photo(photo)
    how, original = card.preprocess, (int(photo.shape[0]), int(photo.shape[1]))
    if how.kind == "original":
        whole = np.empty((1, 3, *original), dtype=np.float32)
        _fill(whole[0], photo)
        return Frame(whole, (0, 0, original[1], original[0]), original, (1.0, 1.0), _thumbnail(photo, card))
    inner, outer, (x0, y0) = letterbox_sizes(original, card.high, how, card.static)
    scaled = photo if inner == original else resize(photo, inner, how.resample)
    frame = np.empty((1, 3, *outer), dtype=np.float32)
    frame[0] = np.array(how.fill, dtype=np.float32)[:, None, None]
    _fill(frame[0, :, y0 : y0 + inner[0], x0 : x0 + inner[1]], scaled)
    content = (x0, y0, x0 + inner[1], y0 + inner[0])
    return Frame(frame, content, original, _gain(original, inner, outer, how), _thumbnail(scaled, card))


def _thumbnail(photo: np.ndarray, card: Card) -> np.ndarray | None:
    """Of the photo as the host scales it, which is what the router is calibrated on."""
    return make_thumbnail(photo, card.thumbnail) if card.thumbnail else None


def letterbox_sizes(
    original: Shape, size: int, how: Preprocess, static: Shape | None = None
) -> tuple[Shape, Shape, tuple[int, int]]:
    """Where a photo lies in its frame.

    Args:
        original: (height, width) of the photo in pixels.
        size: side of the square that it is scaled into.
        how: rounding, padding and place, as the host has them.
        static: (height, width) of a frame that is fixed; None where it may be smaller than the square.

    Returns:
        (height, width) of the scaled photo and of the padded frame, and the (x, y) of the photo's corner.
    """
    box = static or (size, size)
    factor = min(box[0] / original[0], box[1] / original[1])
    rounded = ROUNDING[how.rounding]
    inner = max(1, rounded(original[0] * factor)), max(1, rounded(original[1] * factor))
    spare = [box[0] - inner[0], box[1] - inner[1]]
    if how.multiple and not static:
        spare = [s % how.multiple for s in spare]
    outer = inner[0] + spare[0], inner[1] + spare[1]
    if not how.centre:
        return inner, outer, (0, 0)
    # An odd pixel goes to the end, as in the hosts.
    return inner, outer, (round(spare[1] / 2 - 0.1), round(spare[0] / 2 - 0.1))


def _gain(original: Shape, inner: Shape, outer: Shape, how: Preprocess) -> tuple[float, float]:
    if how.gain == "axis":
        return inner[1] / original[1], inner[0] / original[0]
    factor = min(outer[0] / original[0], outer[1] / original[1])
    return factor, factor


def resize(photo: np.ndarray, size: Shape, resample: str = "cv2") -> np.ndarray:
    """Bilinear resize as a host's image library does it.

    Args:
        photo: (H, W, 3) uint8.
        size: wanted (height, width).
        resample: "cv2" or "pil".

    Returns:
        (height, width, 3) uint8.
    """
    if resample == "pil":
        from PIL import Image

        return np.asarray(Image.fromarray(photo).resize(size[::-1], Image.Resampling.BILINEAR))
    try:
        import cv2
    except ImportError:  # within one grey level of cv2's fixed-point arithmetic
        return _bilinear(photo, size)
    return np.asarray(cv2.resize(np.ascontiguousarray(photo), size[::-1], interpolation=cv2.INTER_LINEAR))


def _bilinear(photo: np.ndarray, size: Shape) -> np.ndarray:
    pixels = photo.astype(np.float32)
    for axis, length in enumerate(size):
        at = (np.arange(length) + 0.5) * (photo.shape[axis] / length) - 0.5
        low = np.floor(at).astype(np.int64)
        part = (at - low).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
        first, second = (np.clip(low + i, 0, photo.shape[axis] - 1) for i in (0, 1))
        pixels = pixels.take(first, axis) * (1 - part) + pixels.take(second, axis) * part
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _fill(planes: np.ndarray, photo: np.ndarray) -> None:
    """(H, W, 3) uint8 -> (3, H, W) float32 in [0, 1], written in one pass: a third of the time of copy after copy."""
    np.divide(photo.transpose(2, 0, 1), np.float32(255), out=planes)
