"""The operating point against its alternatives, on the same resamples of the photos: what is shown, and what is not.

AP of a few hundred photos is known to two or three points, a difference of two ways on the same photos much better:
what is hard for one is hard for the other. So both sides of each difference are seen on the same halves of the
photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.auc_policy import auc_policy
from dualres_plugin.evaluate.baselines import cascade_uncertainty
from dualres_plugin.evaluate.curve import descending
from dualres_plugin.evaluate.ladder.difference import Difference, interval
from dualres_plugin.evaluate.ladder.paired import PairedAP, halves
from dualres_plugin.profile.coco_ap import AREAS, MixedAP
from dualres_plugin.profile.passes import HIGH, LOW, Pass
from dualres_plugin.profile.table import Profile

MIXES = 20  # random mixes that share the images out evenly between high and low
SHARES = np.linspace(0, 1, 21)  # of the curves whose areas are compared
AT_ONCE = 64  # draws as floats in memory
AREA_DRAWS = 200  # a curve is 21 APs: fewer draws


@dataclass(frozen=True)
class Comparison:
    """The routed detector against one alternative.

    Attributes:
        against: "all high", "fixed size", "random mix" or "cascade".
        what: what that is here: sizes, shares.
        gmacs: what it costs per image.
        difference: AP of the routed detector minus its own, by area of the objects: "all", "small", "medium", "large";
            sizes without objects are left out.
    """

    against: str
    what: str
    gmacs: float
    difference: dict[str, Difference]


@dataclass(frozen=True)
class Proof:
    """What the photos say about one operating point.

    Attributes:
        comparisons: with each alternative; the first is all high.
        margin: AP that may be lost against all high, in points of 100.
        resamples: B, draws.
        groups: how many groups were drawn; None where each photo was drawn by itself.
        above_random: AUC-Policy of the router minus that of random orders: value, and 95 % interval.
    """

    comparisons: list[Comparison]
    margin: float
    resamples: int
    groups: int | None
    above_random: tuple[float, float, float]

    @property
    def verdict(self) -> str:
        """Whether routing is shown to lose no more than the margin against all high."""
        found = self.comparisons[0].difference["all"]
        return f"not worse than all high by more than {self.margin:g} AP: {found.not_worse(self.margin)}"

    def to_dict(self) -> dict[str, Any]:
        """The entry of metrics.json, plain JSON types but for NaN."""
        return {
            "margin": self.margin,
            "verdict": self.verdict,
            "resamples": self.resamples,
            "groups": self.groups,
            "against": {
                c.against: {key: v for key, v in asdict(c).items() if key != "against"} for c in self.comparisons
            },
        }

    def lines(self) -> list[str]:
        """For people: a line for each alternative, and the verdict."""
        names = list(self.comparisons[0].difference)
        lines = ["difference of AP, 95 %".ljust(32) + "".join(name.rjust(22) for name in names)]
        for c in self.comparisons:
            cells = (f"{d.mean:+.1f} [{d.low:+.1f}, {d.high:+.1f}]" for d in c.difference.values())
            lines.append(f"  to {c.against}, {c.gmacs:.2f} GMACs".ljust(32) + "".join(cell.rjust(22) for cell in cells))
        return [*lines, self.verdict]


@dataclass(frozen=True)
class _Way:
    """An alternative as weighted routings.

    Attributes:
        against, what, gmacs: as of `Comparison`.
        routes: (R, n) number of the pass of each image.
        share: (R, 1 + B) what each routing counts for, on all photos and on each draw.
    """

    against: str
    what: str
    gmacs: float
    routes: np.ndarray
    share: np.ndarray


def prove(
    profile: Profile,
    scores: np.ndarray,
    high: np.ndarray,
    router_gmacs: float,
    areas: tuple[float, float],
    *,
    margin: float = 0.5,
    resamples: int = 1000,
    seed: int = 0,
    groups: np.ndarray | None = None,
    progress: bool = False,
) -> Proof:
    """Compare an operating point with its alternatives.

    Args:
        profile: a labelled profile; where it has more than two sizes, one of them in between is an alternative.
        scores: (n,) of its original images.
        high: (n,) bool, which of them go high.
        router_gmacs: what deciding costs per image.
        areas: AUC-Policy of the router and of random orders, on all photos.
        margin: AP that may be lost against all high, in points of 100.
        resamples: B, draws.
        seed: of the draws and of the random mixes.
        groups: (n,) number of the group of each image, for resampling by group.
        progress: show a bar.
    """
    rows, rng = profile.originals, np.random.default_rng(seed)
    every = np.ones((1 + resamples, len(rows)), dtype=bool)
    draws = halves(len(rows), resamples, rng, groups, out=every[1:])
    low_cost, high_cost = (profile.column(f"gmacs_{name}")[rows].astype(np.float64) for name in (LOW, HIGH))
    spent = _mean(np.where(high, high_cost, low_cost) + router_gmacs, every)
    fixed, passes = _fixed(profile, spent, every)
    ways = [
        _plain("all high", "every image at high", high_cost.mean(), np.ones(len(rows), dtype=np.int8), every),
        fixed,
        _random(high, float(spent[0] - router_gmacs), rng, every),
        _cascade(profile, float(spent[0]), every),
    ]
    routes = np.concatenate([high[None].astype(np.int8), *(way.routes for way in ways)])
    differences: list[dict[str, Difference]] = [{} for _ in ways]
    for area in tqdm(AREAS, desc="paired comparisons", unit="size", disable=not progress, leave=False):
        ap = _aps(profile, passes, area, routes, draws)
        if ap is None:
            continue
        parts = np.split(ap[1:], np.cumsum([len(way.routes) for way in ways])[:-1])
        for found, way, part in zip(differences, ways, parts):
            gap = ap[0] - (part * way.share).sum(axis=0)
            found[area] = interval(gap[0], gap[1:])
    comparisons = [Comparison(w.against, w.what, w.gmacs, d) for w, d in zip(ways, differences)]
    count = None if groups is None else int(groups.max()) + 1
    return Proof(comparisons, margin, resamples, count, _above_random(profile, scores, areas, draws[:AREA_DRAWS], rng))


def _mean(cost: np.ndarray, every: np.ndarray) -> np.ndarray:
    """(n,) per image -> (1 + B,) mean of all images and of each draw."""
    # One part in memory at a time. In double precision: 120,000 costs in single move an interval by 0.006 AP.
    parts = (every[i : i + AT_ONCE].astype(np.float64) for i in range(0, len(every), AT_ONCE))
    return np.concatenate([part @ cost.astype(np.float64) / part.sum(axis=1) for part in parts])


def _aps(
    profile: Profile, passes: Sequence[str], area: str, routes: np.ndarray, draws: np.ndarray
) -> np.ndarray | None:
    """(R, 1 + B) AP of routings on all images and on each draw; None where no object has this size."""
    try:
        mixed = MixedAP(profile, area=area, passes=passes)
    except DualResError:
        return None
    exact = np.array([mixed.ap(route) for route in routes])
    return np.concatenate([exact[:, None], PairedAP(mixed).resampled(routes, draws)], axis=1)


def _plain(against: str, what: str, gmacs: float, route: np.ndarray, every: np.ndarray) -> _Way:
    return _Way(against, what, float(gmacs), route[None], np.ones((1, len(every))))


def _fixed(profile: Profile, spent: np.ndarray, every: np.ndarray) -> tuple[_Way, list[str]]:
    """One size at the routed cost: a mix of its two neighbours. With it the passes that a route is a number of."""
    line, count = _line(profile)
    costs = [_mean(profile.column(f"gmacs_{p.name}")[profile.originals], every) for p in line]
    above = int(np.clip(sum(cost[0] < spent[0] for cost in costs), min(1, len(line) - 1), len(line) - 1))
    below = max(0, above - 1)
    step = np.maximum(costs[above] - costs[below], 1e-9)
    part = np.clip((spent - costs[below]) / step, 0, 1) if above > below else np.zeros(len(spent))
    ends = [line[below], line[above]]
    passes = list(dict.fromkeys([LOW, HIGH, *(p.name for p in ends)]))
    routes = np.stack([np.full(len(profile.originals), passes.index(p.name), dtype=np.int8) for p in ends])
    gmacs = float(costs[below][0] + part[0] * (costs[above][0] - costs[below][0]))
    used = [p for p, share in zip(ends, (1 - part[0], part[0])) if share > 0]
    names = " and ".join(f"{p.size} px{', by the host' if p.own and p.name != HIGH else ''}" for p in used)
    what = f"a mix of {names}, at the same cost" if len(used) > 1 else f"{names}, which no larger size in reach beats"
    return _Way("fixed size" if count > 2 else "low-high line", what, gmacs, routes, np.stack([1 - part, part])), passes


def _line(profile: Profile) -> tuple[list[Pass], int]:
    """The fixed sizes that somebody would take, cheapest first, and how many there are in all.

    Of each size that is the better of the host's own pass and ours; and none that costs more and gives less.
    """
    rows = profile.originals
    sizes: dict[int, tuple[float, Pass]] = {}
    for p in (*profile.passes, *profile.host_passes[1:]):
        ap = MixedAP(profile, passes=(p.name,)).ap(np.zeros(len(rows)))
        if p.size not in sizes or ap > sizes[p.size][0]:
            sizes[p.size] = ap, p
    line: list[Pass] = []
    best = float("-inf")
    for ap, p in sorted(sizes.values(), key=lambda found: float(profile.column(f"gmacs_{found[1].name}")[rows].mean())):
        if ap > best:
            best = ap
            line.append(p)
    return line, len(sizes)


def _random(high: np.ndarray, gmacs: float, rng: np.random.Generator, every: np.ndarray) -> _Way:
    """The same share at high, by chance: turns of one order, so that each image is high about equally often."""
    n, count = len(high), int(high.sum())
    order, routes = rng.permutation(n), np.zeros((MIXES, n), dtype=np.int8)
    for number, route in enumerate(routes):
        route[order[(number * n // MIXES + np.arange(count)) % n]] = 1
    share = np.full((MIXES, len(every)), 1 / MIXES)
    return _Way("random mix", f"{count / n:.0%} at high by chance, nothing spent on deciding", gmacs, routes, share)


def _cascade(profile: Profile, gmacs: float, every: np.ndarray) -> _Way:
    """Low on every image, then high where low is unsure, at the cost of the routed detector."""
    low, high = profile.gmacs
    unsure = descending(cascade_uncertainty(profile, profile.originals))
    count = round(float(np.clip((gmacs - low) / high, 0, 1)) * len(unsure))
    route = np.zeros(len(unsure), dtype=np.int8)
    route[unsure[:count]] = 1
    what = f"low on every image, and high on top for {count / len(unsure):.0%}, where low is unsure"
    return _plain("cascade", what, low + count / len(unsure) * high, route, every)


def _above_random(
    profile: Profile,
    scores: np.ndarray,
    areas: tuple[float, float],
    draws: np.ndarray,
    rng: np.random.Generator,
) -> tuple[float, float, float]:
    """AUC-Policy of the router minus that of chance, with the interval of the paired difference."""
    paired, n, chance = PairedAP(MixedAP(profile)), len(scores), rng.permutation(len(scores))
    orders = [descending(scores), *(np.roll(chance, turn * n // 4) for turn in range(4))]
    values, weights = [], draws.astype(np.float32)
    for order in orders:
        place = np.empty(n, dtype=int)
        place[order] = np.arange(n)
        at_high = place < np.round(SHARES * n)[:, None]
        share, ap = weights @ at_high.T / weights.sum(axis=1, keepdims=True), paired.resampled(at_high, draws)
        values.append([_area(s, a) for s, a in zip(share, ap.T)])
    area = np.array(values).reshape(len(orders), -1)
    gap = interval(areas[0] - areas[1], area[0] - area[1:].mean(axis=0))
    return gap.mean / 100, gap.low / 100, gap.high / 100


def _area(share: np.ndarray, ap: np.ndarray) -> float:
    """AUC-Policy; NaN for a draw in which high and low have the same AP, or that shows no object."""
    try:
        return auc_policy(share, ap)
    except DualResError:
        return float("nan")
