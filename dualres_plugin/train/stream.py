"""Teaching a router to read the last frame: a stream head, in closed form, from a profile of clips.

No detector runs and no labels are needed. Each clip is replayed several times, its frames sent to high and low at
random, so that the head sees the pasts that any policy may meet; what it learns is the gain of the next frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dualres_plugin.budget import calibration
from dualres_plugin.budget.stream import cuts
from dualres_plugin.budget.stream.features import NAMES
from dualres_plugin.budget.stream.head import StreamHead
from dualres_plugin.budget.stream.memory import StreamMemory
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.types import Detections
from dualres_plugin.profile.gains import compute_gain
from dualres_plugin.profile.parts.clips import ClipRows
from dualres_plugin.profile.passes import HIGH, LOW
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train.linear.ridge import fit_ridge
from dualres_plugin.train.ranks import spearman
from dualres_plugin.train.thumbnails import Thumbnails

REPLAYS = 6
STAYS = (1, 2, 4, 8)  # mean frames between two draws of a route, in one replay
STRENGTHS = (10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4)
LEAST_CLIPS = 5
COMPARED = NAMES.index("compared")


class Clips:
    """The frames of a profile as clips, with all that a stream sees of them.

    Args:
        profile: of clips; in one that does not know of any, the frames of a folder are a clip, in the order of their
            names.
        router: scores their thumbnails.

    Attributes:
        starts: (C + 1,) where each clip begins among the rows, and the end.
        clip: (n,) number of the clip of each row.
        scores: (n,) the router's.
        sketches: of each row.

    Raises:
        DualResError: If the router looks at larger thumbnails than are stored.
    """

    def __init__(self, profile: Profile, router: ResolutionRouter):
        side = int(profile.meta["thumbnail_size"])
        if router.config.input_size > side:
            raise DualResError(
                f"the router looks at {router.config.input_size} px thumbnails, profile '{profile.path}' stores {side} "
                f"px: profile again with --thumbnail {router.config.input_size}."
            )
        self.profile = profile
        order = ClipRows.of(profile)
        self.rows, self.starts = order.rows, order.starts
        self.clip = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        thumbs = Thumbnails(profile, self.rows, router.config.input_size)
        self.scores = np.concatenate([router.score_thumbnails(part).cpu().numpy() for part in thumbs.parts(64)])
        self.sketches = [cuts.sketch(thumb.transpose(1, 2, 0)) for part in thumbs.parts(64) for thumb in part.numpy()]

    def __len__(self) -> int:
        return len(self.rows)

    def found(self, which: str) -> list[Detections]:
        """What a pass found in each frame, boxes as shares of it."""
        height, width = (self.profile.column(name)[self.rows] for name in ("height", "width"))
        made = []
        for row, h, w in zip(self.rows, height, width):
            d = self.profile.detections(which, int(row))
            made.append(Detections(d.boxes / np.array([w, h, w, h], dtype=np.float32), d.scores, d.labels))
        return made


class _Pasts(NamedTuple):
    """What some frames knew of the past.

    Attributes:
        row: (m,) which frame.
        known: (m, 1 + F) thumbnail's score and features.
    """

    row: np.ndarray
    known: np.ndarray


def train_stream(
    profile: Profile,
    router: ResolutionRouter,
    *,
    gain: str = "agreement",
    replays: int = REPLAYS,
    seed: int = 0,
) -> StreamHead:
    """Fit a stream head for a router.

    Args:
        profile: of at least five clips: videos, or one folder of frames each, named in order.
        router: whose scores the head reads.
        gain: what to learn, one of `gains.GAINS`; "agreement" needs no labels.
        replays: of each clip, with other random routes.
        seed: of the routes and of the folds.

    Returns:
        The head, calibrated on clips that each fold left out; `info` has the rank correlations.

    Raises:
        DualResError: If there are too few clips, or none has a frame with a past and a gain.
    """
    clips = Clips(profile, router)
    count = len(clips.starts) - 1
    if count < LEAST_CLIPS:
        raise DualResError(
            f"profile '{profile.path}' holds {count} clip{'s' * (count != 1)}: a stream head needs at least "
            f"{LEAST_CLIPS}. A clip is a video, or a folder of frames named in order."
        )
    gains = compute_gain(gain, profile)[clips.rows]
    pasts = _replay(clips, replays, np.random.default_rng(seed))
    usable = np.isfinite(gains[pasts.row])
    row, known = pasts.row[usable], pasts.known[usable]
    compared = known[:, 1 + COMPARED] > 0
    if not compared.any() or compared.all():
        raise DualResError(f"profile '{profile.path}' has no frames with a past and a '{gain}' gain to learn from.")
    predicted = np.zeros(len(row))
    maps = []
    for chosen in (~compared, compared):
        predicted[chosen], weights, bias = _fit(known[chosen], gains[row[chosen]], clips.clip[row[chosen]], seed)
        maps.append((weights.tolist(), bias))
    (one, one_bias), (both, both_bias) = maps
    return StreamHead(
        first=list(_line(clips.scores, gains)),
        one=one,
        one_bias=one_bias,
        both=both,
        both_bias=both_bias,
        score_quantiles=calibration.score_quantiles(predicted),
        info=_told(profile, gain, clips, row, predicted, gains),
    )


def _replay(clips: Clips, replays: int, rng: np.random.Generator) -> _Pasts:
    found = clips.found(HIGH), clips.found(LOW)
    rows, known = [], []
    for _ in range(replays):
        for begin, end in zip(clips.starts, clips.starts[1:]):
            for row, past in _one_replay(clips, found, range(begin, end), rng):
                rows.append(row)
                known.append([clips.scores[row], *past])
    return _Pasts(np.array(rows, dtype=np.int64), np.array(known, dtype=np.float64).reshape(-1, 1 + len(NAMES)))


def _one_replay(
    clips: Clips, found: tuple[list[Detections], list[Detections]], rows: range, rng: np.random.Generator
) -> Iterator[tuple[int, np.ndarray]]:
    """One clip with random routes: each frame that has a past, with its features."""
    memory, share, stay, step = StreamMemory(), rng.random(), rng.choice(STAYS), 0
    for row in rows:
        new = memory.arrive(clips.sketches[row])
        if memory.known:
            yield row, memory.features()
        if new or rng.random() < 1 / stay:
            step = int(rng.random() > share)
        seen = found[step][row]
        memory.saw(step, seen.boxes, seen.scores, seen.labels)


def _fit(x: np.ndarray, y: np.ndarray, clip: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Out-of-fold predictions, and the map on plain features; folds hold out whole clips."""
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-3
    fitted = fit_ridge((x - mean) / deviation, y, clip, strengths=STRENGTHS, seed=seed)
    weights = fitted.weights / deviation
    return fitted.out_of_fold, weights, float(fitted.bias - weights @ mean)


def _line(scores: np.ndarray, gains: np.ndarray) -> tuple[float, float]:
    """The gain that a thumbnail's score stands for, for frames without a past."""
    usable = np.isfinite(gains)
    slope, bias = np.polyfit(scores[usable], gains[usable], 1) if np.ptp(scores[usable]) > 0 else (0.0, 0.0)
    return max(float(slope), 0.0), float(bias)


def _told(
    profile: Profile, gain: str, clips: Clips, row: np.ndarray, predicted: np.ndarray, gains: np.ndarray
) -> dict[str, object]:
    return {
        "detector": Path(str(profile.meta["detector"])).name,
        "gain": gain,
        "clips": len(clips.starts) - 1,
        "frames": len(clips),
        "spearman": round(spearman(predicted, gains[row]), 4),
        "spearman_of_thumbnail": round(spearman(clips.scores[row], gains[row]), 4),
    }
