"""The sizes that a routed detector runs at: high and low, or more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from dualres_plugin.common.errors import DualResError, check_number
from dualres_plugin.common.resize import LowSize, check_scale

if TYPE_CHECKING:
    from dualres_plugin.hosts.contract import HostAdapter


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


def ask_sizes(
    adapter: HostAdapter[Any], low: float | None, high: int | None, sizes: Sequence[float] | None
) -> tuple[int, Ladder]:
    """The sizes that a user asks of a detector.

    Args:
        adapter: has sizes of its own where some are not given.
        low: the low size, a ratio or in pixels.
        high: the high size in pixels.
        sizes: instead of these two: largest first, in pixels or as ratios of the first; 1 in the first place is the
            detector's own size.

    Returns:
        The largest size in pixels, and all of them.

    Raises:
        DualResError: If a size is impossible, `sizes` comes beside the others, or a pair of networks is to run at more
            than two.
    """
    lower: Sequence[float] = (adapter.default_scale if low is None else low,)
    if sizes is not None:
        if low is not None or high is not None:
            raise DualResError("give either sizes, or high and low.")
        high, lower = _split(sizes, adapter.default_size)
        if adapter.low_detector is not None and len(lower) > 1:
            raise DualResError(f"a pair of networks has two sizes, one for each: it cannot run at {len(sizes)}.")
    check_number("high", high, 1)
    size = int(high or adapter.default_size)
    return size, Ladder.of(lower, adapter.host_size(size))


def size_costs(adapter: HostAdapter[Any], high: int, ladder: Ladder) -> list[float]:
    """GMACs of one square image at each size, largest first.

    Args:
        adapter: of the detector.
        high: the largest size in pixels.
        ladder: the sizes.

    Raises:
        DualResError: If the host cannot count compute.
    """
    shape = adapter.input_shape((high, high), high)
    lower = [adapter.macs(adapter.low_shape(shape, ratio), low=True) for ratio in ladder.ratios()]
    return [adapter.macs(shape), *lower]


def _split(sizes: Sequence[float], own: int) -> tuple[int, tuple[float, ...]]:
    numbers = [size for size in sizes if isinstance(size, (int, float)) and 0 < size < float("inf")]
    if len(numbers) != len(sizes) or len(sizes) < 2:
        raise DualResError(f"sizes={tuple(sizes)!r}: give two sizes or more, largest first, such as (640, 512, 448).")
    first, *others = sizes
    if first < 1:
        raise DualResError(f"sizes={tuple(sizes)!r}: the first is the largest, in pixels; 1 is the detector's own.")
    return (own if first == 1 else int(first)), tuple(others)
