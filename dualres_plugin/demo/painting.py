"""Outlines, textures and paint for the generated scenes, with numpy and Pillow only.

A canvas is a (height, width, 3) float32 array from 0 to 255; boxes are x1 y1 x2 y2 in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Array = npt.NDArray[np.float32]
Rng = np.random.Generator
Box = tuple[float, float, float, float]


# --- outlines ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outline:
    """A polygon in pixels whose box starts at the origin, perhaps with a hole.

    Attributes:
        points: (P, 2) corners, x y.
        hole: (P, 2) corners of the hole, or None.
        width: width of the box.
        height: height of the box.
    """

    points: Array
    hole: Array | None
    width: float
    height: float


def _arc(stop: float = 2 * math.pi) -> Array:
    angle = np.linspace(0, stop, 40)
    return np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)


def _spokes(radii: Sequence[float]) -> Array:
    """A polygon around the origin with one corner per radius."""
    angle = np.arange(len(radii)) * (2 * math.pi / len(radii))
    corners = np.stack([np.cos(angle), np.sin(angle)], 1) * np.asarray(radii)[:, None]
    return np.asarray(corners, np.float32)


def _cross(arm: float) -> Array:
    quarter = [(1.0, -arm), (1.0, arm), (arm, arm)]
    turns = [(1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0)]
    return np.array([(a * x + b * y, c * x + d * y) for a, b, c, d in turns for x, y in quarter], np.float32)


_HOOK = [(-1, -1), (-0.5, -1), (-0.5, 0.5), (0.6, 0.5), (0.6, 1), (-1, 1)]
_STICK = [(-1, -0.09), (1, -0.09), (1, 0.09), (-1, 0.09)]
_POLYGONS: dict[str, Callable[[Rng], Array]] = {
    "disc": lambda rng: _arc(),
    "ring": lambda rng: _arc(),
    "square": lambda rng: _spokes([1.0] * 4),
    "triangle": lambda rng: _spokes([1.0] * 3),
    "star": lambda rng: _spokes([1.0, float(rng.uniform(0.38, 0.48))] * 5),
    "cross": lambda rng: _cross(float(rng.uniform(0.26, 0.38))),
    "stick": lambda rng: np.array(_STICK, np.float32),
    "blob": lambda rng: _spokes(rng.uniform(0.45, 1.0, 9).tolist()),
    "half": lambda rng: _arc(math.pi),
    "hook": lambda rng: np.array(_HOOK, np.float32),
}


def make_outline(rng: Rng, name: str, size: float) -> Outline:
    """The named shape, turned, squeezed a little, and scaled: the longer side of its box is `size` pixels.

    Args:
        rng: source of turn and squeeze.
        name: one of the classes or distractors.
        size: longer side of the box in pixels.

    Returns:
        The outline at the origin.
    """
    points = _POLYGONS[name](rng)
    angle, squeeze = rng.uniform(0, 2 * math.pi), rng.uniform(0.8, 1.0)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = (turn * [1.0, squeeze]).astype(np.float32)
    points = points @ matrix.T
    hole = _arc() @ matrix.T * np.float32(rng.uniform(0.42, 0.62)) if name == "ring" else None
    corner = points.min(0)
    extent = points.max(0) - corner
    scale = np.float32(size) / extent.max()
    width, height = (extent * scale).tolist()
    return Outline((points - corner) * scale, None if hole is None else (hole - corner) * scale, width, height)


def find_place(rng: Rng, outline: Outline, width: int, height: int, taken: Sequence[Box]) -> Box | None:
    """A box inside the picture that hides little of the boxes already taken.

    Args:
        rng: source of the tries.
        outline: what to place.
        width: of the picture in pixels.
        height: of the picture in pixels.
        taken: boxes of other objects.

    Returns:
        x1 y1 x2 y2 in pixels; None if there is no room.
    """
    for _ in range(30):
        x = float(rng.uniform(1, width - outline.width - 1))
        y = float(rng.uniform(1, height - outline.height - 1))
        box = (x, y, x + outline.width, y + outline.height)
        if all(_hidden(box, other) < 0.1 for other in taken):
            return box
    return None


def _hidden(a: Box, b: Box) -> float:
    """Overlap as a share of the smaller box."""
    over = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    return over / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))


# --- colour and texture -----------------------------------------------------------------------------------

_PHASE = np.array([0.0, 4.0, 2.0], np.float32)  # red, green and blue on a hue circle of six


def _colours(rng: Rng, number: int, vivid: float = 1.0) -> Array:
    """RGB colours of any hue, (number, 3)."""
    hue, saturation, value = rng.random((3, number, 1), np.float32)
    saturation = (0.15 + 0.8 * saturation) * np.float32(vivid)
    ramp = np.minimum(np.maximum(np.abs((hue * 6 + _PHASE) % 6 - 3) - 1, 0), 1)
    return np.asarray(255 * (0.15 + 0.85 * value) * (1 - saturation + saturation * ramp), np.float32)


def _waves(rng: Rng, height: int, width: int, period: float) -> Array:
    """Stripes, a grid or a checkerboard between 0 and 1, (height, width)."""
    angle, frequency = rng.uniform(0, math.pi), 2 * math.pi / period
    along, across = math.cos(angle) * frequency, math.sin(angle) * frequency
    y = np.arange(height, dtype=np.float32)[:, None]
    x = np.arange(width, dtype=np.float32)
    u = np.sin(x * along + (y * across + np.float32(rng.uniform(0, 6))))
    pattern = int(rng.integers(3))
    if pattern:
        v = np.sin(y * along - x * across)
        u = np.maximum(u, v) if pattern == 1 else u * v
    return np.asarray(np.minimum(np.maximum(u * 2 + 0.5, 0), 1), np.float32)


def _clouds(rng: Rng, height: int, width: int, cells: int) -> Array:
    """Smooth noise around 0 with `cells` bumps along a side, (height, width)."""
    grid = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
    return np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC), np.float32)


def make_background(rng: Rng, height: int, width: int) -> Array:
    """A ground of two colours mixed by clouds, grain and often a pattern.

    Args:
        rng: source of everything.
        height: in pixels.
        width: in pixels.

    Returns:
        (height, width, 3) float32, 0 to 255.
    """
    first, second = _colours(rng, 2, vivid=0.6)
    mix = 0.5 + 0.3 * _clouds(rng, height, width, int(rng.integers(2, 6)))
    strength = np.float32(rng.uniform(0.0, 0.5))
    mix += strength / 2 * _clouds(rng, height, width, int(rng.integers(16, 60)))
    if rng.random() < 0.5:
        period = math.exp(rng.uniform(math.log(6), math.log(80)))
        mix += strength * (_waves(rng, height, width, period) - np.float32(0.5))
    return np.asarray(second + np.clip(mix, 0, 1)[..., None] * (first - second), np.float32)


# --- paint ------------------------------------------------------------------------------------------------


def _cover(outline: Outline, box: Box, shape: tuple[int, ...], origin: tuple[int, int]) -> Array:
    """How much of each pixel of a patch the outline covers: (height, width, 1) from 0 to 1."""
    parts = 8 if max(outline.width, outline.height) < 32 else 4  # per pixel and axis
    picture = Image.new("L", (shape[1] * parts, shape[0] * parts))
    draw = ImageDraw.Draw(picture)
    shift = np.array([box[0] - origin[0], box[1] - origin[1]], np.float32)
    for points, fill in ((outline.points, 255), (outline.hole, 0)):
        if points is not None:
            draw.polygon([(x, y) for x, y in ((points + shift) * parts - 0.5).tolist()], fill=fill)
    return np.asarray(picture.reduce(parts), np.float32)[..., None] / np.float32(255)


def paint(rng: Rng, canvas: Array, outline: Outline, box: Box, contrast: float) -> None:
    """Paint a shape and its shadow onto the canvas, in place, in a colour `contrast` away from the ground.

    Args:
        rng: source of colour, texture and shadow.
        canvas: (H, W, 3) float32, 0 to 255.
        outline: what to paint.
        box: where, see `find_place`.
        contrast: least distance of the colour from the ground in RGB, where one of eight tries has it.
    """
    x1, y1 = math.floor(box[0]), math.floor(box[1])
    patch = canvas[y1 : math.ceil(box[3]), x1 : math.ceil(box[2])]
    cover = _cover(outline, box, patch.shape, (x1, y1))
    size = max(outline.width, outline.height)
    ground = patch.mean((0, 1))

    step = int(max(1, size * rng.uniform(0.02, 0.08)))
    below = canvas[y1 + step : math.ceil(box[3]) + step, x1 + step : math.ceil(box[2]) + step]
    below *= 1 - np.float32(rng.uniform(0.0, 0.5)) * cover[: below.shape[0], : below.shape[1]]

    colours = _colours(rng, 8)
    distance = np.linalg.norm(colours - ground, axis=1)
    strong = distance >= contrast
    fill = colours[int(np.argmax(strong if strong.any() else distance))]
    if rng.random() < 0.6:
        period = max(3.0, size * float(rng.uniform(0.12, 0.5)))
        texture = _waves(rng, patch.shape[0], patch.shape[1], period)[..., None]
        fill = fill * (1 - np.float32(rng.uniform(0.15, 0.5)) * texture)
    patch += cover * (fill - patch)


def photograph(rng: Rng, canvas: Array) -> npt.NDArray[np.uint8]:
    """Light, blur and noise, as a camera adds them; overwrites the canvas.

    Args:
        rng: source of everything.
        canvas: (H, W, 3) float32, 0 to 255.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = canvas.shape[:2]
    angle, slope = rng.uniform(0, 2 * math.pi), rng.uniform(0.0, 0.3)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * (slope * math.sin(angle))
    x = np.linspace(-1, 1, width, dtype=np.float32) * (slope * math.cos(angle)) + rng.uniform(0.7, 1.1)
    canvas *= (x + y)[..., None]
    if rng.random() < 0.4:
        sharp = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
        canvas = np.array(sharp.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.6)))), np.float32)
    canvas += rng.standard_normal((height, width, 1), np.float32) * np.float32(rng.uniform(1, 12))
    return np.clip(canvas, 0, 255).astype(np.uint8)
