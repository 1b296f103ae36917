"""From a result to plain values."""

from __future__ import annotations

from typing import Any

from dualres_plugin.common.card import Card
from dualres_plugin.runtime.session import SessionResult


def size_of(route: str, card: Card) -> int:
    """The size that a photo ran at, in pixels and in the host's own meaning of size.

    Args:
        route: "high" or "low"; of more than two sizes the size itself.
        card: of the model.
    """
    if route.isdecimal():
        return int(route)
    return card.high if route == "high" else round(card.high * card.scale)


def as_json(result: SessionResult, card: Card, milliseconds: float) -> dict[str, Any]:
    """The answer of `/predict`. Numbers are those of the session: as decimals they read back to the same bits.

    Args:
        result: of one photo.
        card: of the model.
        milliseconds: that the session took.

    Returns:
        boxes (N lists of x0, y0, x1, y1 in pixels of the photo), scores, labels and names (N each), and of the photo
        its route, size in pixels, score of the router, and ms.
    """
    labels = result.labels.tolist()
    return {
        "boxes": result.boxes.tolist(),
        "scores": result.scores.tolist(),
        "labels": labels,
        "names": [result.names.get(label, str(label)) for label in labels],
        "route": result.route,
        "size": size_of(result.route, card),
        "score": result.score,
        "ms": round(milliseconds, 3),
    }
