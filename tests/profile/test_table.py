"""Profiles in memory: what is read is what was stored, and damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.profile.build import ProfileSettings
from dualres_plugin.profile.table import META, ROWS, Profile
from tests.profile.helpers import build


def test_views_share_a_group_and_view_0_is_the_original(data: tuple[Path, Path], tmp_path: Path) -> None:
    profile = build(data, tmp_path / "profile", settings=ProfileSettings(64, 0.5, views=3, thumbnail_size=16))
    assert len(profile) == 30 and len(profile.originals) == 10
    assert profile.views.tolist() == [0, 1, 2] * 10
    assert profile.groups.tolist() == [g for g in range(10) for _ in range(3)]
    alone = build(data, tmp_path / "alone")
    for name in ("high_boxes", "low_scores", "thumbnail", "gt_boxes", "loss_low"):
        views = profile.table.column(name).take(profile.originals)
        assert views.combine_chunks().equals(alone.table.column(name).combine_chunks()), name


def test_damaged_and_foreign_profiles(data: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DualResError, match=r"does not exist. Make one with: dualres profile"):
        Profile.load(tmp_path / "none")
    out = tmp_path / "profile"
    build(data, out)
    rows = (out / ROWS).read_bytes()
    (out / ROWS).write_bytes(rows[: len(rows) // 2])
    with pytest.raises(DualResError, match=r"cannot be read .*profile again"):
        Profile.load(out)
    (out / ROWS).write_bytes(rows)
    meta = json.loads((out / META).read_text())
    (out / META).write_text(json.dumps({**meta, "format_version": 99}))
    with pytest.raises(DualResError, match="format version 99"):
        Profile.load(out)
    (out / META).write_text("[]")
    with pytest.raises(DualResError, match=r"does not describe a profile"):
        Profile.load(out)
    (out / META).unlink()
    with pytest.raises(DualResError, match="does not exist"):
        Profile.load(out)


def test_a_large_profile_reads_single_rows_right(tmp_path: Path) -> None:
    from dualres_plugin.common.types import Detections
    from tests.fakes import make_profile

    rng = np.random.default_rng(0)
    rows = []
    for _ in range(300):
        n = int(rng.integers(0, 6))
        rows.append({"high": Detections.from_arrays(rng.random((n, 4)), rng.random(n), rng.integers(1, 3, n))})
    profile = make_profile(tmp_path / "p", rows)
    for i in rng.permutation(300)[:50]:
        found, expected = profile.detections("high", int(i)), rows[i]["high"]
        assert np.array_equal(found.boxes, expected.boxes) and np.array_equal(found.scores, expected.scores)
