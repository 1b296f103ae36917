"""The head on a frozen backbone, in closed form: with few images nothing beats a well-regularised linear map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dualres_plugin.train.linear.features import Reader, in_memory, total
from dualres_plugin.train.ranks import spearman

STRENGTHS = (30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)
FOLDS = 5


@dataclass(frozen=True)
class Ridge:
    """A fitted map.

    Attributes:
        weights: (d,) of the features.
        bias: added to their sum.
        strength: the chosen penalty.
        spearman: its cross-validated rank correlation with the target.
        out_of_fold: (n,) predictions of each row by folds that did not see its image.
        tried: every penalty with its rank correlation.
    """

    weights: np.ndarray
    bias: float
    strength: float
    spearman: float
    out_of_fold: np.ndarray
    tried: list[tuple[float, float]]


def fit_ridge(
    features: np.ndarray | Reader,
    target: np.ndarray,
    groups: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    judged: np.ndarray | None = None,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> Ridge:
    """Weighted ridge regression; the strength is the one that ranks best in cross-validation over source images.

    Args:
        features: (n, d), standardised; or what reads them.
        target: (n,).
        groups: (n,) source image of each row; a fold never splits one.
        weights: (n,) how much each row counts; equal by default.
        judged: (n,) bool, the rows on which strengths are compared; all by default.
        strengths: penalties to choose from.
        seed: of the folds.

    Returns:
        The map of the best strength, refitted on all rows.
    """
    read = in_memory(features) if isinstance(features, np.ndarray) else features
    weight = np.ones(len(target)) if weights is None else np.asarray(weights, dtype=np.float64)
    compared = np.ones(len(target), dtype=bool) if judged is None else judged
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.unique(groups))
    fold = {g: i % FOLDS for i, g in enumerate(names.tolist())}
    fold_of = np.array([fold[g] for g in groups.tolist()])
    predicted = np.zeros((len(strengths), len(target)))
    for number in range(min(FOLDS, len(names))):
        out = fold_of == number
        if out.all():
            continue
        maps, bias = _solve(read, ~out, target, weight, strengths)
        for rows, x in read(out):
            predicted[:, rows] = maps @ x.T + bias[:, None]
    quality = [spearman(p[compared], target[compared]) for p in predicted]
    best = int(np.argmax(quality))
    maps, bias = _solve(read, np.ones(len(target), dtype=bool), target, weight, strengths[best : best + 1])
    tried = [(float(strength), float(found)) for strength, found in zip(strengths, quality)]
    return Ridge(maps[0], float(bias[0]), *tried[best], predicted[best], tried)


def _solve(
    read: Reader, used: np.ndarray, y: np.ndarray, weight: np.ndarray, strengths: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """(L, d) weights and (L,) biases for every strength, from one decomposition over the rows in use."""
    share = weight / weight[used].sum()
    centre, level = total(share[rows] @ x for rows, x in read(used)), share[used] @ y[used]

    def products() -> Iterator[np.ndarray]:
        for rows, x in read(used):
            scaled = (x - centre) * weight[rows][:, None]
            yield np.concatenate([scaled.T @ (x - centre), (scaled.T @ (y[rows] - level))[:, None]], axis=1)

    sums = total(products())
    values, vectors = np.linalg.eigh(np.ascontiguousarray(sums[:, :-1]))
    projected = vectors.T @ np.ascontiguousarray(sums[:, -1])
    shrunk = projected / (np.maximum(values, 0) + np.asarray(strengths)[:, None])
    maps = shrunk @ vectors.T
    return maps, level - maps @ centre
