"""What a report draws over time, of a profile of clips."""

from __future__ import annotations

from string import Template
from typing import Any

import numpy as np

from dualres_plugin.budget.stream import cuts
from dualres_plugin.evaluate.report.gallery import Ranked
from dualres_plugin.evaluate.report.page import asset
from dualres_plugin.profile.parts.clips import ClipRows
from dualres_plugin.profile.table import Profile

WINDOW = 50  # frames that the cost is averaged over: two seconds of most videos
MOST_FRAMES = 20_000  # that a page holds


def clip_data(profile: Profile, ranked: Ranked, gmacs: tuple[float, float]) -> dict[str, Any] | None:
    """The frames of the first clips, in order.

    Args:
        profile: what was evaluated.
        ranked: its images, in the router's order.
        gmacs: (low, high) of a frame, the router included.

    Returns:
        Names of the clips, where each starts and the end, rank and number of each frame, which of them begin a scene;
        None for photos.
    """
    if not profile.clips:
        return None
    order = ClipRows.of(profile)
    count = max(1, int(np.searchsorted(order.starts, MOST_FRAMES, side="right")) - 1)
    starts = order.starts[: count + 1]
    rows = order.rows[: starts[-1]]
    rank = np.empty(int(max(ranked.rows.max(), order.rows.max())) + 1, dtype=np.int64)
    rank[ranked.rows] = np.arange(len(ranked))
    return {
        "names": list(order.names[:count]),
        "left_out": len(order.names) - count,
        "starts": starts.tolist(),
        "ranks": rank[rows].tolist(),
        "frames": profile.column("frame")[rows].tolist(),
        "cuts": _cuts(profile, rows, set(starts.tolist())),
        "window": WINDOW,
        "low": gmacs[0],
        "high": gmacs[1],
    }


def clips_section(clips: dict[str, Any] | None) -> str:
    """HTML of the section; none for photos.

    Args:
        clips: of `clip_data`.
    """
    if clips is None:
        return ""
    left = clips["left_out"]
    return section(
        "the compute of the last frames, against the mean of all clips at this budget",
        '<label class="pick">Clip <select id="clip"></select></label>',
        f"The page holds the first {len(clips['names'])} clips; {left} more do not fit." if left else "",
    )


def section(cost: str, choice: str = "", rest: str = "") -> str:
    """HTML of a chart over time, which `timeline.js` draws.

    Args:
        cost: what its lowest part shows, in words.
        choice: HTML beside the heading.
        rest: what else to say.
    """
    return Template(asset("timeline.html")).substitute(cost=cost, choice=choice, rest=rest)


def _cuts(profile: Profile, rows: np.ndarray, starts: set[int]) -> list[int]:
    """Which frames begin a new scene within their clip, by the stored thumbnails."""
    found, last = [], None
    for begin in range(0, len(rows), 256):
        for at, thumbnail in enumerate(profile.thumbnails(rows[begin : begin + 256]).numpy(), begin):
            sketch = cuts.sketch(thumbnail.transpose(1, 2, 0))
            if last is not None and at not in starts and cuts.is_cut(last, sketch):
                found.append(at)
            last = sketch
    return found
