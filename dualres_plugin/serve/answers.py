"""What `/predict` answers."""

from __future__ import annotations

from pydantic import BaseModel, FiniteFloat

from dualres_plugin.runtime.result import SessionResult


class Problem(BaseModel):
    """The answer to every request that is refused.

    Attributes:
        error: what is wrong.
    """

    error: str


class Found(BaseModel):
    """What was found in one photo. Numbers are the session's: the decimals read back to the same bits.

    Attributes:
        boxes: N times x0, y0, x1, y1 in pixels of the photo.
        scores: N, best first.
        labels: N.
        names: N, of the labels.
        route: "high" or "low"; of more than two sizes the size itself.
        size: that the photo ran at, in pixels and in the host's own meaning of size.
        score: the router's.
        ms: milliseconds that router and detector took.
    """

    boxes: list[tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]]
    scores: list[FiniteFloat]
    labels: list[int]
    names: list[str]
    route: str
    size: int | None
    score: FiniteFloat
    ms: float


def found(result: SessionResult, milliseconds: float) -> Found:
    """The answer for a result.

    Args:
        result: of one photo.
        milliseconds: that the session took.
    """
    labels = result.labels.tolist()
    return Found(
        boxes=result.boxes.tolist(),
        scores=result.scores.tolist(),
        labels=labels,
        names=[result.names.get(label, str(label)) for label in labels],
        route=result.route,
        size=result.size,
        score=result.score,
        ms=round(milliseconds, 3),
    )
