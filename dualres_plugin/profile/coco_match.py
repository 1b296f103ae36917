"""pycocotools on a profile: its ground truth, its detections, and which of them match."""

from __future__ import annotations

import contextlib
import io
from typing import Any, NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dualres_plugin.profile.table import Profile

AT_ONCE = 1000  # images that pycocotools gets


class Matched(NamedTuple):
    """What pycocotools matched in one pass, as columns.

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


def coco_of(profile: Profile, rows: np.ndarray) -> COCO:
    """The ground truth of some rows as a pycocotools object; image ids are 1 to n.

    Args:
        profile: a labelled profile.
        rows: (n,) row numbers.

    Returns:
        The ground truth, indexed.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, row in enumerate(rows, 1):
        targets, areas = profile.targets(int(row)), profile.area(int(row))
        images.append({"id": number})
        for box, category, ignore, area in zip(targets.boxes, targets.labels, targets.ignore, areas):
            x0, y0, x1, y1 = map(float, box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(category),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": float(area),
                    "iscrowd": int(ignore),
                }
            )
    coco = COCO()
    coco.dataset = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": n} for i, n in profile.categories.items()],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def coco_results(profile: Profile, rows: np.ndarray, which: str) -> list[dict[str, Any]]:
    """The detections of some rows in COCO's result format; image ids are 1 to n.

    Args:
        profile: the detector's results.
        rows: (n,) row numbers.
        which: "low" or "high".

    Returns:
        One entry per detection; boxes are x, y, width, height in pixels.
    """
    results = []
    for number, row in enumerate(rows, 1):
        found = profile.detections(which, int(row))
        for box, score, category in zip(found.boxes.astype(float), found.scores, found.labels):
            x0, y0, x1, y1 = box
            results.append(
                {
                    "image_id": number,
                    "category_id": int(category),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "score": float(score),
                }
            )
    return results


def evaluate_coco(profile: Profile, rows: np.ndarray, which: str, area: tuple[float, float] | None = None) -> COCOeval:
    """pycocotools' own evaluation of one resolution, matched but not accumulated.

    Args:
        profile: a labelled profile.
        rows: (n,) row numbers.
        which: "low" or "high".
        area: least and most area of the objects that count, in square pixels; COCO's four ranges by default.

    Returns:
        The evaluation; its `evalImgs` are per image, category and area.
    """
    truth = coco_of(profile, rows)
    results = coco_results(profile, rows, which)
    with contextlib.redirect_stdout(io.StringIO()):
        found = truth.loadRes(results) if results else COCO()
        evaluator = COCOeval(truth, found, "bbox")
        evaluator.params.maxDets = [1, 10, 100]  # COCO's own
        if area is not None:
            evaluator.params.areaRng, evaluator.params.areaRngLbl = [list(area)], ["this"]
        evaluator.evaluate()
    return evaluator


def match(profile: Profile, rows: np.ndarray, which: str, area: tuple[float, float]) -> Matched:
    """What pycocotools matched. The profile keeps the answers, because matching takes longest.

    Args:
        profile: a labelled profile; `profile.matched` grows.
        rows: (n,) row numbers.
        which: "low" or "high".
        area: least and most area of the objects that count, in square pixels.

    Returns:
        Its detections and objects; image numbers are 0 to n - 1.
    """
    key = (rows.tobytes(), which, area)
    if key not in profile.matched:
        # Matching is an image's own matter, so a part of the images at a time gives the same in less memory.
        starts = range(0, max(1, len(rows)), AT_ONCE)
        parts = [_match_part(profile, rows[i : i + AT_ONCE], which, area, i) for i in starts]
        profile.matched[key] = Matched(*(np.concatenate(column) for column in zip(*parts)))
    found: Matched = profile.matched[key]
    return found


def _match_part(profile: Profile, rows: np.ndarray, which: str, area: tuple[float, float], first: int) -> Matched:
    shown, found = [np.zeros((3, 0), np.int32)], [np.zeros((4, 0), np.int32)]
    scores = [np.zeros(0, np.float32)]
    for record in evaluate_coco(profile, rows, which, area).evalImgs:
        if record is None:
            continue
        image, category = record["image_id"] - 1 + first, record["category_id"]
        objects = int(np.sum(np.asarray(record["gtIgnore"]) == 0))
        shown.append(np.array([[image], [category], [objects]], dtype=np.int32))
        n = len(record["dtScores"])
        if n:
            matched = np.asarray(record["dtMatches"]).reshape(-1, n) > 0
            counted = ~np.asarray(record["dtIgnore"], dtype=bool).reshape(-1, n)
            owner = np.repeat([[image], [category]], n, axis=1)
            found.append(np.stack([*owner, _to_bits(matched & counted), _to_bits(~matched & counted)]).astype(np.int32))
            scores.append(np.asarray(record["dtScores"], dtype=np.float32))
    shown_image, shown_category, count = np.concatenate(shown, axis=1)
    image, category, hit, miss = np.concatenate(found, axis=1)
    bits = hit.astype(np.uint16), miss.astype(np.uint16)
    return Matched(shown_image, shown_category, count, image, category, np.concatenate(scores), *bits)


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
