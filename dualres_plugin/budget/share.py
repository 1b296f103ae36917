"""The share of images at high that was realised, against the one that was wanted: how much of the gap is chance?"""

from __future__ import annotations

import math
from collections.abc import Mapping

Z = 1.96  # of a 95 % interval


def share_interval(high: int, images: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share: where it lies in the long run, by as many images.

    It takes the images as drawn one by one; neighbouring frames of a video are alike and tell less.

    Args:
        high: images that went high.
        images: all of them.

    Returns:
        Lowest and highest share, 0 to 1; everything where there is no image.
    """
    if not images:
        return 0.0, 1.0
    share, spread = high / images, Z * Z / images
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def off_target(target: float, high: int, images: int) -> bool:
    """Is the share too far from the wanted one to be chance?

    Args:
        target: wanted share, 0 to 1.
        high: images that went high.
        images: all of them.
    """
    low, most = share_interval(high, images)
    return not low - 1e-9 <= target <= most + 1e-9


def share_text(high: int, images: int) -> str:
    """A count of images at high in words.

    Args:
        high: images that went high.
        images: all of them.
    """
    if not images:
        return "no images"
    low, most = share_interval(high, images)
    return f"{images} images, {high} at high ({high / images:.1%}), 95 % interval {low:.0%} to {most:.0%}"


def routes_text(routes: Mapping[str, int]) -> str:
    """A count of images by route in words: of high and low as `share_text`, of several sizes each.

    Args:
        routes: how many images took each: "high", "low"; or "640", "512", …; and "skip", of a stream.
    """
    images = sum(routes.values())
    if set(routes) <= {"high", "low"}:
        return share_text(routes.get("high", 0), images)
    named = (
        f"{route}{' px' if route.isdigit() else ''} {routes[route]} ({routes[route] / images:.0%})"
        for route in sorted(routes, key=_largest_first)
    )
    return f"{images} images: {', '.join(named)}"


def _largest_first(route: str) -> tuple[int, str]:
    return (-int(route) if route.isdigit() else 0, route)
