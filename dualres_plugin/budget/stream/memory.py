"""What one stream remembers: the last detections at the largest and at a smaller size, their motion, and their age."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from dualres_plugin.budget.stream import cuts, features
from dualres_plugin.budget.stream.motion import Objects, follow
from dualres_plugin.common.errors import DualResError

COMPARABLE = 3  # frames between a high and a low result that are still compared


@dataclass(frozen=True)
class Seen:
    """Detections and how old they are.

    Attributes:
        objects: with their motion, on the frame that they were found on.
        age: frames since then; 1 for the frame before this one.
    """

    objects: Objects
    age: int = 0

    def now(self) -> Objects:
        """Where they should be by now."""
        return self.objects.moved(self.age)


@dataclass
class StreamMemory:
    """The past of one stream. Of each frame: `arrive`, then decide, then `saw` or `skipped`.

    Attributes:
        frames: so far.
        since_cut: frames since the scene began, this one included; 1 is the first.
        runs: of the detector in this scene.
        high, low: the last detections at the largest and at a smaller size in this scene.
        lost: what low lost of high when both were last seen side by side; None before.
        lost_age: frames since then.
        last: step of the last frame that ran, None after a cut.
        score: that decided it.
        thumbnail: the router's own score of it.
        skips: frames in a row that were skipped until now.
        change: difference of the last two sketches.
        sketch: of the last frame.
        run_sketch: of the last frame that ran.
    """

    frames: int = 0
    since_cut: int = 0
    runs: int = 0
    high: Seen | None = None
    low: Seen | None = None
    lost: float | None = None
    lost_age: int = 0
    last: int | None = None
    score: float = 0.0
    thumbnail: float = 0.0
    skips: int = 0
    change: float = 0.0
    sketch: np.ndarray | None = field(default=None, repr=False)
    run_sketch: np.ndarray | None = field(default=None, repr=False)

    def arrive(self, sketch: np.ndarray) -> bool:
        """A frame has come; everything remembered is a frame older.

        Args:
            sketch: of the frame, see `cuts.sketch`.

        Returns:
            True where the scene is new: nothing is remembered of the one before.
        """
        new = self.sketch is None or cuts.is_cut(self.sketch, sketch)
        self.change = 0.0 if self.sketch is None else cuts.change(self.sketch, sketch)
        self.sketch = sketch
        self.frames += 1
        self.since_cut += 1
        if new:
            self.since_cut, self.runs, self.skips = 1, 0, 0
            self.high = self.low = self.lost = self.last = self.run_sketch = None
        self.high, self.low = _older(self.high), _older(self.low)
        self.lost_age += 1
        return new

    @property
    def known(self) -> bool:
        """Whether anything is remembered of this scene."""
        return self.high is not None or self.low is not None

    @property
    def latest(self) -> Seen | None:
        """The younger of the two."""
        both = [seen for seen in (self.high, self.low) if seen is not None]
        return min(both, key=lambda seen: seen.age) if both else None

    def features(self) -> np.ndarray:
        """(F,) float64, one for each of `features.NAMES`."""
        age = min(self.lost_age, features.OLDEST) / features.OLDEST
        numbers = [
            *features.of_objects(*_parts(self.high)),
            *features.of_objects(*_parts(self.low)),
            *([0.0] * 3 if self.lost is None else [1.0, self.lost, age]),
            self.change,
        ]
        return np.array(numbers, dtype=np.float64)

    def recalled(self) -> Objects:
        """The last detections, moved to this frame."""
        latest = self.latest
        assert latest is not None, "nothing is remembered of this scene"
        return latest.now()

    def saw(
        self,
        step: int,
        boxes: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        score: float = 0.0,
        thumbnail: float = 0.0,
    ) -> None:
        """The detector has run on this frame.

        Args:
            step: 0 for the largest size, more for a smaller one.
            boxes: (N, 4) xyxy as shares of the frame.
            scores: (N,) highest first.
            labels: (N,).
            score: that decided the step.
            thumbnail: the router's.
        """
        found = Objects.still(boxes, scores, labels)
        before = self.latest
        if before is not None:
            found = follow(before.objects, found, before.age, features.SEEN)
        if step == 0:
            self.high = Seen(found)
        else:
            self.low = Seen(found)
        self._compare()
        self.last, self.score, self.thumbnail = step, score, thumbnail
        self.skips, self.runs = 0, self.runs + 1
        self.run_sketch = self.sketch

    def skipped(self) -> None:
        """The detector does not run on this frame."""
        self.skips += 1

    def _compare(self) -> None:
        """Measure what low loses, where both sizes were seen a few frames apart."""
        if self.high is not None and self.low is not None and max(self.high.age, self.low.age) <= COMPARABLE:
            self.lost, self.lost_age = features.lost(self.low.now(), self.high.now()), 0

    # -- kept ------------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON; `from_dict` goes on from there."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> StreamMemory:
        """What `to_dict` gave.

        Args:
            saved: the values.

        Raises:
            DualResError: If it is no memory of a stream.
        """
        try:
            made = cls(**saved)
            made.high, made.low = _seen(saved["high"]), _seen(saved["low"])
            made.sketch, made.run_sketch = (_array(saved[name]) for name in ("sketch", "run_sketch"))
        except (KeyError, TypeError, ValueError) as error:
            raise DualResError(f"this is no saved memory of a stream ({error}): start without it.") from None
        return made


def _older(seen: Seen | None) -> Seen | None:
    return None if seen is None or seen.age >= features.OLDEST else replace(seen, age=seen.age + 1)


def _parts(seen: Seen | None) -> tuple[Objects | None, int]:
    return (None, 0) if seen is None else (seen.objects, seen.age)


def _plain(value: Any) -> Any:
    if isinstance(value, Seen):
        objects = {f.name: getattr(value.objects, f.name).tolist() for f in fields(value.objects)}
        return {"age": value.age, **objects}
    return value.tolist() if isinstance(value, np.ndarray) else value


def _seen(saved: dict[str, Any] | None) -> Seen | None:
    if saved is None:
        return None
    boxes, velocity = (np.array(saved[name], dtype=np.float32).reshape(-1, 4) for name in ("boxes", "velocity"))
    scores, labels = np.array(saved["scores"], dtype=np.float32), np.array(saved["labels"], dtype=np.int64)
    if not len(boxes) == len(velocity) == len(scores) == len(labels):
        raise ValueError("boxes, scores and labels differ in number")
    return Seen(Objects(boxes, scores, labels, velocity), int(saved["age"]))


def _array(saved: Any) -> np.ndarray | None:
    if saved is None:
        return None
    made = np.array(saved, dtype=np.float32)
    if made.shape != cuts.GRID:
        raise ValueError(f"a sketch has the shape {cuts.GRID}, not {made.shape}")
    return made
