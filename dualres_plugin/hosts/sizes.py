"""What a user asks of a detector's sizes, and what each of them costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dualres_plugin.common.errors import DualResError, check_number
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.ladder import Ladder


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


def size_costs(
    adapter: HostAdapter[Any], high: int, ladder: Ladder, image_size: tuple[int, int] | None = None
) -> list[float]:
    """GMACs of one image at each size, largest first.

    Args:
        adapter: of the detector.
        high: the largest size in pixels.
        ladder: the sizes.
        image_size: (height, width) of the image; None is a square one.

    Raises:
        DualResError: If the host cannot count compute.
    """
    shape = adapter.input_shape(image_size or (high, high), high)
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
