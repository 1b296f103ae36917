"""What the last detections say about the next frame, as numbers: the input of the stream head."""

from __future__ import annotations

import numpy as np

from dualres_plugin.budget.stream.motion import Objects, iou

SURE, SEEN = 0.5, 0.25  # detection scores; the second, the hosts' own display limit, is the least that counts
SIDES = (0.06, 0.16)  # of small and of medium objects: square root of the area, as a share of the frame's
SMALLEST = 0.01  # of sides that are told apart
OLDEST = 30  # frames; ages count up to here, and what is older is forgotten
OF_OBJECTS = ("present", "age", "sure_small", "sure_medium", "sure_large", "smallest_sure", "doubt", "motion")
OF_BOTH = ("compared", "lost", "lost_age", "change")
NAMES = (*(f"{size}_{name}" for size in ("high", "low") for name in OF_OBJECTS), *OF_BOTH)


def of_objects(seen: Objects | None, age: int) -> list[float]:
    """The part of the features that tells of the detections at one size.

    Args:
        seen: the last ones at that size in this scene; None where there were none.
        age: frames since then.

    Returns:
        One number for each of `OF_OBJECTS`, all 0 without detections: 1; the age as a share of `OLDEST`; log(1 + count)
        of sure objects by size; -log of the side of the smallest sure one; the root of the summed s (1 - s) of their
        scores s; and the mean speed. Scores below `SEEN` do not count: hosts give them, or do not.
    """
    if seen is None:
        return [0.0] * len(OF_OBJECTS)
    seen = seen.of_at_least(SEEN)
    wide, tall = np.clip(seen.boxes[:, 2:] - seen.boxes[:, :2], 0, None).T
    sides = np.sqrt(wide * tall)
    sure = seen.scores >= SURE
    counts = np.log1p(np.bincount(np.digitize(sides[sure], SIDES), minlength=3))
    smallest = -np.log(max(float(sides[sure].min()), SMALLEST)) if sure.any() else 0.0
    doubt = np.sqrt((seen.scores * (1 - seen.scores)).sum())
    return [1.0, min(age, OLDEST) / OLDEST, *map(float, counts), float(smallest), float(doubt), speed(seen)]


def speed(seen: Objects) -> float:
    """How fast objects go on average, in their own lengths per frame; at most 1 each."""
    wide, tall = (seen.boxes[:, 2:] - seen.boxes[:, :2]).T
    counted = (seen.scores >= SEEN) & (wide > 0) & (tall > 0)
    if not counted.any():
        return 0.0
    centre = (seen.velocity[counted, :2] + seen.velocity[counted, 2:]) / 2
    lengths = np.hypot(centre[:, 0] / wide[counted], centre[:, 1] / tall[counted])
    return float(np.minimum(lengths, 1.0).mean())


def lost(low: Objects, high: Objects) -> float:
    """How much of what the large size found the small one did not: the gain, measured on the scene itself.

    Args:
        low, high: detections of both sizes, moved to one time.

    Returns:
        At least 0; the `agreement` gain of profiles: the weight of the high detections that low does not find again
        with the same class, graded by IoU, over the root of all weight.
    """
    low, high = low.of_at_least(SEEN), high.of_at_least(SEEN)
    if not len(high):
        return 0.0
    weight = high.scores.astype(np.float64)
    if not len(low):
        return float(np.sqrt(weight.sum()))
    overlap = iou(high.boxes, low.boxes)
    overlap[high.labels[:, None] != low.labels[None]] = 0
    graded = np.clip((overlap - 0.5) / 0.5, 0, 1) * np.minimum(1.0, low.scores[None] / weight[:, None])
    missed = weight * (1 - graded.max(axis=1))
    return float(missed.sum() / np.sqrt(weight.sum()))
