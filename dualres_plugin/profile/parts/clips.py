"""Which rows of a profile are a clip, in the order of its frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dualres_plugin.profile.data.clips import in_order

if TYPE_CHECKING:
    from dualres_plugin.profile.table import Profile


@dataclass(frozen=True)
class ClipRows:
    """The original rows of a profile, clip after clip.

    Attributes:
        rows: (n,) their numbers.
        starts: (C + 1,) where each clip begins among them, and the end.
        names: (C,) the last part of each clip's path, or as many parts as tell the clips apart.
    """

    rows: np.ndarray
    starts: np.ndarray
    names: tuple[str, ...]

    @classmethod
    def of(cls, profile: Profile) -> ClipRows:
        """As the profile knows them; else the frames of a folder are a clip, in the order of their names.

        Args:
            profile: of frames.
        """
        rows = [int(row) for row in profile.originals]
        if profile.clips:
            keys = [(str(clip), [(int(frame), "")], row) for clip, frame, row in zip(*_columns(profile, rows), rows)]
        else:
            paths = [profile.image_path(row) for row in rows]
            keys = [(str(path.parent), in_order(path.name), row) for path, row in zip(paths, rows)]
        keys.sort(key=lambda key: key[:2])
        clips = np.array([clip for clip, _, _ in keys])
        new = np.flatnonzero(clips[1:] != clips[:-1]) + 1 if len(keys) else np.zeros(0, np.int64)
        starts = np.concatenate([[0], new, [len(keys)]]).astype(np.int64)
        paths_of = [Path(str(clips[start])) for start in starts[:-1]] if len(keys) else []
        return cls(np.array([row for _, _, row in keys], dtype=np.int64), starts, _short(paths_of))


def _short(paths: list[Path]) -> tuple[str, ...]:
    """The shortest ends of some paths that differ."""
    for count in range(1, max((len(path.parts) for path in paths), default=0)):
        ends = tuple("/".join(path.parts[-count:]) for path in paths)
        if len(set(ends)) == len(ends):
            return ends
    return tuple(map(str, paths))


def _columns(profile: Profile, rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return profile.column("clip")[rows], profile.column("frame")[rows]
