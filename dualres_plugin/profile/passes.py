"""The passes of a profile: at which sizes the detector ran over every image.

A profile of two sizes has the passes "high" and "low". One of a ladder of sizes has one more for each size in between,
such as "s512", and may have the host's own passes at the smaller sizes beside ours, such as "host512": what somebody
gets who asks the host for `imgsz=512`, its own resampling and padding included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dualres_plugin.common.errors import DualResError, check_number

HIGH, LOW = "high", "low"
MOST_SIZES = 16


@dataclass(frozen=True)
class Pass:
    """One size at which every image was run.

    Attributes:
        name: of its columns.
        size: in pixels, in the host's own meaning of size.
        own: by the host's own preprocessing at that size; else the high frame, scaled down, as routing does it.
    """

    name: str
    size: int
    own: bool = False


def routed_passes(meta: Mapping[str, Any]) -> list[Pass]:
    """The sizes that can be routed between, largest first.

    Args:
        meta: content of a `profile.json`.
    """
    high = int(meta["high"])
    between = [Pass(f"s{size}", int(size)) for size in meta.get("between", ())]
    return [Pass(HIGH, high), *between, Pass(LOW, round(high * float(meta["scale"])))]


def host_passes(meta: Mapping[str, Any]) -> list[Pass]:
    """The host's own passes, largest first: the high one, which is ours too, and those stored beside it.

    Args:
        meta: content of a `profile.json`.
    """
    stored = [Pass(f"host{size}", int(size), own=True) for size in meta.get("host_sizes", ())]
    return [Pass(HIGH, int(meta["high"]), own=True), *stored]


def extra_names(meta: Mapping[str, Any]) -> list[str]:
    """Names of the passes that a profile of two sizes has not.

    Args:
        meta: content of a `profile.json`.
    """
    return [p.name for p in (*routed_passes(meta), *host_passes(meta)) if p.name not in (HIGH, LOW)]


def check_ladder(sizes: Sequence[int]) -> tuple[int, ...]:
    """A ladder of sizes, largest first.

    Args:
        sizes: in pixels, in any order.

    Raises:
        DualResError: If there are fewer than two, too many, or two are the same.
    """
    for size in sizes:
        check_number("sizes", size, 1)
    ladder = tuple(sorted(sizes, reverse=True))
    if not 2 <= len(ladder) <= MOST_SIZES or len(set(ladder)) < len(ladder):
        raise DualResError(
            f"sizes {', '.join(map(str, sizes))}: give two to {MOST_SIZES} different sizes, such as 640,512,448."
        )
    return ladder
