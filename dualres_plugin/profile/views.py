"""Augmented views of a dataset's images: how a small set trains a router.

A view is a new image with its own boxes, so the detector is run on it at both sizes and its gain is measured, not
assumed. View 0 is the image itself; others are random crops, flips and 2 x 2 mosaics, fixed by the seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dualres_plugin.common.images.decode import read_image
from dualres_plugin.profile.data.records import ImageRecord

MOSAIC_SHARE = 0.3
SMALLEST_CROP = 0.35
KEEP_VISIBLE = 0.6  # a box that shows less than this is ignored, not missed
DROP_VISIBLE = 0.2  # and less than this, forgotten


@dataclass(frozen=True)
class View:
    """The pixels and ground truth of one view.

    Attributes:
        pixels: (H, W, 3) RGB uint8.
        boxes, categories, ignore, area: as in `ImageRecord`, in this view's pixels.
    """

    pixels: np.ndarray
    boxes: np.ndarray
    categories: np.ndarray
    ignore: np.ndarray
    area: np.ndarray


@dataclass(frozen=True)
class ViewPlan:
    """What a view will be, known before any pixel is read, so that equal shapes can share a batch.

    Attributes:
        sources: indices of the records it shows: one, or four for a mosaic.
        crop: (x0, y0, x1, y1) of the (first) image in pixels.
        flip: mirrored left to right.
        size: (height, width) of the result.
    """

    sources: tuple[int, ...]
    crop: tuple[int, int, int, int]
    flip: bool
    size: tuple[int, int]


def plan_view(records: Sequence[ImageRecord], index: int, view: int, seed: int) -> ViewPlan:
    """Decide view number `view` of record `index`; the same seed gives the same view, always.

    Args:
        records: of the data set.
        index: which of them.
        view: its number; 0 is the image itself.
        seed: of all views.

    Returns:
        What the view shows, and how large it will be.
    """
    h, w = records[index].size
    if view == 0:
        return ViewPlan((index,), (0, 0, w, h), False, (h, w))
    rng = np.random.default_rng([seed, index, view])
    flip = bool(rng.random() < 0.5)
    if len(records) >= 4 and rng.random() < MOSAIC_SHARE:
        others = rng.choice(len(records), size=3, replace=False)
        return ViewPlan((index, *(int(i) for i in others)), (0, 0, w, h), flip, (h, w))
    side = rng.uniform(SMALLEST_CROP, 1.0, size=2) ** 0.5 * rng.uniform(SMALLEST_CROP, 1.0) ** 0.5
    cw, ch = max(8, min(w, round(w * side[0]))), max(8, min(h, round(h * side[1])))
    cw, ch = min(cw, w), min(ch, h)
    x0, y0 = int(rng.integers(0, w - cw + 1)), int(rng.integers(0, h - ch + 1))
    return ViewPlan((index,), (x0, y0, x0 + cw, y0 + ch), flip, (ch, cw))


def make_view(records: Sequence[ImageRecord], plan: ViewPlan) -> View:
    """Read the pixels and move the boxes along.

    Args:
        records: of the data set.
        plan: see `plan_view`.

    Returns:
        The view; its boxes are in its own pixels.

    Raises:
        UnreadableImageError: If a source image cannot be used.
    """
    if len(plan.sources) == 1:
        record = records[plan.sources[0]]
        view = _cut(read_image(record.path, record.size), record, plan.crop)
    else:
        view = _mosaic([records[i] for i in plan.sources], plan.size)
    return _mirror(view) if plan.flip else view


def _cut(pixels: np.ndarray, record: ImageRecord, crop: tuple[int, int, int, int]) -> View:
    x0, y0, x1, y1 = crop
    h, w = record.size
    if crop == (0, 0, w, h):
        return View(pixels, record.boxes, record.categories, record.ignore, record.area)
    boxes = (record.boxes - np.array([x0, y0, x0, y0], dtype=np.float32)).clip(0, [x1 - x0, y1 - y0] * 2)
    full = _areas(record.boxes)
    visible = _areas(boxes) / np.maximum(full, 1e-9)
    keep = visible >= DROP_VISIBLE
    partly = visible < KEEP_VISIBLE
    return View(
        pixels[y0:y1, x0:x1],
        boxes[keep].astype(np.float32),
        record.categories[keep],
        (record.ignore | partly)[keep],
        (record.area * visible)[keep].astype(np.float32),
    )


def _mosaic(records: Sequence[ImageRecord], size: tuple[int, int]) -> View:
    """Four images, each stretched into a quarter: objects half as large, scenes twice as busy."""
    h, w = size
    canvas = np.zeros((h, w, 3), dtype=np.uint8)
    parts: list[View] = []
    for i, record in enumerate(records):
        top, left = (i // 2) * (h // 2), (i % 2) * (w // 2)
        ch, cw = (h // 2, h - h // 2)[i // 2], (w // 2, w - w // 2)[i % 2]
        if ch == 0 or cw == 0:
            continue
        pixels = Image.fromarray(read_image(record.path, record.size)).resize((cw, ch), Image.Resampling.BILINEAR)
        canvas[top : top + ch, left : left + cw] = np.asarray(pixels)
        fx, fy = cw / record.size[1], ch / record.size[0]
        # A box that leaves its photo would reach into the neighbour's quarter.
        boxes = record.boxes.clip(0, [record.size[1], record.size[0]] * 2)
        seen = _areas(boxes) > 0
        boxes = boxes[seen] * np.array([fx, fy, fx, fy]) + np.array([left, top, left, top])
        area = (record.area * fx * fy)[seen]
        parts.append(View(canvas, boxes.astype(np.float32), record.categories[seen], record.ignore[seen], area))
    return View(
        canvas, *(np.concatenate([getattr(p, k) for p in parts]) for k in ("boxes", "categories", "ignore", "area"))
    )


def _mirror(view: View) -> View:
    w = view.pixels.shape[1]
    boxes = view.boxes.copy()
    boxes[:, [0, 2]] = w - view.boxes[:, [2, 0]]
    return View(np.ascontiguousarray(view.pixels[:, ::-1]), boxes, view.categories, view.ignore, view.area)


def _areas(boxes: np.ndarray) -> np.ndarray:
    areas: np.ndarray = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas
