"""Which sizes to run: one, or several with a router; and whether photos can show that it helps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.ladder.difference import Difference, interval
from dualres_plugin.evaluate.ladder.frontier import NAMES, Frontier, Measured, fixed_sizes, prices_of, routed_sizes
from dualres_plugin.evaluate.ladder.paired import halves
from dualres_plugin.evaluate.ladder.steps import Case, Step
from dualres_plugin.evaluate.ladder.worth import BUDGETS, MOST, sizes_worth
from dualres_plugin.evaluate.scoring import score_profile
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter

ROUTER = "router"  # its entry among the times


@dataclass(frozen=True)
class Advice:
    """What to run, and why.

    Attributes:
        choice: the sizes and thresholds, with their figures.
        unit: of every cost: "GMACs" or "ms".
        saved: share of the cost of the largest size that is saved.
        over_range: mean difference of routing to fixed sizes at 65 to 90 % of the largest size's cost.
        n: photos that gave the figures.
        chosen_on: photos that chose, where they are others; else 0, for five folds.
        frontiers: name -> points (cost, AP).
        ways: name -> everything that can be run that way, cheapest first; empty where it was not asked for.
    """

    choice: Step
    unit: str
    saved: float
    over_range: Difference
    n: int
    chosen_on: int
    frontiers: dict[str, list[tuple[float, float]]]
    ways: dict[str, list[Step]]

    @property
    def route(self) -> bool:
        """Whether it is several sizes and a router."""
        return len(self.choice.sizes) > 1

    @property
    def sentence(self) -> str:
        """The answer."""
        step = self.choice
        cost = f"{1 - self.saved:.0%} of the cost of the largest size, {step.against_high} against it"
        gain = f"{self.over_range} against one size at 65 to 90 % of the largest one's cost"
        if not self.route:
            what = cost if self.saved > 0 else "the largest"
            return f"run {step.command} ({what}): routing adds nothing that {self.n} photos can show, {gain}."
        shares = ", ".join(f"{share:.0%} at {size}" for share, size in zip(step.shares, step.sizes))
        proof = "" if self.over_range.low > 0 else f"; {self.n} photos do not prove it"
        return f"route {step.command} ({shares}; {cost}): {gain}{proof}."

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        known = {key: value for key, value in asdict(self).items() if key not in ("choice", "ways")}
        return {"sentence": self.sentence, "route": self.route, **asdict(self.choice), **known}


def advise(
    profile: Profile,
    router: ResolutionRouter,
    *,
    choose_on: Profile | None = None,
    budget: float | None = None,
    times: Mapping[int | str, float] | None = None,
    margin: float = 0.5,
    bootstrap: int = 1000,
    seed: int = 0,
    groups: np.ndarray | None = None,
    every: bool = False,
) -> Advice:
    """Compare one size with several routed ones on a profile, and say what to run.

    Args:
        profile: a labelled profile of at least two sizes, of photos that trained nothing; gives the figures.
        router: gives the scores.
        choose_on: a profile of the same detector and sizes on other photos, which choose sizes and thresholds; without
            it the photos of `profile` choose for one another, in five folds.
        budget: mean cost per image that may be spent, in GMACs, or in ms with `times`; None looks for the cheapest way
            within `margin`.
        times: milliseconds per image of each size, by pixels, and of the "router": costs are these instead of GMACs.
        margin: AP that may be lost against the largest size, in points of 100.
        bootstrap: resamples for the intervals.
        seed: of folds and resamples.
        groups: (n,) number of the group of each image, such as its video, for resampling and folds by group.
        every: fill `ways`, too.

    Raises:
        DualResError: If a profile has no labels, the two do not fit together, a time is missing, or the budget is below
            the cheapest way.
    """
    case = _case(profile, router, choose_on, times, bootstrap, seed, groups)
    fixed = case.fixed()
    unit = "ms" if times else "GMACs"
    if budget is not None and budget < fixed.mean_cost[0]:
        raise DualResError(
            f"a budget of {budget:g} {unit} is below the smallest size of this profile, {fixed.mean_cost[0]:.3g}: "
            "profile smaller ones."
        )
    count = sizes_worth(
        case.chosen, case.chosen_scores, case.deciding, case.prices, seed, groups if case.folds else None
    )
    over = _over_range(case, fixed, count)
    helps = count > 1 and over.low > -margin
    choice = _routed(case, fixed, count, budget, margin) if helps else None
    choice = choice or _fixed(case, fixed, budget, margin)
    return Advice(
        choice, unit, 1 - choice.cost / float(fixed.mean_cost[-1]), over, case.measured.mixed.n,
        0 if case.folds else case.chosen.mixed.n, _curves(case), _ways(case, fixed) if every else {},
    )  # fmt: skip


def _case(
    profile: Profile,
    router: ResolutionRouter,
    choose_on: Profile | None,
    times: Mapping[int | str, float] | None,
    bootstrap: int,
    seed: int,
    groups: np.ndarray | None,
) -> Case:
    found = []
    for one in [profile] if choose_on is None else [profile, choose_on]:
        if not one.labelled:
            raise DualResError(
                f"profile '{one.path}' has no labels, and without them nobody knows what a size is worth: profile "
                "labelled photos with --data; some hundred are enough."
            )
        measured = Measured.of(one)
        found.append((_timed(measured, times) if times else measured, score_profile(router, one, measured.mixed.rows)))
    measured, scores = found[0]
    chosen, chosen_scores = found[-1]
    if choose_on is not None:
        _check_same(profile, choose_on)
    draws = halves(measured.mixed.n, bootstrap, np.random.default_rng(seed), groups)
    deciding = float(times[ROUTER]) if times else router.gmacs()
    return Case(measured, scores, chosen, chosen_scores, deciding, draws, prices_of(chosen), seed, groups)


def _check_same(profile: Profile, choose_on: Profile) -> None:
    """Thresholds and sizes mean the same on both."""
    mine, theirs = (
        f"{one.meta['detector']} at {', '.join(str(p.size) for p in one.passes)} px" for one in (profile, choose_on)
    )
    if mine != theirs:
        raise DualResError(
            f"'{choose_on.path}' is a profile of {theirs}, '{profile.path}' of {mine}: choose on the same detector and "
            "sizes."
        )


def _timed(measured: Measured, times: Mapping[int | str, float]) -> Measured:
    missing = [str(name) for name in [*dict.fromkeys(measured.sizes), ROUTER] if name not in times]
    if missing:
        raise DualResError(f"times lack {', '.join(missing)}: give milliseconds for every size and the router.")
    return measured.timed({size: float(times[size]) for size in measured.sizes})


def _over_range(case: Case, fixed: Frontier, count: int) -> Difference:
    """The mean difference over `BUDGETS`; in folds, each with the number of sizes that the others find worth it."""
    parts = case.parts(max(2, count))
    if case.folds and count > 1:
        worth = (
            sizes_worth(case.measured, case.scores, case.deciding, case.prices, case.seed, case.groups, ~part.here)
            for part in parts
        )
        parts = [replace(part, count=number) for part, number in zip(parts, worth)]
    way = routed_sizes(case.measured, parts, case.scores, case.deciding, case.draws, case.prices)
    budgets = BUDGETS * fixed.mean_cost[-1]
    drawn = way.resampled_at(budgets, case.draws) - fixed.resampled_at(budgets, case.draws)
    return interval((way.ap_at(budgets) - fixed.ap_at(budgets)).mean(), drawn.mean(axis=0))


def _routed(case: Case, fixed: Frontier, count: int, budget: float | None, margin: float) -> Step | None:
    """The routing within a budget; None where one size is as good at this cost, on the photos that choose."""
    way = case.choosing(count)
    line = fixed if case.folds else _fixed_of(case.chosen)
    point = _point(way, budget, margin, line.ap[-1])
    if point is None or way.ap[point] <= line.ap_at(way.mean_cost[point : point + 1])[0]:
        return None
    one = case.routed(count, prices=way.price[point : point + 1])
    step = case.steps(one, fixed, count)[0]
    return step if len(step.sizes) > 1 else None


def _fixed(case: Case, fixed: Frontier, budget: float | None, margin: float) -> Step:
    """The one size within a budget."""
    line = fixed if case.folds else _fixed_of(case.chosen)
    chosen = _point(line, budget, margin, line.ap[-1]) or 0
    size = (case.measured if case.folds else case.chosen).sizes[int(line.routes[chosen, 0])]
    return next(step for step in case.steps(fixed, fixed, 1) if step.sizes == [size])


def _fixed_of(measured: Measured) -> Frontier:
    return fixed_sizes(measured, np.zeros((0, measured.mixed.n), dtype=np.float32))


def _curves(case: Case) -> dict[str, list[tuple[float, float]]]:
    """Every way, for the picture; without resamples."""
    measured, none = case.measured, case.draws[:0]
    ways = {"one size (high frame scaled)": fixed_sizes(measured, none, host=False)}
    if len(measured.passes) > measured.ours:
        ways = {"one size (host)": fixed_sizes(measured, none, host=True), **ways}
    for count in range(2, min(MOST, measured.ours) + 1):
        ways[NAMES[count]] = case.routed(count, draws=False)
    return {name: list(zip(way.mean_cost.tolist(), way.ap.tolist())) for name, way in ways.items()}


def _ways(case: Case, fixed: Frontier) -> dict[str, list[Step]]:
    """Everything that can be run, with intervals."""
    ways = {NAMES[1]: case.steps(fixed, fixed, 1)}
    for count in range(2, min(MOST, case.measured.ours) + 1):
        ways[NAMES[count]] = case.steps(case.routed(count), fixed, count)
    return ways


def _point(way: Frontier, budget: float | None, margin: float, high: float) -> int | None:
    """The best point within a budget, None if all cost more; or the cheapest that loses no more than the margin."""
    cost = way.mean_cost
    if budget is not None:
        within = np.flatnonzero(cost <= budget)
        return int(within[np.argmax(way.ap[within])]) if len(within) else None
    good = np.flatnonzero(way.ap >= high - margin / 100)
    return int(good[np.argmin(cost[good])]) if len(good) else int(np.argmax(way.ap))
