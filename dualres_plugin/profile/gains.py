"""Gains: what running high instead of low buys on one image. The router learns one of these.

A gain is a function of a profile and some of its rows that returns one number per row; NaN where it says nothing.
To add one, write the function and decorate it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torchvision.ops import box_iou

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.types import Detections
from dualres_plugin.profile.coco_ap import per_image_ap
from dualres_plugin.profile.table import Profile

Gain = Callable[[Profile, np.ndarray], np.ndarray]
GAINS: dict[str, Gain] = {}
NEEDS_LABELS = {"loss", "ap", "ap_objects", "matched"}
SURE = 0.25  # detections above this stand in for objects where there are no labels: the hosts' own display limit


def gain(name: str) -> Callable[[Gain], Gain]:
    """Register a gain under a name.

    Args:
        name: what the setting `gain` calls it.

    Returns:
        The decorator of a function (profile, (n,) row numbers) -> (n,) gains.
    """

    def register(function: Gain) -> Gain:
        GAINS[name] = function
        return function

    return register


def compute_gain(name: str, profile: Profile, rows: np.ndarray | None = None) -> np.ndarray:
    """Gain of each row.

    Args:
        name: one of `GAINS`.
        profile: the detector's results.
        rows: (n,) row numbers; all by default.

    Returns:
        (n,) what high buys, in the gain's own unit; NaN where it says nothing.

    Raises:
        DualResError: If the name is unknown, or the profile lacks the labels that this gain needs.
    """
    if name not in GAINS:
        raise DualResError(f"unknown gain '{name}'; known: {', '.join(GAINS)}.")
    if name in NEEDS_LABELS and not profile.labelled:
        raise DualResError(f"gain '{name}' needs labels, which profile '{profile.path}' has not: use 'agreement'.")
    return GAINS[name](profile, np.arange(len(profile)) if rows is None else np.asarray(rows))


@gain("loss")
def loss_gain(profile: Profile, rows: np.ndarray) -> np.ndarray:
    """L_low - L_high: the paper's signal (Eq. 5).

    Args:
        profile: a labelled profile.
        rows: (n,) row numbers.

    Returns:
        (n,) in the unit of the host's loss.
    """
    difference: np.ndarray = profile.column("loss_low") - profile.column("loss_high")
    return np.asarray(difference[rows], dtype=np.float64)


@gain("ap")
def ap_gain(profile: Profile, rows: np.ndarray) -> np.ndarray:
    """AP_high - AP_low of the image alone.

    Args:
        profile: a labelled profile.
        rows: (n,) row numbers.

    Returns:
        (n,) -1 to 1; NaN for images without objects.
    """
    difference: np.ndarray = per_image_ap(profile, rows, "high") - per_image_ap(profile, rows, "low")
    return difference


@gain("ap_objects")
def ap_objects_gain(profile: Profile, rows: np.ndarray) -> np.ndarray:
    """AP gain times the square root of the number of objects: crowded images weigh more in a data set's AP.

    Args:
        profile: a labelled profile.
        rows: (n,) row numbers.

    Returns:
        (n,); NaN for images without objects.
    """
    objects = np.array([np.sum(~profile.targets(int(r)).ignore) for r in rows])
    weighted: np.ndarray = ap_gain(profile, rows) * np.sqrt(objects)
    return weighted


@gain("matched")
def matched_gain(profile: Profile, rows: np.ndarray) -> np.ndarray:
    """Loss difference over matched foreground only (AdaScale): -log(score) + (1 - IoU) of each object's best match.

    Args:
        profile: a labelled profile.
        rows: (n,) row numbers.

    Returns:
        (n,); 0 for images without objects.
    """
    return np.array([_matched_loss(profile, r, "low") - _matched_loss(profile, r, "high") for r in map(int, rows)])


def _matched_loss(profile: Profile, row: int, which: str) -> float:
    targets, found = profile.targets(row), profile.detections(which, row)
    keep = ~targets.ignore
    boxes, labels = targets.boxes[keep], targets.labels[keep]
    worst = float(-np.log(1e-3)) + 1.0  # an object that nothing matches
    if not len(boxes):
        return 0.0
    if not len(found):
        return worst
    overlap = iou_matrix(boxes, found.boxes)
    overlap[labels[:, None] != found.labels[None]] = 0
    loss = np.where(overlap >= 0.5, -np.log(np.maximum(found.scores, 1e-3))[None] + (1 - overlap), worst)
    return float(loss.min(axis=1).mean())


@gain("agreement")
def agreement_gain(profile: Profile, rows: np.ndarray) -> np.ndarray:
    """How much of what high finds is lost at low. Needs no labels.

    Each high detection is a pseudo-object weighted by its score; the gain is the weight that low does not find again
    with the same class, graded by IoU as AP is, times how sure low is of it.

    Args:
        profile: the detector's results.
        rows: (n,) row numbers.

    Returns:
        (n,) at least 0; 0 where high finds nothing for sure.
    """
    return np.array(
        [_disagreement(profile.detections("low", r), profile.detections("high", r)) for r in map(int, rows)]
    )


def _disagreement(low: Detections, high: Detections) -> float:
    sure = high.scores >= SURE
    if not sure.any():
        return 0.0
    weight = high.scores[sure].astype(np.float64)
    if not len(low):
        return float(weight.sum() / np.sqrt(weight.sum()))
    overlap = iou_matrix(high.boxes[sure], low.boxes)
    overlap[high.labels[sure][:, None] != low.labels[None]] = 0
    graded = np.clip((overlap - 0.5) / 0.5, 0, 1) * np.minimum(1.0, low.scores[None] / weight[:, None])
    lost = weight * (1 - graded.max(axis=1))
    return float(lost.sum() / np.sqrt(weight.sum()))


@gain("score_mass")
def score_mass_gain(profile: Profile, rows: np.ndarray) -> np.ndarray:
    """Difference of the summed detection scores. Needs no labels.

    Args:
        profile: the detector's results.
        rows: (n,) row numbers.

    Returns:
        (n,) score of high minus score of low.
    """
    return np.array(
        [
            float(profile.detections("high", r).scores.sum() - profile.detections("low", r).scores.sum())
            for r in map(int, rows)
        ]
    )


def iou_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of every pair of boxes.

    Args:
        a: (N, 4) xyxy.
        b: (M, 4) xyxy.

    Returns:
        (N, M) in [0, 1]; 0 where neither box has an area.
    """
    overlap = box_iou(torch.tensor(a), torch.tensor(b))  # copies: profiles hold arrays that nobody may write to
    matrix: np.ndarray = overlap.nan_to_num(0.0).numpy()
    return matrix
