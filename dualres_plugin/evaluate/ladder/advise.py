"""Which sizes to run: one, or several with a router; and whether photos can show that it helps."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.ladder.frontier import Frontier, Measured, fixed_sizes, routed_sizes
from dualres_plugin.evaluate.ladder.paired import draw
from dualres_plugin.evaluate.scoring import score_profile
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter

BUDGETS = np.linspace(0.65, 0.90, 11)  # of all-high's cost: where people look who want to save without losing
WORTH = 0.2  # AP: less is not worth a second part in the system


@dataclass(frozen=True)
class Difference:
    """AP of one way minus AP of another, in points of 100.

    Attributes:
        mean: on all photos.
        low, high: 95 % interval, paired bootstrap.
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.1f} AP (95 % interval {self.low:+.1f} to {self.high:+.1f})"


@dataclass(frozen=True)
class Advice:
    """What to run, and why.

    Attributes:
        sentence: the answer.
        route: whether it is a router.
        shown: whether the interval lies above 0.
        sizes: in pixels, largest first, of the recommended way.
        share: of the images at each of them.
        gmacs: its mean cost per image, deciding included.
        ap: its AP in [0, 1].
        against_fixed: its difference to the best fixed size at the same cost.
        over_range: mean difference of the ladder to fixed sizes at 65 to 90 % of the largest size's cost.
        against_high: its difference to all images at the largest size.
        n: photos.
        frontiers: name -> points (GMACs, AP).
    """

    sentence: str
    route: bool
    shown: bool
    sizes: list[int]
    share: list[float]
    gmacs: float
    ap: float
    against_fixed: Difference
    over_range: Difference
    against_high: Difference
    n: int
    frontiers: dict[str, list[tuple[float, float]]]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class _Comparison:
    """Frontiers on the same photos and draws."""

    measured: Measured
    draws: np.ndarray
    fixed: Frontier
    routed: Frontier

    def difference(self, budgets: np.ndarray) -> Difference:
        """The ladder's mean difference to fixed sizes at budgets in GMACs."""
        exact = (self.routed.ap_at(budgets) - self.fixed.ap_at(budgets)).mean()
        drawn = self.routed.resampled_at(budgets, self.draws) - self.fixed.resampled_at(budgets, self.draws)
        return _interval(exact, drawn.mean(axis=0))


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
    """Compare one size, two sizes and ladders on a profile, and say what to run.

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
    scores = score_profile(router, profile, measured.mixed.rows)
    fixed = fixed_sizes(measured, draws)
    kinds = [
        routed_sizes(measured, scores, router.gmacs(), count, draws, seed)
        for count in dict.fromkeys((2, min(3, measured.ours)))
    ]
    everything = float(measured.cost[:, 0].mean())
    if budget is not None and budget < fixed.mean_cost[0]:
        raise DualResError(
            f"a budget of {budget:g} GMACs is below the smallest size of this profile, {fixed.mean_cost[0]:.3g}: "
            "profile smaller ones."
        )
    best = _Comparison(measured, draws, fixed, kinds[-1])  # three sizes hold two as a choice
    over = best.difference(BUDGETS * everything)
    ways = {
        "one size (host)": fixed_sizes(measured, draws[:0], host=True),
        "one size (high frame scaled)": fixed_sizes(measured, draws[:0], host=False),
        **{kind.name: kind for kind in kinds},
    }
    curves = {name: list(zip(way.mean_cost.tolist(), way.ap.tolist())) for name, way in ways.items()}
    return _decide(best, over, budget, margin, curves)


def _decide(best: _Comparison, over: Difference, budget: float | None, margin: float, curves: dict[str, Any]) -> Advice:
    """Route where that is at least as good everywhere it may matter, and more than nothing on average."""
    helps = over.mean >= WORTH and over.low > -margin
    way = best.routed if helps else best.fixed
    point = _point(way, budget, margin, best.fixed.ap[-1])
    if helps and not _pays(best, point):
        helps, way = False, best.fixed
        point = _point(way, budget, margin, best.fixed.ap[-1])
    cost, n = float(way.mean_cost[point]), best.measured.mixed.n
    route = way.routes[point]
    used = [int(i) for i in np.unique(route)]
    used.sort(key=lambda i: -best.measured.sizes[i])
    high = best.fixed
    at_cost = best.fixed.resampled_at(np.array([cost]), best.draws)[0]
    against = _interval(way.ap[point] - float(best.fixed.ap_at(np.array([cost]))[0]), way.resampled[point] - at_cost)
    lost = _interval(way.ap[point] - high.ap[-1], way.resampled[point] - high.resampled[-1])
    advice = Advice(
        "", helps, helps and over.low > 0, [best.measured.sizes[i] for i in used],
        [float((route == i).mean()) for i in used], cost, float(way.ap[point]), against, over, lost, n, curves,
    )  # fmt: skip
    return Advice(**{**advice.__dict__, "sentence": _sentence(advice, float(high.mean_cost[-1]))})


def _pays(best: _Comparison, point: int) -> bool:
    """Whether a point of the ladder uses more than one size, and beats fixed sizes at its cost."""
    cost = best.routed.mean_cost[point : point + 1]
    return len(np.unique(best.routed.routes[point])) > 1 and best.routed.ap[point] > best.fixed.ap_at(cost)[0]


def _point(way: Frontier, budget: float | None, margin: float, high: float) -> int:
    """The best point within a budget, or the cheapest that loses no more than the margin."""
    cost = way.mean_cost
    if budget is not None:
        within = np.flatnonzero(cost <= budget)
        return int(within[np.argmax(way.ap[within])]) if len(within) else 0
    good = np.flatnonzero(way.ap >= high - margin / 100)
    return int(good[np.argmin(cost[good])]) if len(good) else int(np.argmax(way.ap))


def _interval(exact: float, drawn: np.ndarray) -> Difference:
    """The exact difference, with the spread of the resampled ones around their mean."""
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return Difference(100 * float(exact), float("nan"), float("nan"))
    low, high = np.percentile(known - known.mean(), [2.5, 97.5])
    return Difference(100 * float(exact), 100 * float(exact + low), 100 * float(exact + high))


def _sentence(advice: Advice, everything: float) -> str:
    sizes = " / ".join(map(str, advice.sizes))
    saved = f"{advice.gmacs / everything:.0%} of the cost of the largest size"
    lost = f"{advice.against_high} against it"
    if not advice.route:
        return (
            f"run {sizes} px ({saved}, {lost}): routing adds nothing that {advice.n} photos can show, "
            f"{advice.over_range} against one size at 65 to 90 % of that cost."
        )
    proof = "" if advice.shown else f"; {advice.n} photos do not prove it"
    return (
        f"route {sizes} px ({saved}, {lost}): {advice.over_range} against one size at 65 to 90 % of that cost{proof}."
    )
