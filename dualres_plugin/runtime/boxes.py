"""From a detector's output to boxes, in numpy: thresholds and non-maximum suppression as the hosts do it."""

from __future__ import annotations

import numpy as np

from dualres_plugin.common.card import Postprocess


def nms(boxes: np.ndarray, scores: np.ndarray, iou: float, limit: int) -> np.ndarray:
    """Greedy non-maximum suppression.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,).
        iou: overlap above which the weaker box goes.
        limit: stop after so many.

    Returns:
        Indices of the kept boxes, best first.
    """
    left = np.argsort(-scores, kind="stable")
    x0, y0, x1, y1 = (np.ascontiguousarray(boxes[:, i]) for i in range(4))
    areas = (x1 - x0) * (y1 - y0)
    kept: list[int] = []
    while len(left) and len(kept) < limit:
        best, left = left[0], left[1:]
        kept.append(int(best))
        w = np.minimum(x1[left], x1[best]) - np.maximum(x0[left], x0[best])
        h = np.minimum(y1[left], y1[best]) - np.maximum(y0[left], y0[best])
        shared = np.maximum(w, 0) * np.maximum(h, 0)
        with np.errstate(invalid="ignore", divide="ignore"):  # two empty boxes: no overlap
            left = left[~(shared / (areas[best] + areas[left] - shared) > iou)]
    return np.array(kept, dtype=np.int64)


def select(
    found: np.ndarray, how: Postprocess, conf: float, iou: float, edges: tuple[float, ...] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes above a score, without overlaps where the host removes them, best first.

    Args:
        found: the graph's `detections`, in the layout that `how` tells.
        how: what the host does after its network.
        conf: detections up to this score are left out.
        iou: overlap above which the weaker of two boxes of a class goes.
        edges: (x0, y0, x1, y1) in network pixels that boxes are clipped to before NMS, for hosts that do so.

    Returns:
        (N, 4) xyxy boxes in network pixels, (N,) scores and (N,) labels.
    """
    if how.layout == "rows":
        rows = found[0]
        rows = rows[rows[:, 4] > conf]
        boxes, scores, labels = rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64)
    else:
        boxes, scores, labels = _candidates(found[0], how, conf)
    if edges is not None:
        boxes = np.clip(boxes, np.array(edges[:2] * 2, boxes.dtype), np.array(edges[2:] * 2, boxes.dtype))
    if how.drop_empty:
        full = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        boxes, scores, labels = boxes[full], scores[full], labels[full]
    if not how.nms:
        order = np.argsort(-scores, kind="stable")[: how.max_det]
    else:
        # One NMS for all classes: an offset keeps boxes of different classes apart.
        offset = np.float32(how.offset or boxes.max(initial=0) + 1)
        order = nms(boxes + labels[:, None].astype(np.float32) * offset, scores, iou, how.max_det)
    return boxes[order], scores[order], labels[order]


def _candidates(anchors: np.ndarray, how: Postprocess, conf: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores = anchors[4:]
    if how.multi_label:
        label, anchor = np.nonzero(scores > conf)
        best = scores[label, anchor]
    else:
        anchor = np.nonzero(scores.max(axis=0) > conf)[0]
        label = scores[:, anchor].argmax(axis=0) if len(anchor) else np.zeros(0, dtype=np.int64)
        best = scores[label, anchor]
    if len(best) > how.candidates:
        top = np.argsort(-best, kind="stable")[: how.candidates]
        anchor, label, best = anchor[top], label[top], best[top]
    boxes = anchors[:4, anchor].T
    if how.boxes == "xywh":
        half = boxes[:, 2:] / 2
        boxes = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    return boxes.astype(np.float32), best, label
