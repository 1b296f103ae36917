"""The AP of many routings on the same resamples of the images: what a paired interval is made of.

Both sides of a comparison get the same draw; where a draw repeats an image, it counts twice. Evaluating COCO's AP anew
for every draw would take hours for a frontier of a hundred routings, so detections are counted in cells of category and
score, once, and a draw is a weighted sum of cells.

Cells end at the scores of hits, where precision peaks. Up to `bins` different ones a category, nothing is lost (small
sets); beyond, neighbours share a cell, which moves an AP by some hundredths of a point, alike for all routings. What is
reported is the exact difference of the whole set, with the spread of the resampled differences around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dualres_plugin.profile.coco_ap import RECALLS, Matches, MixedAP
from dualres_plugin.profile.coco_greedy import THRESHOLDS
from dualres_plugin.profile.coco_match import from_bits

BINS = 128
CHUNK = 64  # resamples at a time: their cells fit into the processor's cache
MOVED = 2048  # images at a time: a detection is held in 8 bytes, and counted in some hundreds


@dataclass(frozen=True)
class _Cells:
    """What each detection that counts at some IoU threshold adds to which cells.

    There is a layer of cells for what counts at any of the T thresholds, one for the hits at each, and one for what
    does not count at that threshold though it counts at another. Within a layer the k-th cells of all categories that
    have one are neighbours; categories are in order of their number of cells, most first, so these are the first C_k.

    Attributes:
        thresholds: T.
        active: (K,) C_k, falling.
        middle: (C, K) how far into a cell the mean of its hits lies: 1, its end, where it holds one score of hits.
        place: (E,) int32 cell of each detection within a layer; detections are sorted by pass and image.
        layers: (E,) uint32, bit l for each of the 1 + 2T layers that it is in.
        start: (P * I + 1,) where the detections of each pass and image begin.
        objects: (C, I), sparse.
    """

    thresholds: int
    active: list[int]
    middle: Tensor
    place: np.ndarray
    layers: np.ndarray
    start: np.ndarray
    objects: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Layers, and cells of each."""
        return 1 + 2 * self.thresholds, sum(self.active)

    def blocks(self, counts: Tensor) -> list[Tensor]:
        """`counts`, (cells, b), as one (1 + 2T, C_k, b) for each k."""
        return list(counts.view(*self.shape, -1).split(self.active, dim=1))


