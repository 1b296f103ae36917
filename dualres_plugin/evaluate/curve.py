"""A trade-off curve, and the sweep over operating points that makes one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dualres_plugin.evaluate.auc_policy import auc_policy
from dualres_plugin.profile.coco_ap import MixedAP

POINTS = 101  # operating points of a curve, β = 0, .01, …, 1


COARSE = 21  # and of each resample or permutation: AUC-Policy moves by less than .003 between the two


@dataclass(frozen=True)
class Curve:
    """A trade-off curve.

    Attributes:
        name: which policy.
        beta: (P,) share of images at high.
        gmacs: (P,) mean compute per image, the policy's own cost included.
        ap: (P,) AP@[.5:.95] in [0, 1].
        extra_gmacs: what deciding costs per image.
    """

    name: str
    beta: np.ndarray
    gmacs: np.ndarray
    ap: np.ndarray
    extra_gmacs: float = 0.0

    @property
    def auc_policy(self) -> float:
        """Eq. 10 on this curve's points."""
        return auc_policy(self.gmacs, self.ap)

    def points(self) -> list[dict[str, float]]:
        """The curve as metrics.json holds it.

        Returns:
            A dict of "beta", "gmacs" and "ap" for each of the P points.
        """
        return [
            {"beta": float(b), "gmacs": float(g), "ap": float(a)} for b, g, a in zip(self.beta, self.gmacs, self.ap)
        ]

    def ap_at(self, gmacs: float) -> float:
        """AP at a compute budget, by linear interpolation.

        Args:
            gmacs: mean compute per image in GMACs.

        Returns:
            AP in [0, 1]; that of the nearest end outside the curve.
        """
        return float(np.interp(gmacs, self.gmacs, self.ap))


def sweep(
    mixed: MixedAP, order: np.ndarray, points: int = POINTS, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """AP at every β when the images go high in the given order, most wanted first.

    Args:
        mixed: the images.
        order: (n,) image numbers.
        points: operating points between β = 0 and β = 1.
        weights: (n,) how often each image counts; β is then the weighted share.

    Returns:
        (P,) β and (P,) AP in [0, 1]; P is less than `points` where there are fewer images.
    """
    w = np.ones(mixed.n) if weights is None else weights
    total = w.sum()
    share = np.concatenate([[0.0], np.cumsum(w[order]) / total])
    # The number of images at high that comes nearest to each wanted rate; duplicates say nothing new.
    counts = np.unique([int(np.argmin(np.abs(share - b))) for b in np.linspace(0, 1, points)])
    high = np.zeros(mixed.n, dtype=bool)
    done, aps = 0, []
    for count in counts:
        high[order[done:count]] = True
        done = count
        aps.append(mixed.ap(high, weights))
    return share[counts], np.array(aps)


def descending(scores: np.ndarray) -> np.ndarray:
    """Image numbers by score, highest first; NaN last.

    Args:
        scores: (n,), may hold NaN.

    Returns:
        (n,) image numbers.
    """
    order: np.ndarray = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
    return order
