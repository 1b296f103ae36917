"""COCO AP of any mix of detections at several sizes, without matching again.

pycocotools matches detections to objects once per size. What it stores is per image, so the AP of every mix
follows from sorting and summing alone. `tests/profile/test_coco_ap.py` holds this equal to `COCOeval.accumulate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dualres_plugin.common.errors import DualResError
from dualres_plugin.profile.coco_match import Matched, match
from dualres_plugin.profile.passes import HIGH, LOW
from dualres_plugin.profile.table import Profile

RECALLS = np.linspace(0, 1, 101)  # COCO's
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


@dataclass(frozen=True)
class Matches:
    """All detections of all passes, by category and then highest score first.

    Attributes:
        image: (D,) image number of each detection.
        source: (D,) number of the pass that it comes from.
        score: (D,) its score.
        category: (D,) number of its category.
        hit, miss: (T, D) bool, true and false positives at each IoU threshold; ignored ones are neither.
        objects: (C, I) how many objects of each category each image has.
    """

    image: np.ndarray
    source: np.ndarray
    score: np.ndarray
    category: np.ndarray
    hit: np.ndarray
    miss: np.ndarray
    objects: np.ndarray


class MixedAP:
    """AP of routed detections, for any route per image and any image weights.

    Args:
        profile: a labelled profile.
        rows: which rows are the images; the originals by default.
        area: "all", "small", "medium" or "large" objects, by COCO's limits.
        passes: names of the passes to mix; a route is a number among them.

    Attributes:
        n: how many images.
        passes: the names that were given.
        matches: what pycocotools matched.

    Raises:
        DualResError: If the profile has no labels or no objects.
    """

    def __init__(
        self,
        profile: Profile,
        rows: np.ndarray | None = None,
        area: str = "all",
        passes: Sequence[str] = (LOW, HIGH),
    ):
        if not profile.labelled:
            raise DualResError(f"profile '{profile.path}' has no labels: AP needs a profile made with annotations.")
        self.rows = profile.originals if rows is None else np.asarray(rows)
        self.n = len(self.rows)
        self.passes = tuple(passes)
        self.matches = _join([match(profile, self.rows, name, AREAS[area]) for name in passes], self.n)
        if not len(self.matches.objects):
            raise DualResError(f"profile '{profile.path}' has no labelled objects: AP cannot be measured.")

    def ap(self, route: np.ndarray, weights: np.ndarray | None = None) -> float:
        """AP@[.5:.95] when each image uses the detections of one pass.

        Args:
            route: (n,) number of the pass for each image; of low and high, a bool that marks high.
            weights: (n,) how often each image counts (bootstrap); once by default.

        Returns:
            AP in [0, 1]; NaN where no weighted image shows an object.
        """
        return _mixed_ap(
            self.matches, np.asarray(route, dtype=np.int64), np.ones(self.n) if weights is None else weights
        )

    def ends(self, weights: np.ndarray | None = None) -> tuple[float, float]:
        """AP of the two ends of every curve.

        Args:
            weights: (n,) how often each image counts; once by default.

        Returns:
            AP with all images at low, and with all at high, in [0, 1].
        """
        return self.ap(np.zeros(self.n, bool), weights), self.ap(np.ones(self.n, bool), weights)


def _mixed_ap(m: Matches, route: np.ndarray, weights: np.ndarray) -> float:
    """Interpolated AP of every (threshold, category) at once, by their hits alone.

    Precision peaks at hits, so COCO's 101 recall points are shared out among the hits: each stands for the points
    between the recall before it and its own, at the best precision from there on.
    """
    objects = m.objects @ weights
    present = objects > 0  # COCO leaves categories without objects out of the mean
    if not present.any():
        return float("nan")
    used = np.flatnonzero(route[m.image] == m.source)
    category, weight = m.category[used], weights[m.image[used]]
    hit = m.hit[:, used] & (weight > 0)
    tp, fp = np.cumsum(hit * weight, axis=1), np.cumsum(m.miss[:, used] * weight, axis=1)
    start = np.searchsorted(category, np.arange(len(objects)))  # where each category begins
    tp -= _before(tp, start)[:, category]
    fp -= _before(fp, start)[:, category]
    t, d = np.nonzero(hit)
    if not len(t):
        return 0.0
    group = t * len(objects) + category[d]
    recall, precision = tp[t, d] / objects[category[d]], tp[t, d] / (tp[t, d] + fp[t, d])
    # The best precision from each hit on, within its group: later groups are lifted out of the way.
    lift = 2.0 * (group[-1] - group)
    best = np.maximum.accumulate((precision + lift)[::-1])[::-1] - lift
    reached = np.searchsorted(RECALLS, recall, side="right")
    first = np.diff(group, prepend=-1) != 0
    gained = reached - np.where(first, 0, np.roll(reached, 1))
    return float((best * gained).sum() / (len(RECALLS) * len(m.hit) * present.sum()))


def _before(cumulated: np.ndarray, start: np.ndarray) -> np.ndarray:
    """(T, C) value of a running sum just before each start."""
    padded = np.concatenate([np.zeros((len(cumulated), 1)), cumulated], axis=1)
    return padded[:, start]


def _interpolated_ap(tp: np.ndarray, fp: np.ndarray, objects: float) -> np.ndarray:
    """(T, D) cumulated hits and misses -> (T,) AP, by COCO's 101 recall points."""
    recall = tp / objects
    precision = tp / np.maximum(tp + fp, np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    out = np.zeros(len(tp))
    for t in range(len(tp)):
        at = np.searchsorted(recall[t], RECALLS, side="left")
        at = at[at < recall.shape[1]]
        out[t] = envelope[t, at].sum() / len(RECALLS)
    return out


def _join(matches: Sequence[Matched], n: int) -> Matches:
    parts: list[tuple[np.ndarray, ...]] = []
    objects: list[np.ndarray] = []
    for category in sorted(set().union(*matches)):
        count, found = _of_category(matches, category, n)
        if count.sum():
            objects.append(count)
            number = np.full(len(found[0]), len(objects) - 1)
            parts.append((*found[:3], number, *found[3:]))
    if not objects:
        empty = np.zeros(0, dtype=np.int64)
        return Matches(
            empty, empty, np.zeros(0), empty, np.zeros((10, 0), bool), np.zeros((10, 0), bool), np.zeros((0, n))
        )
    image, source, score, number, hit, miss = (np.concatenate(column, axis=-1) for column in zip(*parts))
    return Matches(image, source, score, number, hit, miss, np.stack(objects))


def _of_category(matches: Sequence[Matched], category: int, n: int) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """(I,) object counts, and (image, source, score, hit, miss) of its detections, highest score first."""
    objects = np.zeros(n)
    image, source = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    score = np.zeros(0)
    hit, miss = np.zeros((10, 0), dtype=bool), np.zeros((10, 0), dtype=bool)
    columns: list[list[np.ndarray]] = [[image], [source], [score], [hit], [miss]]
    for which, found in enumerate(matches):
        for number, record in found.get(category, []):
            objects[number] = np.sum(np.asarray(record["gtIgnore"]) == 0)
            scores = np.asarray(record["dtScores"], dtype=np.float64)
            if not len(scores):
                continue
            matched = np.asarray(record["dtMatches"]).reshape(-1, len(scores)) > 0
            counted = ~np.asarray(record["dtIgnore"], dtype=bool).reshape(-1, len(scores))
            row = (
                np.full(len(scores), number),
                np.full(len(scores), which),
                scores,
                matched & counted,
                ~matched & counted,
            )
            for column, value in zip(columns, row):
                column.append(value)
    image, source, score, hit, miss = (np.concatenate(c, axis=-1) for c in columns)
    # Highest score first; ties in image order, as pycocotools' stable sort leaves them.
    order = np.lexsort((np.arange(len(score)), image, -score))
    return objects, (image[order], source[order], score[order], hit[:, order], miss[:, order])


def per_image_ap(profile: Profile, rows: np.ndarray, which: str) -> np.ndarray:
    """AP@[.5:.95] of each image alone, averaged over the categories that it shows.

    Args:
        profile: a labelled profile.
        rows: (n,) row numbers.
        which: "low" or "high".

    Returns:
        (n,) AP in [0, 1]; NaN without objects.
    """
    values = np.full(len(rows), np.nan)
    sums, counts = np.zeros(len(rows)), np.zeros(len(rows))
    for records in match(profile, np.asarray(rows), which, AREAS["all"]).values():
        for number, record in records:
            objects = int(np.sum(np.asarray(record["gtIgnore"]) == 0))
            if not objects:
                continue
            counts[number] += 1
            scores = np.asarray(record["dtScores"])
            if len(scores):
                matched = np.asarray(record["dtMatches"]).reshape(-1, len(scores)) > 0
                counted = ~np.asarray(record["dtIgnore"], dtype=bool).reshape(-1, len(scores))
                order = np.argsort(-scores, kind="stable")
                tp, fp = (m[:, order].cumsum(axis=1).astype(float) for m in (matched & counted, ~matched & counted))
                sums[number] += _interpolated_ap(tp, fp, objects).mean()
    shown = counts > 0
    values[shown] = sums[shown] / counts[shown]
    return values
