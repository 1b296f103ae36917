"""What can be run: one size, or several with the thresholds between them; and its figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dualres_plugin.evaluate.ladder.difference import Difference, interval
from dualres_plugin.evaluate.ladder.frontier import Frontier, Measured, Part, cross_fitted, fixed_sizes, routed_sizes
from dualres_plugin.evaluate.ladder.policy import LadderPolicy


@dataclass(frozen=True)
class Step:
    """One way to run the detector.

    Attributes:
        sizes: K, in pixels, largest first.
        thresholds: K-1 scores, falling: above the first an image runs at the first size, and so on.
        shares: K, of the photos at each size.
        cost: mean per image, deciding included, in GMACs or ms.
        ap: its AP in [0, 1].
        against_fixed: its difference to the line of fixed sizes at its own cost.
        against_high: its difference to all images at the largest size.
    """

    sizes: list[int]
    thresholds: list[float]
    shares: list[float]
    cost: float
    ap: float
    against_fixed: Difference
    against_high: Difference

    @property
    def command(self) -> str:
        """The options that run it."""
        if len(self.sizes) == 1:
            return f"{self.sizes[0]} px"
        limits = ",".join(f"{limit:.4f}" for limit in self.thresholds)
        if len(self.sizes) == 2:
            return f"--high {self.sizes[0]} --low {self.sizes[1]} --threshold {limits}"
        return f"--sizes {','.join(map(str, self.sizes))} --thresholds {limits}"


@dataclass(frozen=True)
class Case:
    """A profile, the scores of its photos, and what chooses for them.

    Attributes:
        measured: the photos that give the figures.
        scores: (n,) the router's.
        chosen: the photos that choose; `measured` itself for five folds.
        chosen_scores: (m,) theirs.
        deciding: what the router costs per image.
        draws: (B, n).
        prices: (P,) λ of the points that are tried.
        seed: of the folds.
        groups: (n,) of the photos; None where each is its own.
    """

    measured: Measured
    scores: np.ndarray
    chosen: Measured
    chosen_scores: np.ndarray
    deciding: float
    draws: np.ndarray
    prices: np.ndarray
    seed: int
    groups: np.ndarray | None

    @property
    def folds(self) -> bool:
        """Whether the photos choose for one another."""
        return self.chosen is self.measured

    def parts(self, count: int) -> list[Part]:
        """The photos, with what others choose.

        Args:
            count: of sizes that one routing may use.
        """
        if self.folds:
            return cross_fitted(self.measured, self.scores, count, self.seed, self.groups)
        return [Part(np.ones(self.measured.mixed.n, dtype=bool), self.policy, count)]

    @property
    def policy(self) -> LadderPolicy:
        """What is advised to be run: what all photos that choose choose."""
        return self.chosen.policy(self.chosen_scores)

    def fixed(self, draws: bool = True) -> Frontier:
        """One size, of each the better of the host's own pass and ours."""
        return fixed_sizes(self.measured, self.draws if draws else self.draws[:0])

    def routed(self, count: int, draws: bool = True, prices: np.ndarray | None = None) -> Frontier:
        """Several sizes.

        Args:
            count: at most so many.
            draws: resample as well.
            prices: (P,) λ; all by default.
        """
        drawn, wanted = self.draws if draws else self.draws[:0], self.prices if prices is None else prices
        return routed_sizes(self.measured, self.parts(count), self.scores, self.deciding, drawn, wanted)

    def choosing(self, count: int) -> Frontier:
        """The frontier that a point is picked from: that of the photos that choose, by folds among them."""
        if self.folds:
            return self.routed(count, draws=False)
        parts = cross_fitted(self.chosen, self.chosen_scores, count, self.seed)
        none = np.zeros((0, self.chosen.mixed.n), dtype=np.float32)
        return routed_sizes(self.chosen, parts, self.chosen_scores, self.deciding, none, self.prices)

    def steps(self, way: Frontier, fixed: Frontier, count: int) -> list[Step]:
        """What can be run at each point of a frontier.

        Args:
            way: fixed or routed sizes.
            fixed: the fixed sizes.
            count: of sizes of the routing; 1 for fixed ones.
        """
        policy = self.policy
        spent, largest = way.spent(self.draws), fixed.resampled[-1] if len(self.draws) else np.zeros(0)
        steps = []
        for point, (cost, ap, drawn) in enumerate(zip(way.mean_cost, way.ap, way.resampled)):
            line = fixed.ap_at(way.mean_cost[point : point + 1])[0]
            line_drawn = fixed.resampled_at(spent[point : point + 1], self.draws)[0]
            sizes, thresholds = [self.measured.sizes[int(way.routes[point, 0])]], []
            if count > 1:
                price = float(way.price[point])
                cuts = policy.thresholds(price, policy.best_sizes(price, count))[::-1]
                sizes, thresholds = [self.measured.sizes[i] for i, _ in cuts], [limit for _, limit in cuts[:-1]]
            steps.append(
                Step(
                    sizes, thresholds, self._shares(thresholds), float(cost), float(ap),
                    interval(ap - line, drawn - line_drawn), interval(ap - fixed.ap[-1], drawn - largest),
                )
            )  # fmt: skip
        return steps

    def _shares(self, thresholds: list[float]) -> list[float]:
        """Of the photos between the thresholds, highest scores first."""
        above = [float((self.scores > limit).mean()) for limit in thresholds]
        return [float(share) for share in np.diff([0.0, *above, 1.0])]
