"""How many sizes are worth having: each further one must bring something, on the photos that choose."""

from __future__ import annotations

import numpy as np

from dualres_plugin.evaluate.ladder.frontier import Measured, cross_fitted, fixed_sizes, routed_sizes

BUDGETS = np.linspace(0.65, 0.90, 11)  # of all-high's cost: where people look who want to save without losing
WORTH = 0.2  # AP: less is not worth a further part in the system
MOST = 4  # sizes of one routing


def sizes_worth(
    measured: Measured,
    scores: np.ndarray,
    deciding: float,
    prices: np.ndarray,
    seed: int = 0,
    groups: np.ndarray | None = None,
    among: np.ndarray | None = None,
) -> int:
    """The number of sizes that these photos choose, by five folds among them.

    Args:
        measured: the profile.
        scores: (n,) the router's.
        deciding: what it costs per image.
        prices: (P,) λ of the points that are tried.
        seed: of the folds.
        groups: (n,) number of the group of each image.
        among: (n,) bool, the photos that choose; all by default.

    Returns:
        1 to 4: the most that gain `WORTH` over fewer on the mean of `BUDGETS`.
    """
    n = measured.mixed.n
    known = np.ones(n, dtype=bool) if among is None else among
    none = np.zeros((0, n), dtype=np.float32)
    fixed = fixed_sizes(measured, none, among=known)
    budgets = BUDGETS * fixed.cost[-1, known].mean()
    found, base = 1, np.interp(budgets, fixed.cost[:, known].mean(axis=1), fixed.ap)
    for count in range(2, min(MOST, measured.ours) + 1):
        parts = cross_fitted(measured, scores, count, seed, groups, known)
        way = routed_sizes(measured, parts, scores, deciding, none, prices, known)
        line = np.interp(budgets, way.cost[:, known].mean(axis=1), way.ap)
        if 100 * (line - base).mean() >= WORTH:
            found, base = count, line
    return found
