"""COCO's matching on a profile: which detections are hits, misses or neither, at every IoU threshold."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from dualres_plugin.profile.coco_greedy import MOST, Boxes, match_boxes
from dualres_plugin.profile.table import Profile

AT_ONCE = 1000  # images
OF_ANY_AREA = ("shown_image", "shown_category", "image", "category", "score")  # held once for all areas


class Matched(NamedTuple):
    """What was matched in one pass, as columns.

    Attributes:
        shown_image, shown_category, shown: (K,) how many objects an image shows of a category, 0 too.
        image: (D,) image number of each detection.
        category: (D,) its category id.
        score: (D,) its score.
        hit, miss: (D,) uint16, bit t for each IoU threshold: true and false positives; ignored ones are neither.
    """

    shown_image: np.ndarray
    shown_category: np.ndarray
    shown: np.ndarray
    image: np.ndarray
    category: np.ndarray
    score: np.ndarray
    hit: np.ndarray
    miss: np.ndarray


def match(profile: Profile, rows: np.ndarray, which: str, area: tuple[float, float]) -> Matched:
    """What matches what, as in pycocotools. The profile keeps the answers, because matching takes longest.

    Args:
        profile: a labelled profile; `profile.matched` grows.
        rows: (n,) row numbers.
        which: "low" or "high".
        area: least and most area of the objects that count, in square pixels.

    Returns:
        Its detections and objects; image numbers are 0 to n - 1.
    """
    key = (blake2b(rows.tobytes()).digest(), which, area)
    if key not in profile.matched:
        # Matching is an image's own matter, so a part of the images at a time gives the same in less memory.
        starts = range(0, max(1, len(rows)), AT_ONCE)
        parts = [_match_part(profile, rows[i : i + AT_ONCE], which, area, i) for i in starts]
        fresh = Matched(*(np.concatenate(column) for column in zip(*parts)))
        before = next((m for k, m in profile.matched.items() if k[:2] == key[:2]), fresh)
        profile.matched[key] = fresh._replace(**{name: getattr(before, name) for name in OF_ANY_AREA})
    found: Matched = profile.matched[key]
    return found


def _match_part(profile: Profile, rows: np.ndarray, which: str, area: tuple[float, float], first: int) -> Matched:
    found, scores = _found(profile, rows, which)
    shown, sizes, crowd = _shown(profile, rows)
    ignored = crowd | (sizes < area[0]) | (sizes > area[1])
    matched, to_ignored = match_boxes(found, shown, crowd, ignored)
    found_sizes = found.xywh[:, 2] * found.xywh[:, 3]
    outside = (found_sizes < area[0]) | (found_sizes > area[1])
    hit, miss = _to_bits(matched & ~to_ignored), _to_bits(~matched & ~outside)
    keys = [boxes.category * len(rows) + boxes.image for boxes in (found, shown)]
    records = np.unique(np.concatenate(keys))  # by category, then image, as pycocotools has them
    objects = np.bincount(np.searchsorted(records, keys[1]), ~ignored, minlength=len(records))
    category, image = np.divmod(records, max(1, len(rows)))
    numbers = (image + first, category, objects, found.image + first, found.category)
    bits = hit.astype(np.uint16), miss.astype(np.uint16)
    return Matched._make([*(n.astype(np.int32) for n in numbers), scores, *bits])


def _found(profile: Profile, rows: np.ndarray, which: str) -> tuple[Boxes, np.ndarray]:
    """The detections that COCO looks at, highest score first within image and category; and their (D,) scores."""
    each = [profile.detections(which, int(row)) for row in rows]
    scores = np.concatenate([np.zeros(0, np.float32), *(found.scores for found in each)])
    boxes, order = _sorted(profile, [e.boxes for e in each], [e.labels for e in each], -scores)
    key = boxes.category * len(rows) + boxes.image
    rank = np.arange(len(key)) - np.searchsorted(key, key)
    best = np.flatnonzero(rank < MOST)
    return Boxes(*(column[best] for column in boxes)), scores[order][best]


def _shown(profile: Profile, rows: np.ndarray) -> tuple[Boxes, np.ndarray, np.ndarray]:
    """The objects; their (N,) areas in square pixels, and (N,) bool which are crowds."""
    each = [profile.targets(int(row)) for row in rows]
    sizes = np.concatenate([np.zeros(0, np.float32), *(profile.area(int(row)) for row in rows)])
    crowd = np.concatenate([np.zeros(0, dtype=bool), *(targets.ignore for targets in each)])
    boxes, order = _sorted(profile, [t.boxes for t in each], [t.labels for t in each], np.zeros(len(sizes)))
    return boxes, sizes[order].astype(np.float64), crowd[order]


def _sorted(
    profile: Profile, boxes: list[np.ndarray], labels: list[np.ndarray], then: np.ndarray
) -> tuple[Boxes, np.ndarray]:
    """Boxes of each image -> those of known categories by category, image and `then`; and their order."""
    image = np.repeat(np.arange(len(labels)), [len(of) for of in labels])
    category = np.concatenate([np.zeros(0, np.int64), *labels])
    order = np.lexsort((then, image, category))
    order = order[np.isin(category[order], list(profile.categories))]
    xyxy = np.concatenate([np.zeros((0, 4)), *boxes])[order]  # float64: as pycocotools takes differences
    xywh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)
    return Boxes(image[order], category[order], xywh), order


def _to_bits(flags: np.ndarray) -> np.ndarray:
    """(T, D) bool -> (D,) int, bit t for threshold t."""
    bits: np.ndarray = (flags * (1 << np.arange(len(flags)))[:, None]).sum(axis=0)
    return bits


def from_bits(bits: np.ndarray, thresholds: int = 10) -> np.ndarray:
    """The flags that `Matched` holds as bits.

    Args:
        bits: (D,) uint16.
        thresholds: T, how many flags each has.

    Returns:
        (T, D) bool.
    """
    flags: np.ndarray = (bits[None] >> np.arange(thresholds, dtype=np.uint16)[:, None] & 1).astype(bool)
    return flags
