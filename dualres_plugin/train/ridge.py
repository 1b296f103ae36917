"""The head on a frozen backbone, in closed form: with few images nothing beats a well-regularised linear map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
    features: np.ndarray,
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
        features: (n, d), standardised.
        target: (n,).
        groups: (n,) source image of each row; a fold never splits one.
        weights: (n,) how much each row counts; equal by default.
        judged: (n,) bool, the rows on which strengths are compared; all by default.
        strengths: penalties to choose from.
        seed: of the folds.

    Returns:
        The map of the best strength, refitted on all rows.
    """
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
        maps, bias = _solve(features[~out], target[~out], weight[~out], strengths)
        predicted[:, out] = maps @ features[out].T + bias[:, None]
    quality = [spearman(p[compared], target[compared]) for p in predicted]
    best = int(np.argmax(quality))
    maps, bias = _solve(features, target, weight, strengths[best : best + 1])
    tried = [(float(strength), float(found)) for strength, found in zip(strengths, quality)]
    return Ridge(maps[0], float(bias[0]), *tried[best], predicted[best], tried)


def _solve(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, strengths: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """(L, d) weights and (L,) biases for every strength, from one decomposition."""
    share = weight / weight.sum()
    centre, level = share @ x, share @ y
    scaled = (x - centre) * weight[:, None]
    values, vectors = np.linalg.eigh(scaled.T @ (x - centre))
    projected = vectors.T @ (scaled.T @ (y - level))
    shrunk = projected / (np.maximum(values, 0) + np.asarray(strengths)[:, None])
    maps = shrunk @ vectors.T
    return maps, level - maps @ centre
