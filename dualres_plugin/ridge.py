"""The head on a frozen backbone, in closed form: with few images nothing beats a well-regularised linear map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dualres_plugin.training_set import spearman

STRENGTHS = (30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)
FOLDS = 5


@dataclass(frozen=True)
class Ridge:
    """A fitted map.

    Attributes:
        weights, bias: (d,) and a number.
        strength: the chosen penalty.
        spearman: its cross-validated rank correlation with the target.
        out_of_fold: (n,) predictions of each row by folds that did not see its image.
    """

    weights: np.ndarray
    bias: float
    strength: float
    spearman: float
    out_of_fold: np.ndarray


def fit_ridge(
    features: np.ndarray, target: np.ndarray, groups: np.ndarray, strengths: Sequence[float] = STRENGTHS, seed: int = 0
) -> Ridge:
    """Ridge regression; the strength is the one that ranks best in cross-validation over source images.

    Args:
        features: (n, d), standardised.
        target: (n,).
        groups: (n,) source image of each row; a fold never splits one.
        strengths: penalties to choose from.

    """
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.unique(groups))
    fold = {g: i % FOLDS for i, g in enumerate(names.tolist())}
    fold_of = np.array([fold[g] for g in groups.tolist()])
    predicted = np.zeros((len(strengths), len(target)))
    for number in range(min(FOLDS, len(names))):
        out = fold_of == number
        if out.all():
            continue
        weights, bias = _solve(features[~out], target[~out], strengths)
        predicted[:, out] = weights @ features[out].T + bias[:, None]
    quality = [spearman(p, target) for p in predicted]
    best = int(np.argmax(quality))
    weights, bias = _solve(features, target, strengths[best : best + 1])
    return Ridge(weights[0], float(bias[0]), float(strengths[best]), float(quality[best]), predicted[best])


def _solve(x: np.ndarray, y: np.ndarray, strengths: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """(L, d) weights and (L,) biases for every strength, from one decomposition."""
    centre, level = x.mean(axis=0), y.mean()
    values, vectors = np.linalg.eigh((x - centre).T @ (x - centre))
    projected = vectors.T @ ((x - centre).T @ (y - level))
    shrunk = projected / (np.maximum(values, 0) + np.asarray(strengths)[:, None])
    weights = shrunk @ vectors.T
    return weights, level - weights @ centre
