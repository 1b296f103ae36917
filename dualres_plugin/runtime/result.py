"""What a session found in one photo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class SessionResult:
    """What was found in one photo.

    Attributes:
        boxes: (N, 4) float32, xyxy in pixels of the photo.
        scores: (N,) float32 in [0, 1], best first.
        labels: (N,) int64.
        route: "high" or "low"; of more than two sizes the size in pixels, such as "512"; "skip" of a frame of a
            stream on which the file did not run.
        score: that decided: the router's, or of a session with `memory` the head's.
        names: label -> class name.
        image: file name of the photo; `image12` for arrays, `video_000012` for frames of a video.
        step: 0 for the largest size, 1 for the next smaller one, …; -1 of a skipped frame.
        size: in pixels, in the host's own meaning of size; None of a skipped frame.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    route: str
    score: float
    names: dict[int, str]
    image: str = ""
    step: int = 0
    size: int | None = None

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.scores)

    def to_supervision(self) -> Any:
        """`supervision.Detections`, with the route of the photo in `data`."""
        from dualres_plugin.common.supervision import to_supervision

        return to_supervision(self.boxes, self.scores, self.labels, self, self.names)
