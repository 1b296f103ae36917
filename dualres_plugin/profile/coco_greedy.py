"""COCO's matching of detections to objects, for many images and all IoU thresholds at once.

It says what `COCOeval.evaluateImg` says, bit for bit, and takes a tenth of its time: pycocotools looks at every image
with every category one by one. Its own `mask.iou` gives the overlaps. `tests/profile/test_coco_match.py` holds both
equal.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from pycocotools import mask
from pycocotools.cocoeval import Params

THRESHOLDS = np.minimum(Params("bbox").iouThrs, 1 - 1e-10)
MOST = 100  # detections of an image and category that COCO looks at
CHUNK = 256  # groups at a time


class Boxes(NamedTuple):
    """Detections or objects as columns, sorted by category and image.

    Attributes:
        image: (N,) image number.
        category: (N,) category id.
        xywh: (N, 4) float64 left, top, width, height in pixels.
    """

    image: np.ndarray
    category: np.ndarray
    xywh: np.ndarray


class Group(NamedTuple):
    """Detections and objects of one category in one image: where they begin and end in their columns."""

    first_found: int
    end_found: int
    first_shown: int
    end_shown: int


def match_boxes(found: Boxes, shown: Boxes, crowd: np.ndarray, ignored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which detections match, by COCO's greedy rule: best score first, each takes the object it overlaps most.

    Args:
        found: D detections; of one image and category in descending order of their score.
        shown: N objects.
        crowd: (N,) bool, `iscrowd`: may be matched any number of times, and overlap is counted within the detection.
        ignored: (N,) bool, objects that do not count: matched only where no other fits.

    Returns:
        (T, D) bool, what is matched at each IoU threshold; and (T, D) bool, what is matched to an ignored object.
    """
    matched, to_ignored = np.zeros((2, len(THRESHOLDS), len(found.image)), dtype=bool)
    groups = sorted(_groups(found, shown), key=lambda g: (g.end_shown - g.first_shown, g.end_found - g.first_found))
    for start in range(0, len(groups), CHUNK):
        part = groups[start : start + CHUNK]
        overlap, crowds, ignores = _padded(part, found, shown, crowd, ignored)
        for kept, every in zip(_greedy(overlap, crowds, ignores), (matched, to_ignored)):
            for group, row in zip(part, kept):
                count = group.end_found - group.first_found
                every[:, group.first_found : group.end_found] = row[:, :count]
    return matched, to_ignored


def _groups(found: Boxes, shown: Boxes) -> list[Group]:
    """Those with both."""
    span = 1 + max(found.image.max(initial=0), shown.image.max(initial=0))
    keys = [boxes.category * span + boxes.image for boxes in (found, shown)]
    common = np.intersect1d(*keys)
    ends = [found for key in keys for found in (np.searchsorted(key, common), np.searchsorted(key, common, "right"))]
    return [Group(*row) for row in np.stack(ends, axis=1).tolist()]


def _padded(
    groups: list[Group], found: Boxes, shown: Boxes, crowd: np.ndarray, ignored: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(K, D, N) overlap, -1 where there is nothing; (K, N) crowd and (K, N) ignored."""
    most_found = max(g.end_found - g.first_found for g in groups)
    most_shown = max(g.end_shown - g.first_shown for g in groups)
    overlap = np.full((len(groups), most_found, most_shown), -1.0)
    crowds, ignores = np.zeros((2, len(groups), most_shown), dtype=bool)
    for number, (first, end, first_shown, end_shown) in enumerate(groups):
        objects = slice(first_shown, end_shown)
        count = end_shown - first_shown
        pairs = mask.iou(found.xywh[first:end], shown.xywh[objects], crowd[objects].tolist())
        overlap[number, : end - first, :count] = pairs
        crowds[number, :count], ignores[number, :count] = crowd[objects], ignored[objects]
    return overlap, crowds, ignores


def _greedy(overlap: np.ndarray, crowd: np.ndarray, ignored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K, D, N), (K, N), (K, N) -> (K, T, D) matched, and matched to an ignored object."""
    groups, most_found, most_shown = overlap.shape
    matched, to_ignored = np.zeros((2, groups, len(THRESHOLDS), most_found), dtype=bool)
    taken = np.zeros((groups, len(THRESHOLDS), most_shown), dtype=bool)
    for number in range(most_found):
        here = overlap[:, None, number]
        fits = (here >= THRESHOLDS[:, None]) & ~taken
        place, hit = _last_best(np.where(fits & ~ignored[:, None], here, -1.0))
        if ignored.any():
            second, second_hit = _last_best(np.where(fits & ignored[:, None], here, -1.0))
            to_ignored[..., number] = second_hit & ~hit
            place, hit = np.where(hit, place, second), hit | second_hit
        matched[..., number] = hit
        group, threshold = np.nonzero(hit)
        at = place[group, threshold]
        taken[group, threshold, at] = ~crowd[group, at]
    return matched, to_ignored


def _last_best(value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K, T, N) -> (K, T) place of the largest value, the last of equal ones as in pycocotools; and if it is one."""
    place = value.shape[-1] - 1 - np.argmax(value[..., ::-1], axis=-1)
    return place, np.take_along_axis(value, place[..., None], axis=-1)[..., 0] >= 0
