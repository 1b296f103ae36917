"""A difference of two APs with its interval, and what it proves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Difference:
    """AP of one way minus AP of another, in points of 100.

    Attributes:
        mean: on all photos.
        low, high: 95 % interval, of paired half samples; NaN where there are no resamples.
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.1f} AP (95 % interval {self.low:+.1f} to {self.high:+.1f})"

    def not_worse(self, margin: float) -> str:
        """Whether a loss of more than a margin is ruled out: a test of non-inferiority, one-sided at 2.5 %.

        Args:
            margin: AP that may be lost, in points of 100.

        Returns:
            "shown", "not shown", or "shown to be worse".
        """
        if self.high < -margin:
            return "shown to be worse"
        return "shown" if self.low > -margin else "not shown"


def interval(exact: float, drawn: np.ndarray) -> Difference:
    """The exact difference, with the spread of those of half samples around their mean.

    Args:
        exact: on all photos, of 1.
        drawn: (B,) on each draw; NaN where a draw cannot tell.

    Returns:
        In points of 100.
    """
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return Difference(100 * float(exact), float("nan"), float("nan"))
    low, high = np.percentile(known - known.mean(), [2.5, 97.5])
    return Difference(100 * float(exact), 100 * float(exact + low), 100 * float(exact + high))
