"""A stream head from a profile of clips: it learns what the thumbnail cannot see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.types import Detections
from dualres_plugin.profile.data.clips import in_order
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train.stream import Clips, train_stream
from tests.fakes import make_profile, photo

SIDE = 32


def clips_profile(path: Path, clips: int = 12, frames: int = 8) -> Profile:
    """Every other clip holds an object that only high finds; the pictures say nothing of it."""
    rows: list[dict[str, Any]] = []
    for clip in range(clips):
        picture = photo(clip, (SIDE, SIDE)).transpose(2, 0, 1)
        for number in range(frames):
            small = Detections.from_arrays([[100 + number, 100, 130 + number, 130]], [0.9], [1])
            large = Detections.from_arrays([[200, 200, 500, 400]], [0.8], [2])
            high = small if clip % 2 else large
            low = Detections.empty() if clip % 2 else large
            rows.append({"path": f"/clips/{clip:02d}/{number}.jpg", "high": high, "low": low, "thumbnail": picture})
    return make_profile(path, rows, labelled=False, thumbnail_size=SIDE)


@pytest.fixture
def router() -> ResolutionRouter:
    return ResolutionRouter(backbone="tiny@4", input_size=SIDE).eval()


def test_it_ranks_clips_that_it_has_not_seen(tmp_path: Path, router: ResolutionRouter) -> None:
    found = train_stream(clips_profile(tmp_path), router)
    assert found.info["spearman"] > 0.8 > abs(found.info["spearman_of_thumbnail"])
    assert found.info["clips"] == 12 and found.info["frames"] == 96
    assert found == train_stream(clips_profile(tmp_path), router), "the same seed, the same head"


def test_clips_are_folders_in_the_order_of_their_names(tmp_path: Path, router: ResolutionRouter) -> None:
    rows = [{"path": f"/v/{clip}/{n}.jpg", "thumbnail": np.zeros((3, SIDE, SIDE), np.uint8)} for clip, n in
            [("b", 1), ("a", 2), ("b", 0), ("a", 1), ("a", 0)]]  # fmt: skip
    clips = Clips(make_profile(tmp_path, rows, thumbnail_size=SIDE), router)
    assert clips.rows.tolist() == [4, 3, 1, 2, 0]
    names = ["f10.jpg", "f²0.jpg", "f9.jpg", "a2.jpg", "f010.jpg"]
    assert sorted(names, key=in_order) == ["a2.jpg", "f9.jpg", "f010.jpg", "f10.jpg", "f²0.jpg"]
    assert clips.starts.tolist() == [0, 3, 5] and clips.clip.tolist() == [0, 0, 0, 1, 1]


def test_too_few_clips_and_small_thumbnails_are_refused(tmp_path: Path, router: ResolutionRouter) -> None:
    with pytest.raises(DualResError, match="at least 5"):
        train_stream(clips_profile(tmp_path / "few", clips=4), router)
    with pytest.raises(DualResError, match="--thumbnail 64"):
        train_stream(clips_profile(tmp_path / "small"), ResolutionRouter(backbone="tiny@4", input_size=64))