class PairedAP:
    """AP of routings on resamples of the images.

    Args:
        mixed: the images with the detections of every pass.
        bins: most cells of a category.
    """

    def __init__(self, mixed: MixedAP, bins: int = BINS):
        self.cells = _count(mixed.matches, mixed.n, len(mixed.passes), bins)

    def resampled(self, routes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """AP of every routing on every resample.

        Args:
            routes: (P, n) number of the pass of each image; neighbours should be alike, as along a frontier.
            weights: (B, n) how often each image was drawn, see `draw`.

        Returns:
            (P, B) AP@[.5:.95] in [0, 1]; NaN where a draw shows no object.
        """
        if not self.cells.active or not len(weights):  # not one hit, or nothing drawn
            return np.zeros((len(routes), len(weights)))
        with _one_thread():
            parts = [
                self._chunk(np.asarray(routes), torch.from_numpy(np.ascontiguousarray(part.T)).float())
                for part in np.array_split(weights, range(CHUNK, len(weights), CHUNK))
            ]
        return np.concatenate(parts, axis=1)

    def _chunk(self, routes: np.ndarray, draws: Tensor) -> np.ndarray:
        """As `resampled`, of a few draws (n, b)."""
        layers, cells = self.cells.shape
        counts = torch.zeros(layers * cells, draws.shape[1])
        blocks = self.cells.blocks(counts)
        objects = torch.sparse.mm(self.cells.objects, draws)
        out = np.empty((len(routes), draws.shape[1]))
        before = None
        for number, route in enumerate(routes):
            changed = np.arange(len(route)) if before is None else np.flatnonzero(route != before)
            for part in np.array_split(changed, range(MOVED, len(changed), MOVED)):
                self._move(counts, part, before, route, draws)
            before = route
            out[number] = _average_precision(blocks, objects, self.cells.middle).numpy()
        return out

    def _move(self, counts: Tensor, images: np.ndarray, old: np.ndarray | None, new: np.ndarray, draws: Tensor) -> None:
        """Take the weighted cells of some images at their old routes out of `counts`, (cells, b); put new ones in."""
        parts = [self._entries(images, new, 1.0)] + ([] if old is None else [self._entries(images, old, -1.0)])
        cell, value, column = (np.concatenate(part) for part in zip(*parts))
        if not len(cell):
            return
        touched, row = np.unique(cell, return_inverse=True)
        place = torch.from_numpy(np.stack([row, column]))
        sparse = torch.sparse_coo_tensor(
            place, torch.from_numpy(value), (len(touched), len(images)), check_invariants=False
        )
        counts.index_add_(0, torch.from_numpy(touched), torch.sparse.mm(sparse, draws[torch.from_numpy(images)]))

    def _entries(self, images: np.ndarray, route: np.ndarray, sign: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cell, value and place among `images` of everything that these have at their routes."""
        key = route[images].astype(np.int64) * len(route) + images
        first = self.cells.start[key]
        length = self.cells.start[key + 1] - first
        detection = np.repeat(first - np.cumsum(length) + length, length) + np.arange(length.sum())
        layers, cells = self.cells.shape
        layer, of = np.nonzero(from_bits(self.cells.layers[detection], layers))
        cell = layer * cells + self.cells.place[detection][of]
        return cell, np.full(len(cell), sign, np.float32), np.repeat(np.arange(len(images)), length)[of]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Operations here are many and small: on a busy machine two threads waited for each other, 40 times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _average_precision(blocks: Sequence[Tensor], objects: Tensor, middle: Tensor) -> Tensor:
    """AP of each draw.

    Args:
        blocks: K of (1 + 2T, C_k, b) weighted cells.
        objects: (C, b) weighted objects.
        middle: (C, K) where in a cell its precision is taken.

    Returns:
        (b,) mean over thresholds and the categories that have objects.
    """
    t = (len(blocks[0]) - 1) // 2
    share = (len(RECALLS) - 1) / objects.clamp(min=1e-9)
    hits, seen = torch.zeros(2, t, *objects.shape)
    reached = torch.zeros_like(hits)
    precision, gained = [], []
    for k, block in enumerate(blocks):
        c = block.shape[1]
        more_hits, more = block[1 : 1 + t], block[0] - block[1 + t :]
        part, h, s = middle[:c, k, None], hits[:, :c], seen[:, :c]
        precision.append((h + part * more_hits) / (s + part * more).clamp_(min=1e-9))
        h += more_hits
        s += more
        # How many of COCO's recall points lie at or below this recall; the first is 0, which takes a hit.
        points = (h * share[:c]).add_(1 + 1e-4).floor_().clamp_(max=len(RECALLS)).mul_(h > 0.5)
        gained.append(points - reached[:, :c])
        reached[:, :c] = points
    best, total = torch.zeros_like(hits), torch.zeros_like(hits)
    for value, more in zip(reversed(precision), reversed(gained)):
        c = value.shape[1]
        torch.maximum(best[:, :c], value, out=value)
        best[:, :c] = value
        total[:, :c] += value * more
    present = (objects > 0).float()
    return (total.sum(dim=0) * present).sum(dim=0) / (t * len(RECALLS) * present.sum(dim=0))


def _count(m: Matches, n: int, passes: int, bins: int) -> _Cells:
    t = len(THRESHOLDS)
    bin_of, middle, rank = _bins(m, bins)
    active = [int((np.array([len(row) for row in middle]) > k).sum()) for k in range(max(map(len, middle), default=0))]
    counted = m.hit | m.miss
    kept = np.lexsort((m.image, m.source))
    kept = kept[(counted[kept] > 0) & (bin_of[kept] >= 0)]
    start = np.searchsorted(m.source[kept].astype(np.int64) * n + m.image[kept], np.arange(passes * n + 1))
    begin = np.cumsum([0, *active], dtype=np.int32)
    layers = m.hit[kept].astype(np.uint32) << 1 | 1
    layers |= (~counted[kept] & (2**t - 1)).astype(np.uint32) << 1 + t
    padded = np.zeros((len(middle), len(active)))
    for row, found in enumerate(middle):
        padded[row, : len(found)] = found
    held = m.held
    objects = torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([rank[held.category], held.image])), torch.from_numpy(held.count).float(),
        (len(held.categories), n), check_invariants=False,
    )  # fmt: skip
    return _Cells(
        t,
        active,
        torch.from_numpy(padded).float(),
        begin[bin_of[kept]] + rank[m.category[kept]],
        layers,
        start,
        objects,
    )


def _bins(m: Matches, most: int) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Where the cells of each category end.

    Returns:
        (D,) cell of each detection, -1 for those below every hit of their category; `_Cells.middle` of each category,
        most cells first; and (C,) the place of each category in that order.
    """
    hit = m.hit > 0
    out = np.full(len(m.score), -1, dtype=np.int32)
    middle = []
    for category in range(len(m.held.categories)):
        of = np.flatnonzero(m.category == category)
        scores = np.unique(m.score[of][hit[of]])[::-1]  # highest first
        ends = np.unique(np.linspace(0, len(scores) - 1, min(most, len(scores))).round().astype(int))
        edges = scores[ends]
        cell = np.searchsorted(-edges, -m.score[of], side="left")  # the first edge at or below the score
        out[of] = np.where(cell < len(edges), cell, -1)
        middle.append((1 + 1 / np.diff(ends, prepend=-1)) / 2)
    order = np.argsort([-len(found) for found in middle], kind="stable")
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order))
    return out, [middle[i] for i in order], rank


