"""The images that a report may show: which ones, and their detections in a compact form.

A report of a thousand images must stay a file that opens at once, so it holds a choice of them: those that are shown
at every budget, and for the rest every k-th of the router's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dualres_plugin.common.types import Detections, Targets
from dualres_plugin.evaluate.report.matching import judge
from dualres_plugin.evaluate.report.pictures import data_uri, picture, small_jpeg
from dualres_plugin.profile.gains import SURE
from dualres_plugin.profile.table import Profile

MAX_IMAGES = 240
MAX_BYTES = 6_000_000  # of pictures and boxes, as written into the page
SIDE = 288  # px: sharp on a card of 220, good enough at twice that
MAX_BOXES = 60
GRID = 1000  # boxes are integers on a grid with this many steps along the longer side


@dataclass(frozen=True)
class Ranked:
    """The images in the router's order, highest score first.

    Attributes:
        rows: (n,) rows of the profile.
        scores: (n,) router scores.
        ap_low, ap_high: (n,) AP of each image alone; NaN for images without objects.
    """

    rows: np.ndarray
    scores: np.ndarray
    ap_low: np.ndarray
    ap_high: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def gain(self) -> np.ndarray:
        """(n,) what high buys on each image alone; NaN without objects."""
        gain: np.ndarray = self.ap_high - self.ap_low
        return gain


def costliest(gain: np.ndarray, at_high: int, shown: int) -> list[int]:
    """Ranks of the images at low that lose most AP by it, worst first; only those that lose at all.

    Args:
        gain: (n,) AP gain in the router's order.
        at_high: how many images go high.
        shown: at most so many.

    Returns:
        At most `shown` ranks, all at least `at_high`.
    """
    left = np.nan_to_num(gain[at_high:], nan=-1.0)
    order = np.argsort(-left, kind="stable")[:shown]
    return [at_high + int(i) for i in order if left[i] > 0]


def choose(ranked: Ranked, counts: Sequence[int], shown: int, limit: int = MAX_IMAGES) -> list[int]:
    """Ranks of the images to put into the page, most needed first.

    Args:
        ranked: all images.
        counts: how many go high at each operating point of the slider.
        shown: images per group on the page.
        limit: at most about so many; the images that cost most at some budget are always in.

    Returns:
        Ranks, each once.
    """
    n = len(ranked)
    needed = [*range(min(shown, n)), *range(max(0, n - shown), n)]
    for count in counts:
        needed += costliest(ranked.gain, int(count), shown)
    chosen = list(dict.fromkeys([*needed, *_coarse_to_fine(n, min(n, limit))]))
    return chosen[: max(limit, len(set(needed)))]


def _coarse_to_fine(n: int, count: int) -> list[int]:
    """`count` of n ranks, evenly spread, in an order whose every beginning is spread too: one may stop anywhere."""
    ranks = np.linspace(0, n - 1, count).round().astype(int)
    digits = len(f"{max(0, count - 1):b}")
    order = sorted(range(count), key=lambda i: f"{i:0{digits}b}"[::-1])
    return [int(ranks[i]) for i in order]


def build_gallery(
    profile: Profile, ranked: Ranked, counts: Sequence[int], shown: int, max_bytes: int = MAX_BYTES
) -> tuple[list[dict[str, Any]], int]:
    """What the page knows of each image, in the router's order, and how many are drawn on thumbnails.

    Keys are short because they are repeated: r rank, n file name, w and h size on the grid, u picture, a AP low and
    high, t objects (x0 y0 x1 y1 class found_low found_high)*, lo and hi detections (x0 y0 x1 y1 class score verdict)*.

    Args:
        profile: where the detections and photos are.
        ranked: all images.
        counts: how many go high at each operating point of the slider.
        shown: images per group on the page.
        max_bytes: about how much the entries may take in the page.

    Returns:
        The entries, and how many of them show a thumbnail because the photo is gone.
    """
    entries: list[dict[str, Any]] = []
    size, replaced = 0, 0
    for rank in choose(ranked, counts, shown):
        entry, real = _entry(profile, ranked, rank)
        size += len(entry["u"]) + 4 * (len(entry["t"]) + len(entry["lo"]) + len(entry["hi"]))
        if size > max_bytes and entries:
            break
        entries.append(entry)
        replaced += not real
    return sorted(entries, key=lambda entry: int(entry["r"])), replaced


def _entry(profile: Profile, ranked: Ranked, rank: int) -> tuple[dict[str, Any], bool]:
    row = int(ranked.rows[rank])
    pixels, real = picture(profile, row)
    height, width = pixels.shape[:2]
    grid = GRID / max(height, width)
    targets = profile.targets(row)
    boxes, seen = {}, {}
    for which in ("low", "high"):
        found = sure(profile.detections(which, row))
        verdicts, seen[which] = judge(found, targets)
        columns = (found.labels, (100 * found.scores).round(), verdicts)
        boxes[which] = flat(found.boxes * grid, columns)
    entry = {
        "r": rank,
        "n": profile.image_path(row).name,
        "w": round(width * grid),
        "h": round(height * grid),
        "u": data_uri(small_jpeg(pixels, SIDE)),
        "a": [_short(ranked.ap_low[rank]), _short(ranked.ap_high[rank])],
        "t": _objects(targets, seen, grid),
        "lo": boxes["low"],
        "hi": boxes["high"],
    }
    return entry, real


def sure(found: Detections) -> Detections:
    """The detections that pictures show.

    Args:
        found: highest score first.
    """
    keep = np.flatnonzero(found.scores >= SURE)[:MAX_BOXES]
    return Detections(found.boxes[keep], found.scores[keep], found.labels[keep])


def _objects(targets: Targets, seen: dict[str, np.ndarray], grid: float) -> list[int]:
    keep = ~targets.ignore
    columns = (targets.labels[keep], seen["low"][keep], seen["high"][keep])
    return flat(targets.boxes[keep] * grid, columns)


def flat(boxes: np.ndarray, columns: tuple[np.ndarray, ...] = ()) -> list[int]:
    """Boxes and what belongs to each as one list of whole numbers.

    Args:
        boxes: (N, 4) on the grid.
        columns: of N numbers each.
    """
    table = np.column_stack([boxes.round(), *columns])
    numbers: list[int] = table.astype(int).ravel().tolist()
    return numbers


def _short(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 3)
