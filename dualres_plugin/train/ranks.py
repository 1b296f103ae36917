"""Ranks and their correlation."""

from __future__ import annotations

import numpy as np
import torch


def ranked(values: np.ndarray) -> np.ndarray:
    """Values -> standard normal by rank, ties sharing their mean rank; NaN stays NaN.

    Gains have heavy tails and a spike at zero; only their order matters to AUC-Policy.

    Args:
        values: (n,) numbers, NaN where unknown.

    Returns:
        (n,) float64.
    """
    out = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return out
    _, inverse, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middle = (last - counts + last - 1) / 2  # mean rank of each distinct value
    share = (middle[inverse] + 0.5) / len(known)
    out[known] = torch.special.ndtri(torch.from_numpy(share)).numpy()
    return out


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation, ties sharing their mean rank.

    Args:
        a: (n,) numbers without NaN.
        b: (n,) numbers without NaN.

    Returns:
        -1 to 1; 0 where one side is constant.
    """
    x, y = _mean_ranks(a), _mean_ranks(b)
    if x.std() == 0 or y.std() == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: np.ndarray = ((last - counts + last - 1) / 2)[inverse]
    return ranks
