"""AP against cost of fixed sizes, pairs and ladders, on photos that chose nothing for themselves.

Lines are fitted and sizes chosen on other photos: those of a second profile, or in cross-fitting, where the photos are
cut into folds and the size of each follows from the other folds alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dualres_plugin.evaluate.ladder.paired import PairedAP
from dualres_plugin.evaluate.ladder.policy import LadderPolicy
from dualres_plugin.profile.coco_ap import MixedAP, per_image_ap
from dualres_plugin.profile.table import Profile

FOLDS = 5
PRICES = 33  # points of a frontier before equal ones are dropped
NAMES = {1: "one size", 2: "two sizes", 3: "three sizes", 4: "four sizes"}


@dataclass(frozen=True)
class Frontier:
    """Routings of one kind, cheapest first.

    Attributes:
        name: "one size", "two sizes", …
        routes: (P, n) number of the pass of each image.
        cost: (P, n) GMACs, or ms, of each image, deciding included.
        ap: (P,) AP@[.5:.95] in [0, 1].
        price: (P,) λ of each point; NaN for fixed sizes.
        resampled: (P, B) AP on the draws.
    """

    name: str
    routes: np.ndarray
    cost: np.ndarray
    ap: np.ndarray
    price: np.ndarray
    resampled: np.ndarray

    @property
    def mean_cost(self) -> np.ndarray:
        """(P,) per image."""
        return np.asarray(self.cost.mean(axis=1))

    def ap_at(self, gmacs: np.ndarray) -> np.ndarray:
        """AP at budgets, between the points by mixing their neighbours; of the nearest end outside.

        Args:
            gmacs: (G,) mean GMACs per image.
        """
        return np.asarray(np.interp(gmacs, self.mean_cost, self.ap))

    def spent(self, draws: np.ndarray) -> np.ndarray:
        """(P, B) mean cost on each draw.

        Args:
            draws: (B, n) how often each image was drawn.
        """
        return np.asarray(self.cost @ draws.T / draws.sum(axis=1))

    def resampled_at(self, cost: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """The same on every draw, at the costs that the points have there.

        Args:
            cost: (G,) mean cost per image, or (G, B), that on each draw.
            draws: (B, n) how often each image was drawn.

        Returns:
            (G, B).
        """
        wanted = np.broadcast_to(cost.reshape(len(cost), -1), (len(cost), len(draws)))
        columns = []
        for at, spent, ap in zip(wanted.T, self.spent(draws).T, self.resampled.T):
            order = np.argsort(spent, kind="stable")
            columns.append(np.interp(at, spent[order], ap[order]))
        return np.stack(columns, axis=1) if columns else np.zeros((len(cost), 0))


@dataclass(frozen=True)
class Part:
    """Some photos, and what other photos chose for them.

    Attributes:
        here: (n,) bool.
        policy: fitted on others.
        count: of sizes that it may use; with one there is no router to pay for.
    """

    here: np.ndarray
    policy: LadderPolicy
    count: int


@dataclass(frozen=True)
class Measured:
    """A profile of several sizes, ready to compare routings on.

    Attributes:
        passes: names of all passes, ours first, then the host's own.
        sizes: pixels of each pass.
        ours: how many of them can be routed between.
        cost: (n, passes) GMACs, or ms.
        quality: (n, ours) AP of each image alone; NaN without objects.
        mixed: AP of any mix.
        paired: the same on resamples.
    """

    passes: list[str]
    sizes: list[int]
    ours: int
    cost: np.ndarray
    quality: np.ndarray
    mixed: MixedAP
    paired: PairedAP

    @classmethod
    def of(cls, profile: Profile) -> Measured:
        """Match everything once.

        Args:
            profile: a labelled one.

        Raises:
            DualResError: If it has no labels or no objects.
        """
        routed, own = profile.passes, profile.host_passes[1:]
        passes = [p.name for p in (*routed, *own)]
        mixed = MixedAP(profile, passes=passes)
        cost = np.stack([profile.column(f"gmacs_{name}")[mixed.rows] for name in passes], axis=1)
        quality = np.stack([per_image_ap(profile, mixed.rows, p.name) for p in routed], axis=1)
        sizes = [p.size for p in (*routed, *own)]
        return cls(passes, sizes, len(routed), cost.astype(np.float64), quality, mixed, PairedAP(mixed))

    def timed(self, times: Mapping[int, float]) -> Measured:
        """The same with milliseconds for its cost.

        Args:
            times: milliseconds per image of each size.
        """
        cost = np.array([times[size] for size in self.sizes])
        return replace(self, cost=np.tile(cost, (self.mixed.n, 1)))

    def policy(self, scores: np.ndarray, among: np.ndarray | None = None) -> LadderPolicy:
        """What some of its photos choose.

        Args:
            scores: (n,) the router's.
            among: (n,) bool; all by default.
        """
        chosen = np.ones(self.mixed.n, dtype=bool) if among is None else among
        cost = self.cost[chosen, : self.ours].mean(axis=0)
        return LadderPolicy.fit(scores[chosen], self.quality[chosen], cost)


def fixed_sizes(
    measured: Measured, draws: np.ndarray, host: bool | None = None, among: np.ndarray | None = None
) -> Frontier:
    """All images at one size.

    Args:
        measured: the profile.
        draws: (B, n).
        host: by the host's own passes, or by ours; None takes of each size the one with the better AP.
        among: (n,) bool, the photos whose AP counts; all by default.
    """
    n, ours = measured.mixed.n, measured.ours
    weights = np.ones(n) if among is None else among.astype(float)
    ap = np.array([measured.mixed.ap(np.full(n, number), weights) for number in range(len(measured.passes))])
    own = [0, *range(ours, len(measured.passes))]  # the largest is the same pass either way
    chosen = own if host else list(range(ours))
    if host is None:
        better = {measured.sizes[i]: i for i in sorted({*own, *range(ours)}, key=lambda i: ap[i])}
        chosen = list(better.values())
    chosen = sorted(chosen, key=lambda i: measured.cost[:, i].mean())
    routes = np.stack([np.full(n, number) for number in chosen])
    cost = measured.cost[:, chosen].T
    return Frontier(
        "one size", routes, cost, ap[chosen], np.full(len(chosen), np.nan), measured.paired.resampled(routes, draws)
    )


def cross_fitted(
    measured: Measured,
    scores: np.ndarray,
    count: int,
    seed: int = 0,
    groups: np.ndarray | None = None,
    among: np.ndarray | None = None,
) -> list[Part]:
    """The photos in folds, each with what the other folds choose.

    Args:
        measured: the profile.
        scores: (n,) the router's.
        count: of sizes that one routing may use.
        seed: of the folds.
        groups: (n,) number of the group of each image; no fold cuts through one.
        among: (n,) bool, the photos that there are; all by default.
    """
    n = measured.mixed.n
    of = np.arange(n) if groups is None else groups
    fold = (np.random.default_rng(seed).permutation(int(of.max()) + 1) % FOLDS)[of]
    known = np.ones(n, dtype=bool) if among is None else among
    return [
        Part(known & (fold == k), measured.policy(scores, known & (fold != k)), count)
        for k in range(FOLDS)
        if (known & (fold == k)).any() and (known & (fold != k)).any()
    ]


def routed_sizes(
    measured: Measured,
    parts: Sequence[Part],
    scores: np.ndarray,
    deciding: float,
    draws: np.ndarray,
    prices: np.ndarray,
    among: np.ndarray | None = None,
) -> Frontier:
    """Each image at one of several sizes, by the router's score.

    Args:
        measured: the profile.
        parts: of its photos, with what others chose.
        scores: (n,) the router's.
        deciding: what it costs per image.
        draws: (B, n).
        prices: (P,) λ of the points that are tried, gain per cost.
        among: (n,) bool, the photos whose AP counts; all by default.
    """
    n = measured.mixed.n
    routes, router = np.zeros((len(prices), n), dtype=np.int64), np.zeros(n)
    for part in parts:
        router[part.here] = deciding if part.count > 1 else 0
        for row, price in zip(routes, prices):
            row[part.here] = part.policy.choose(scores[part.here], price, part.policy.best_sizes(price, part.count))
    routes, first = np.unique(routes, axis=0, return_index=True)
    weights = np.ones(n) if among is None else among.astype(float)
    spent = measured.cost[np.arange(n), routes] + router
    order = np.argsort(spent @ weights, kind="stable")
    routes, spent, first = routes[order], spent[order], first[order]
    ap = np.array([measured.mixed.ap(route, weights) for route in routes])
    name = NAMES.get(max(part.count for part in parts), "several sizes")
    return Frontier(name, routes, spent, ap, prices[first], measured.paired.resampled(routes, draws))


def prices_of(measured: Measured) -> np.ndarray:
    """λ from "all at the smallest" to "all that gains anything", dense where the sizes of this detector change.

    Args:
        measured: the profile.
    """
    gain = np.nanmean(measured.quality[:, 0] - measured.quality[:, -1])
    step = measured.cost[:, 0].mean() - measured.cost[:, measured.ours - 1].mean()
    usual = max(float(gain), 1e-3) / max(float(step), 1e-9)
    return np.asarray([*np.geomspace(usual * 8, usual / 16, PRICES - 1), 0.0])
