"""Which sizes to run: one, or two with a router; and whether photos can show that it helps."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.ladder.difference import Difference, interval
from dualres_plugin.evaluate.ladder.frontier import Frontier, Measured, fixed_sizes, routed_sizes
from dualres_plugin.evaluate.ladder.paired import draw
from dualres_plugin.evaluate.ladder.policy import LadderPolicy
from dualres_plugin.evaluate.scoring import score_profile
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter

BUDGETS = np.linspace(0.65, 0.90, 11)  # of all-high's cost: where people look who want to save without losing
WORTH = 0.2  # AP: less is not worth a second part in the system


@dataclass(frozen=True)
class Advice:
    """What to run, and why.

    Attributes:
        sizes: in pixels, largest first; one, or the two to route between.
        threshold: score above which an image goes to the larger one; None for one size.
        gmacs: mean cost per image, deciding included.
        ap: its AP in [0, 1].
        saved: share of the cost of the largest size that is saved.
        against_fixed: its difference to the best fixed size at the same cost.
        against_high: its difference to all images at the largest size.
        over_range: mean difference of routing to fixed sizes at 65 to 90 % of the largest size's cost.
        n: photos.
        frontiers: name -> points (GMACs, AP).
    """

    sizes: list[int]
    threshold: float | None
    gmacs: float
    ap: float
    saved: float
    against_fixed: Difference
    against_high: Difference
    over_range: Difference
    n: int
    frontiers: dict[str, list[tuple[float, float]]]

    @property
    def route(self) -> bool:
        """Whether it is two sizes and a router."""
        return self.threshold is not None

    @property
    def sentence(self) -> str:
        """The answer."""
        cost = f"{1 - self.saved:.0%} of the cost of the largest size, {self.against_high} against it"
        gain = f"{self.over_range} against one size at 65 to 90 % of the largest one's cost"
        if not self.route:
            what = cost if self.saved > 0 else "the largest"
            return f"run {self.sizes[0]} px ({what}): routing adds nothing that {self.n} photos can show, {gain}."
        high, low = self.sizes
        proof = "" if self.over_range.low > 0 else f"; {self.n} photos do not prove it"
        return f"route --high {high} --low {low} --threshold {self.threshold:.4f} ({cost}): {gain}{proof}."

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"sentence": self.sentence, "route": self.route, **asdict(self)}


def advise(
    profile: Profile,
    router: ResolutionRouter,
    *,
    budget: float | None = None,
    margin: float = 0.5,
    bootstrap: int = 1000,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> Advice:
    """Compare one size with two routed ones on a profile, and say what to run; three are drawn beside them.

    Args:
        profile: a labelled profile of at least two sizes, of photos that trained nothing.
        router: gives the scores.
        budget: mean GMACs per image that may be spent; None looks for the cheapest way within `margin`.
        margin: AP that may be lost against the largest size, in points of 100.
        bootstrap: resamples for the intervals.
        seed: of folds and resamples.
        groups: (n,) number of the group of each image, such as its video, for resampling by group.

    Raises:
        DualResError: If the profile has no labels, or the budget is below the cheapest way.
    """
    measured = Measured.of(profile)
    draws = draw(measured.mixed.n, bootstrap, np.random.default_rng(seed), groups)
    scores, spent = score_profile(router, profile, measured.mixed.rows), router.gmacs()
    fixed, routed = fixed_sizes(measured, draws), routed_sizes(measured, scores, spent, 2, draws, seed)
    if budget is not None and budget < fixed.mean_cost[0]:
        raise DualResError(
            f"a budget of {budget:g} GMACs is below the smallest size of this profile, {fixed.mean_cost[0]:.3g}: "
            "profile smaller ones."
        )
    over = _over_range(routed, fixed, draws)
    helps = over.mean >= WORTH and over.low > -margin
    point = _point(routed, budget, margin, fixed.ap[-1]) if helps else None
    chosen = None
    if point is not None and routed.ap[point] > fixed.ap_at(routed.mean_cost[point : point + 1])[0]:
        chosen = _runnable(measured, scores, float(routed.price[point]))
    if chosen is None or point is None:
        way, point = fixed, _point(fixed, budget, margin, fixed.ap[-1]) or 0
        sizes, threshold = [measured.sizes[int(fixed.routes[point, 0])]], None
    else:
        way, (sizes, threshold) = routed, chosen
    cost = way.mean_cost[point : point + 1]
    at_cost = fixed.ap_at(cost)[0], fixed.resampled_at(cost, draws)[0]
    return Advice(
        sizes, threshold, float(cost[0]), float(way.ap[point]), 1 - float(cost[0] / fixed.mean_cost[-1]),
        interval(way.ap[point] - at_cost[0], way.resampled[point] - at_cost[1]),
        interval(way.ap[point] - fixed.ap[-1], way.resampled[point] - fixed.resampled[-1]),
        over, measured.mixed.n, _curves(measured, scores, spent, routed, seed),
    )  # fmt: skip


def _over_range(routed: Frontier, fixed: Frontier, draws: np.ndarray) -> Difference:
    """The mean difference over `BUDGETS`."""
    budgets = BUDGETS * fixed.mean_cost[-1]
    exact = (routed.ap_at(budgets) - fixed.ap_at(budgets)).mean()
    drawn = routed.resampled_at(budgets, draws) - fixed.resampled_at(budgets, draws)
    return interval(exact, drawn.mean(axis=0))


def _runnable(measured: Measured, scores: np.ndarray, price: float) -> tuple[list[int], float] | None:
    """The two sizes, largest first, and the threshold that all photos give at a price; None if they give one size."""
    cost = measured.cost[:, : measured.ours].mean(axis=0)
    policy = LadderPolicy.fit(scores, measured.quality, cost)
    steps = policy.thresholds(price, policy.best_sizes(price, 2))
    if len(steps) < 2 or steps[1][0] > steps[0][0]:  # a router whose high scores gain less from pixels
        return None
    (low, _), (high, threshold) = steps
    return [measured.sizes[high], measured.sizes[low]], threshold


def _curves(
    measured: Measured, scores: np.ndarray, router_gmacs: float, routed: Frontier, seed: int
) -> dict[str, list[tuple[float, float]]]:
    """Every way, for the picture; without resamples."""
    none = np.zeros((0, measured.mixed.n), dtype=np.float32)
    ways = {"one size (high frame scaled)": fixed_sizes(measured, none, host=False), routed.name: routed}
    if len(measured.passes) > measured.ours:
        ways = {"one size (host)": fixed_sizes(measured, none, host=True), **ways}
    if measured.ours > 2:
        three = routed_sizes(measured, scores, router_gmacs, 3, none, seed)
        ways[three.name] = three
    return {name: list(zip(way.mean_cost.tolist(), way.ap.tolist())) for name, way in ways.items()}


def _point(way: Frontier, budget: float | None, margin: float, high: float) -> int | None:
    """The best point within a budget, None if all cost more; or the cheapest that loses no more than the margin."""
    cost = way.mean_cost
    if budget is not None:
        within = np.flatnonzero(cost <= budget)
        return int(within[np.argmax(way.ap[within])]) if len(within) else None
    good = np.flatnonzero(way.ap >= high - margin / 100)
    return int(good[np.argmin(cost[good])]) if len(good) else int(np.argmax(way.ap))
