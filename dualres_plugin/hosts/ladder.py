"""The sizes that a routed detector runs at: high and low, or more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.resize import LowSize, check_scale


@dataclass(frozen=True)
class Ladder:
    """The sizes as they were asked for: what is given in pixels stays in pixels, whatever high size a call runs at.

    Attributes:
        lower: the sizes below the largest one, largest first; one of them where there is just high and low.
        high: the largest size in pixels that was known when they were given, if any.
    """

    lower: tuple[LowSize, ...]
    high: int | None = None

    @classmethod
    def of(cls, low: float | LowSize | Ladder | Sequence[float | LowSize], high: int | None = None) -> Ladder:
        """What a user asks for.

        Args:
            low: the low size, a ratio of the high one (0.5) or in pixels (320); or several, largest first.
            high: the high size in pixels; None where only ratios can be meant.

        Raises:
            DualResError: If a size is not smaller than the one before.
        """
        if isinstance(low, Ladder):
            return low
        given = (low,) if isinstance(low, (int, float, LowSize)) else tuple(low)
        if not given:
            raise DualResError("routing needs two sizes at least: the high one and a smaller one.")
        made = tuple(_low_size(size, high) for size in given)
        ladder = cls(made, high)
        ladder.ratios(high)
        return ladder

    def __len__(self) -> int:
        """How many sizes there are, the largest among them."""
        return 1 + len(self.lower)

    def ratios(self, high: int | None = None) -> tuple[float, ...]:
        """The ratio to the largest size of each size below it.

        Args:
            high: the largest size of a batch in pixels; None is the one that the sizes were given for.

        Raises:
            DualResError: If the sizes do not become smaller.
        """
        found = tuple(low.at(high) for low in self.lower)
        for larger, smaller in pairwise(found):
            if not smaller < larger:
                raise DualResError(
                    f"sizes must become smaller, largest first: {self.lower[found.index(larger)]} is followed by "
                    f"{self.lower[found.index(smaller)]}."
                )
        return found

    def pixels(self, high: int | None = None) -> tuple[int, ...] | None:
        """All sizes in pixels, largest first.

        Args:
            high: as of `ratios`.

        Returns:
            None where the largest is not known.
        """
        largest = high or self.high
        if largest is None:
            return None
        return largest, *(round(largest * ratio) for ratio in self.ratios(high))

    def __str__(self) -> str:
        return ", ".join(map(str, self.lower))


def _low_size(size: float | LowSize, high: int | None) -> LowSize:
    if isinstance(size, LowSize) or high is not None:
        return LowSize.of(size, high or 0)
    return LowSize(check_scale(size))
