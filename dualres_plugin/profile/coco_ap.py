"""COCO AP of any mix of detections at several sizes, without matching again.

pycocotools matches detections to objects once per size. What it stores is per image, so the AP of every mix
follows from sorting and summing alone. `tests/profile/test_coco_ap.py` holds this equal to `COCOeval.accumulate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dualres_plugin.common.errors import DualResError
from dualres_plugin.profile.coco_match import Matched, from_bits, match
from dualres_plugin.profile.passes import HIGH, LOW
from dualres_plugin.profile.table import Profile

RECALLS = np.linspace(0, 1, 101)  # COCO's
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


@dataclass(frozen=True)
class Objects:
    """How many objects of a category an image has, where it has any.

    Attributes:
        categories: (C,) category ids.
        category: (K,) number of a category.
        image: (K,) number of an image.
        count: (K,) how many.
    """

    categories: np.ndarray
    category: np.ndarray
    image: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class Matches:
    """All detections of all passes, by category and then highest score first.

    Attributes:
        image: (D,) image number of each detection.
        source: (D,) number of the pass that it comes from.
        score: (D,) its score.
        category: (D,) number of its category.
        hit, miss: (T, D) bool, true and false positives at each IoU threshold; ignored ones are neither.
        held: what objects the images have.
        n: how many images.
    """

    image: np.ndarray
    source: np.ndarray
    score: np.ndarray
    category: np.ndarray
    hit: np.ndarray
    miss: np.ndarray
    held: Objects
    n: int

    @property
    def objects(self) -> np.ndarray:
        """(C, I) how many objects of each category each image has."""
        dense = np.zeros((len(self.held.categories), self.n))
        dense[self.held.category, self.held.image] = self.held.count
        return dense


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
        if not len(self.matches.held.categories):
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
    held = m.held
    objects = np.bincount(held.category, weights[held.image] * held.count, minlength=len(held.categories))
    present = objects > 0  # COCO leaves categories without objects out of the mean
    if not present.any():
        return float("nan")
    used = np.flatnonzero((route[m.image] == m.source) & (weights[m.image] > 0))
    category, weight = m.category[used], weights[m.image[used]]
    start = np.searchsorted(category, np.arange(len(objects)))  # where each category begins
    places = [np.flatnonzero(hit[used]) for hit in m.hit]
    last = max((t * len(objects) + int(category[at[-1]]) for t, at in enumerate(places) if len(at)), default=-1)
    if last < 0:
        return 0.0
    gained = []
    for threshold, at in enumerate(places):  # one after the other: running sums of all at once are ten times as large
        if len(at):
            of = category[at]
            tp, fp = np.cumsum(weight[at]), np.cumsum(m.miss[threshold, used] * weight)
            before = _before(tp, np.searchsorted(at, start))[of], _before(fp, start)[of]
            tp, fp = tp - before[0], fp[at] - before[1]
            group = threshold * len(objects) + of.astype(np.int64)
            gained.append(_gained(group, tp / objects[of], tp / (tp + fp), 2.0 * (last - group)))
    return float(np.concatenate(gained).sum() / (len(RECALLS) * len(m.hit) * present.sum()))


def _gained(group: np.ndarray, recall: np.ndarray, precision: np.ndarray, lift: np.ndarray) -> np.ndarray:
    """(H,) what each hit adds: the best precision from it on, within its group, times the recall points it stands for.

    `lift` takes later groups out of the way: it falls by 2 from each group to the next.
    """
    best = np.maximum.accumulate((precision + lift)[::-1])[::-1] - lift
    reached = np.searchsorted(RECALLS, recall, side="right")
    first = np.diff(group, prepend=-1) != 0
    return np.asarray(best * (reached - np.where(first, 0, np.roll(reached, 1))))


def _before(cumulated: np.ndarray, start: np.ndarray) -> np.ndarray:
    """(C,) value of a running sum just before each start."""
    padded = np.concatenate([[0.0], cumulated])
    return np.asarray(padded[start])


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
    known = _objects(matches)
    every = [np.concatenate([getattr(m, name) for m in matches]) for name in ("image", "category", "score")]
    image, category, score = every
    source = np.repeat(np.arange(len(matches), dtype=np.int8), [len(m.image) for m in matches])
    number = np.searchsorted(known.categories, category)
    chosen = np.flatnonzero(np.isin(category, known.categories))  # COCO leaves other categories out of the mean
    # Highest score first; ties in image order, as pycocotools' stable sort leaves them.
    chosen = chosen[np.lexsort((image[chosen], -score[chosen], number[chosen]))]
    hit, miss = (from_bits(np.concatenate([getattr(m, name) for m in matches])[chosen]) for name in ("hit", "miss"))
    return Matches(
        image[chosen], source[chosen], score[chosen].astype(np.float64), number[chosen].astype(np.int32), hit, miss,
        known, n,
    )  # fmt: skip


def _objects(matches: Sequence[Matched]) -> Objects:
    """What the images show; every pass says the same of it."""
    first = matches[0]
    there = first.shown > 0
    categories, number = np.unique(first.shown_category[there], return_inverse=True)
    return Objects(categories, number, first.shown_image[there], first.shown[there])


def per_image_ap(profile: Profile, rows: np.ndarray, which: str) -> np.ndarray:
    """AP@[.5:.95] of each image alone, averaged over the categories that it shows.

    Args:
        profile: a labelled profile.
        rows: (n,) row numbers.
        which: "low" or "high".

    Returns:
        (n,) AP in [0, 1]; NaN without objects.
    """
    found = match(profile, np.asarray(rows), which, AREAS["all"])
    order = np.lexsort((found.image, found.category))
    owner = found.category[order].astype(np.int64) * len(rows) + found.image[order]
    sums, counts = np.zeros(len(rows)), np.zeros(len(rows))
    known = np.flatnonzero(found.shown)
    for record in known[np.lexsort((found.shown_image[known], found.shown_category[known]))]:
        number = found.shown_image[record]
        counts[number] += 1
        key = int(found.shown_category[record]) * len(rows) + number
        of = order[np.searchsorted(owner, key) : np.searchsorted(owner, key, side="right")]
        if len(of):
            of = of[np.argsort(-found.score[of], kind="stable")]
            tp, fp = (from_bits(bits[of]).cumsum(axis=1).astype(float) for bits in (found.hit, found.miss))
            sums[number] += _interpolated_ap(tp, fp, found.shown[record]).mean()
    values = np.full(len(rows), np.nan)
    seen = counts > 0
    values[seen] = sums[seen] / counts[seen]
    return values
