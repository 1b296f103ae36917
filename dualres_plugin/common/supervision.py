"""Results of every host as `supervision.Detections`, for its annotators, trackers and zones.

`supervision` is optional: `pip install "dualres-plugin[supervision]"`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from dualres_plugin.common.errors import DualResError


class Routed(Protocol):
    """An `ImageDecision`, or anything else with a route and a score (this module runs without torch)."""

    @property
    def route(self) -> str:
        """Either "high" or "low"; of several sizes the size."""

    @property
    def score(self) -> float:
        """The router's."""


def supervision() -> Any:
    """The module.

    Raises:
        DualResError: If it is not installed.
    """
    try:
        import supervision as module
    except ImportError as error:
        raise DualResError(
            f"to_supervision needs the package supervision ({error}). "
            'Install it with: pip install "dualres-plugin[supervision]"'
        ) from None
    return module


def to_supervision(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    route: Routed,
    names: dict[int, str] | None = None,
    masks: np.ndarray | None = None,
) -> Any:
    """`supervision.Detections` of one image.

    Args:
        boxes: (N, 4) xyxy in pixels of the original image.
        scores: (N,).
        labels: (N,) the detector's own class index.
        route: of the image, see `with_route`.
        names: label -> class name; they become `data["class_name"]`.
        masks: (N, H, W) bool.
    """
    found = supervision().Detections(
        xyxy=np.asarray(boxes, dtype=np.float32).reshape(-1, 4),
        confidence=np.asarray(scores, dtype=np.float32).reshape(-1),
        class_id=np.asarray(labels).reshape(-1).astype(int),
        mask=masks,
    )
    return with_route(with_names(found, names), route)


def with_names(found: Any, names: dict[int, str] | None) -> Any:
    """The same detections with class names where supervision's annotators look for them.

    Args:
        found: `supervision.Detections`, changed in place.
        names: label -> class name; None adds nothing.
    """
    if names is not None:
        found.data["class_name"] = np.array([names.get(int(i), str(i)) for i in found.class_id], dtype=str)
    return found


def with_route(found: Any, route: Routed) -> Any:
    """The same detections with the route of their image: `data["route"]` and `data["route_score"]`, one per box.

    They are kept per box, not in `metadata`, because detections with different metadata cannot be merged.

    Args:
        found: `supervision.Detections`, changed in place.
        route: of the image.
    """
    found.data["route"] = np.full(len(found), route.route)
    found.data["route_score"] = np.full(len(found), route.score, dtype=np.float32)
    return found
