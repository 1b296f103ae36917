"""From a router's score to one of several sizes: where along the scores each size is worth its cost.

The router's score says how much an image gains from more pixels; a ladder needs to know how much of that each size
brings. On calibration images the gain of a size over the smallest is fitted as a line over the rank of the score, two
numbers a size: with some hundred images more would be noise. At a price λ per GMAC an image runs at the size with the
largest `gain - λ · cost`. Lines make an envelope, so each size has one stretch of the score; where a larger size gains
less along it, the two are not chosen together. So there are K-1 thresholds, the larger size above each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np


@dataclass(frozen=True)
class LadderPolicy:
    """Fitted lines of K sizes, in the order that they were given.

    Attributes:
        level: (K,) mean gain of each size over the last, per image.
        slope: (K,) what it rises by from the lowest score to the highest.
        cost: (K,) mean GMACs per image.
        scores: (n,) of the calibration images, ascending: the rank of a new score is its share of these.
    """

    level: np.ndarray
    slope: np.ndarray
    cost: np.ndarray
    scores: np.ndarray

    @classmethod
    def fit(cls, scores: np.ndarray, quality: np.ndarray, cost: np.ndarray) -> LadderPolicy:
        """Least squares.

        Args:
            scores: (n,) the router's, of calibration images.
            quality: (n, K) how well each image comes out at each size, such as its own AP; NaN rows say nothing.
            cost: (K,) mean GMACs per image.
        """
        ordered = np.sort(scores)
        gain = quality - quality[:, -1:]
        known = ~np.isnan(gain).any(axis=1)
        x = _rank(scores, ordered)[known] - 0.5
        design = np.stack([np.ones(len(x)), x], axis=1)
        level, slope = np.linalg.lstsq(design, gain[known], rcond=None)[0] if known.any() else np.zeros((2, len(cost)))
        return cls(level, slope, np.asarray(cost, dtype=np.float64), ordered)

    def values(self, scores: np.ndarray, price: float) -> np.ndarray:
        """(n, K) `gain - λ · cost` of images by their score.

        Args:
            scores: (n,).
            price: λ, gain per GMAC.
        """
        x = _rank(scores, self.scores) - 0.5
        return np.asarray(self.level + x[:, None] * self.slope - price * self.cost)

    def choose(self, scores: np.ndarray, price: float, sizes: Sequence[int] | None = None) -> np.ndarray:
        """The size of each image.

        Args:
            scores: (n,).
            price: λ, gain per GMAC.
            sizes: numbers of the sizes that may be used; all by default.

        Returns:
            (n,) number of a size.
        """
        allowed = np.arange(len(self.cost)) if sizes is None else np.asarray(sizes)
        return np.asarray(allowed[np.argmax(self.values(scores, price)[:, allowed], axis=1)])

    def thresholds(self, price: float, sizes: Sequence[int] | None = None) -> list[tuple[int, float]]:
        """The same as thresholds on the score.

        Args:
            price: λ, gain per GMAC.
            sizes: as of `choose`.

        Returns:
            For each size in use, from the lowest scores up: its number, and the score above which it begins; the first
            begins at minus infinity.
        """
        route = self.choose(self.scores, price, sizes)
        begins = [0, *(np.flatnonzero(np.diff(route)) + 1).tolist()]
        return [
            (int(route[i]), float((self.scores[i - 1] + self.scores[i]) / 2) if i else float("-inf")) for i in begins
        ]

    def best_sizes(self, price: float, count: int) -> tuple[int, ...]:
        """The sizes, so many or fewer, that are worth most together on the calibration images.

        Only those that thresholds can choose: what gains more along the score must be the larger size.

        Args:
            price: λ, gain per GMAC.
            count: of sizes at most.

        Returns:
            Their numbers, by trying every choice; the fewest of those that are worth the same.
        """
        values = self.values(self.scores, price)
        numbers = range(len(self.cost))
        every = [c for k in range(1, count + 1) for c in combinations(numbers, k) if self._in_order(c)]
        return max(every, key=lambda chosen: float(values[:, chosen].max(axis=1).mean()))

    def _in_order(self, chosen: Sequence[int]) -> bool:
        """Whether the sizes, largest first, are those of falling scores."""
        return bool((np.diff(self.slope[list(chosen)]) <= 0).all())


def _rank(scores: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """(n,) in [0, 1]: the share of the ordered scores below each score, ties sharing their mean."""
    below, upto = (np.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
    return np.asarray((below + upto) / (2 * max(1, len(ordered))))
