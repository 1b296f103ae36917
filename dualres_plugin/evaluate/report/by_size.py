"""AP of small, medium and large objects at operating points between all low and all high."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.curve import COARSE, descending, sweep
from dualres_plugin.profile.coco_ap import AREAS, MixedAP
from dualres_plugin.profile.table import Profile

SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class SizeCurve:
    """AP of the objects of one size.

    Attributes:
        name: "small", "medium" or "large", by COCO's limits of area.
        objects: how many labelled objects of this size there are.
        beta: (P,) share of images at high.
        ap: (P,) AP in [0, 1]; empty where there are no objects of this size.
    """

    name: str
    objects: int
    beta: np.ndarray
    ap: np.ndarray

    def at(self, beta: float) -> float:
        """AP at a share of images at high, by linear interpolation; NaN without objects.

        Args:
            beta: 0 to 1.

        Returns:
            AP in [0, 1]; NaN without objects.
        """
        return float(np.interp(beta, self.beta, self.ap)) if len(self.ap) else float("nan")

    def as_dict(self, beta: float) -> dict[str, Any]:
        """The entry of metrics.json, with AP low, high, and routed at β.

        Args:
            beta: share of images at high of the operating point.

        Returns:
            Plain JSON types, but for NaN.
        """
        return {
            "objects": self.objects,
            "ap_low": self.at(0.0),
            "ap_high": self.at(1.0),
            "ap_routed": self.at(beta),
            "points": [{"beta": float(b), "ap": float(a)} for b, a in zip(self.beta, self.ap)],
        }


def ap_by_size(profile: Profile, scores: np.ndarray, points: int = COARSE) -> list[SizeCurve]:
    """Sweep the router's order once for each object size.

    Args:
        profile: a labelled profile.
        scores: (n,) router scores of its original images.
        points: operating points between β = 0 and β = 1.

    Returns:
        Small, medium and large.
    """
    return [_curve(profile, size, descending(scores), points) for size in SIZES]


def _curve(profile: Profile, size: str, order: np.ndarray, points: int) -> SizeCurve:
    objects = _count(profile, AREAS[size])
    try:
        beta, ap = sweep(MixedAP(profile, area=size), order, points)
    except DualResError:  # no object of this size
        return SizeCurve(size, objects, np.zeros(0), np.zeros(0))
    return SizeCurve(size, objects, beta, ap)


def _count(profile: Profile, limits: tuple[float, float]) -> int:
    total = 0
    for row in map(int, profile.originals):
        area = profile.area(row)
        inside = (area >= limits[0]) & (area <= limits[1])
        total += int(np.sum(inside & ~profile.targets(row).ignore))
    return total
