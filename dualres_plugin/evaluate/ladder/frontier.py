"""AP against cost of fixed sizes, pairs and ladders, on photos that chose nothing for themselves.

Lines are fitted and sizes chosen in cross-fitting: the photos are cut into folds, and the size of each photo follows
from the other folds alone. So all photos give the figure, and none of them its own choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dualres_plugin.evaluate.ladder.paired import PairedAP
from dualres_plugin.evaluate.ladder.policy import LadderPolicy
from dualres_plugin.profile.coco_ap import MixedAP, per_image_ap
from dualres_plugin.profile.table import Profile

FOLDS = 5
PRICES = 33  # points of a frontier before equal ones are dropped


@dataclass(frozen=True)
class Frontier:
    """Routings of one kind, cheapest first.

    Attributes:
        name: "one size", "two sizes", …
        routes: (P, n) number of the pass of each image.
        cost: (P, n) GMACs of each image, deciding included.
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
        """(P,) GMACs per image."""
        return np.asarray(self.cost.mean(axis=1))

    def ap_at(self, gmacs: np.ndarray) -> np.ndarray:
        """AP at budgets, between the points by mixing their neighbours; of the nearest end outside.

        Args:
            gmacs: (G,) mean GMACs per image.
        """
        return np.asarray(np.interp(gmacs, self.mean_cost, self.ap))

    def resampled_at(self, gmacs: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """The same on every draw, at the costs that the points have there.

        Args:
            gmacs: (G,) mean GMACs per image.
            draws: (B, n) how often each image was drawn.

        Returns:
            (G, B).
        """
        spent = draws @ self.cost.T / draws.sum(axis=1, keepdims=True)
        columns = []
        for cost, ap in zip(spent, self.resampled.T):
            order = np.argsort(cost, kind="stable")
            columns.append(np.interp(gmacs, cost[order], ap[order]))
        return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Measured:
    """A profile of several sizes, ready to compare routings on.

    Attributes:
        passes: names of all passes, ours first, then the host's own.
        sizes: pixels of each pass.
        ours: how many of them can be routed between.
        cost: (n, passes) GMACs.
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


def fixed_sizes(measured: Measured, draws: np.ndarray, host: bool | None = None) -> Frontier:
    """All images at one size.

    Args:
        measured: the profile.
        draws: (B, n).
        host: by the host's own passes, or by ours; None takes of each size the one with the better AP.
    """
    n, ours = measured.mixed.n, measured.ours
    ap = np.array([measured.mixed.ap(np.full(n, number)) for number in range(len(measured.passes))])
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


def routed_sizes(
    measured: Measured,
    scores: np.ndarray,
    router_gmacs: float,
    count: int,
    draws: np.ndarray,
    seed: int = 0,
    prices: np.ndarray | None = None,
) -> Frontier:
    """Each image at one of several sizes, by the router's score.

    Args:
        measured: the profile.
        scores: (n,) the router's.
        router_gmacs: what deciding costs per image.
        count: of sizes that one routing may use.
        draws: (B, n).
        seed: of the folds.
        prices: (P,) λ of the points that are tried, gain per GMAC; None spreads them over this detector's range.
    """
    n = measured.mixed.n
    fold = np.random.default_rng(seed).permutation(n) % FOLDS
    cost = measured.cost[:, : measured.ours]
    prices = _prices(measured) if prices is None else prices
    routes = np.zeros((len(prices), n), dtype=np.int64)
    for number in range(FOLDS):
        others, here = fold != number, fold == number
        policy = LadderPolicy.fit(scores[others], measured.quality[others], cost[others].mean(axis=0))
        for row, price in zip(routes, prices):
            row[here] = policy.choose(scores[here], price, policy.best_sizes(price, count))
    routes, first = np.unique(routes, axis=0, return_index=True)
    spent = cost[np.arange(n), routes] + router_gmacs
    order = np.argsort(spent.mean(axis=1), kind="stable")
    routes, spent, first = routes[order], spent[order], first[order]
    ap = np.array([measured.mixed.ap(route) for route in routes])
    names = {2: "two sizes", 3: "three sizes"}
    name = names.get(count, f"{count} sizes")
    return Frontier(name, routes, spent, ap, prices[first], measured.paired.resampled(routes, draws))


def _prices(measured: Measured) -> np.ndarray:
    """λ from "all at the smallest" to "all that gains anything", dense where the sizes of this detector change."""
    gain = np.nanmean(measured.quality[:, 0] - measured.quality[:, -1])
    step = measured.cost[:, 0].mean() - measured.cost[:, measured.ours - 1].mean()
    usual = max(float(gain), 1e-3) / max(float(step), 1e-9)
    return np.asarray([*np.geomspace(usual * 8, usual / 16, PRICES - 1), 0.0])
