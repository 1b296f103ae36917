"""pycocotools itself on a profile: what the package's own matching is held equal to."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dualres_plugin.profile.table import Profile


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