def draw(n: int, resamples: int, rng: np.random.Generator, groups: np.ndarray | None = None) -> np.ndarray:
    """Bootstrap draws.

    Args:
        n: images.
        resamples: how many draws.
        rng: source of the draws.
        groups: (n,) number of the group of each image, such as its video: whole groups are drawn.

    Returns:
        (resamples, n) float32, how often each image was drawn.
    """
    names, of = np.unique(np.arange(n) if groups is None else groups, return_inverse=True)
    share = np.full(len(names), 1 / len(names))
    drawn = np.empty((resamples, n), dtype=np.float32)
    for row in drawn:
        row[:] = rng.multinomial(len(names), share)[of]
    return drawn


def halves(
    n: int,
    resamples: int,
    rng: np.random.Generator,
    groups: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Random halves of the images, each image once: what the intervals of differences are made of.

    A half misses the whole by as much as the whole misses the world, so the spread of halves is that of the whole. A
    bootstrap's is too small here: an image that is drawn twice agrees with itself, and most of COCO's categories are
    seen on a few photos of a small set (`scripts/interval_coverage.py` measures both).

    Args:
        n: images.
        resamples: how many halves.
        rng: source of the draws.
        groups: (n,) number of the group of each image, such as its video: whole groups are drawn.
        out: (resamples, n) bool, filled in place of a new array.

    Returns:
        (resamples, n) bool, the images of each half.
    """
    names, of = np.unique(np.arange(n) if groups is None else groups, return_inverse=True)
    drawn = np.empty((resamples, n), dtype=bool) if out is None else out
    for row in drawn:
        half = np.zeros(len(names), dtype=bool)
        half[rng.permutation(len(names))[: max(1, (len(names) + rng.integers(2)) // 2)]] = True
        row[:] = half[of]
    return drawn
