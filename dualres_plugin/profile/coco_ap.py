"""COCO AP of any mix of detections at several sizes, without matching again.

pycocotools matches detections to objects once per size. What it stores is per image, so the AP of every mix
follows from sorting and summing alone. `tests/profile/test_coco_ap.py` holds this equal to `COCOeval.accumulate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dualres_plugin.common.errors import DualResError
from dualres_plugin.profile.coco_greedy import THRESHOLDS
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
        hit, miss: (D,) uint16, bit t for each IoU threshold: true and false positives; ignored ones are neither.
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
            self.matches, np.asarray(route, dtype=np.int8), np.ones(self.n) if weights is None else weights
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
    category, weight, hit, miss = _used(m, route, weights)
    start = np.searchsorted(category, np.arange(len(objects)))  # where each category begins
    last = _last_group(category, hit, len(objects))
    if last < 0:
        return 0.0
    gained, done = np.empty(len(THRESHOLDS) * np.count_nonzero(hit)), 0  # at most; what is not written takes no memory
    for threshold in range(len(THRESHOLDS)):  # one after the other: running sums of all at once are ten times as large
        at = _places(hit, threshold)
        if len(at):
            of = category[at]
            tp, fp = np.cumsum(weight[at]), np.cumsum((miss & 1 << threshold != 0) * weight)
            before = _before(tp, np.searchsorted(at, start))[of], _before(fp, start)[of]
            tp, fp = tp - before[0], fp[at] - before[1]
            group = threshold * len(objects) + of.astype(np.int64)
            gained[done : done + len(at)] = _gained(group, tp / objects[of], tp / (tp + fp), 2.0 * (last - group))
            done += len(at)
    return float(gained[:done].sum() / (len(RECALLS) * len(THRESHOLDS) * present.sum()))


def _used(m: Matches, route: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of the detections that count: category, weight, hit and miss."""
    used = np.flatnonzero((route[m.image] == m.source) & (weights > 0)[m.image])
    return m.category[used], weights[m.image[used]], m.hit[used], m.miss[used]


def _last_group(category: np.ndarray, hit: np.ndarray, categories: int) -> int:
    """Number of the last (threshold, category) with a hit; -1 where there is none."""
    for threshold in reversed(range(len(THRESHOLDS))):
        at = _places(hit, threshold)
        if len(at):
            return threshold * categories + int(category[at[-1]])
    return -1


def _places(bits: np.ndarray, threshold: int) -> np.ndarray:
    """Where this threshold's bit is set."""
    return np.flatnonzero(bits & 1 << threshold != 0)  # of bools, which NumPy finds much faster than of numbers


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
    return np.where(start > 0, cumulated[start - 1], 0.0)


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
    names = ("image", "category", "score", "hit", "miss")
    image, category, score, hit, miss = (np.concatenate([getattr(m, name) for m in matches]) for name in names)
    source = np.repeat(np.arange(len(matches), dtype=np.int8), [len(m.image) for m in matches])
    number = np.searchsorted(known.categories, category).astype(np.int32)
    # Highest score first; ties in image order, as pycocotools' stable sort leaves them.
    order = np.lexsort((image, -score, number))
    order = order[np.isin(category, known.categories)[order]]  # COCO leaves other categories out of the mean
    return Matches(image[order], source[order], score[order], number[order], hit[order], miss[order], known, n)


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
