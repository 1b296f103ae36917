"""Profiles of several sizes: each size once, the host's own passes beside ours, and two sizes as ever."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.decode import read_image
from dualres_plugin.profile.build import ProfileSettings
from dualres_plugin.profile.passes import check_ladder, extra_names, host_passes, routed_passes
from dualres_plugin.profile.table import META, Profile
from tests.profile.helpers import Killed, adapter, build, kill_after

LADDER = ProfileSettings.ladder((64, 16, 48, 32), batch=3, thumbnail_size=16)
NAMES = ["high", "s48", "s32", "low"]


def test_a_ladder_in_any_order() -> None:
    assert check_ladder((320, 640, 512)) == (640, 512, 320)
    assert (LADDER.high, LADDER.scale, LADDER.between, LADDER.host_sizes) == (64, 0.25, (48, 32), (48, 32, 16))
    assert ProfileSettings.ladder((64, 32)) == ProfileSettings(64, 0.5, host_sizes=(32,))


@pytest.mark.parametrize("sizes", [(), (640,), (640, 640), (0, 640), tuple(range(1, 40))])
def test_no_ladder(sizes: tuple[int, ...]) -> None:
    with pytest.raises(DualResError):
        check_ladder(sizes)


def test_every_size_is_what_the_detector_gives_there(data: tuple[Path, Path], tmp_path: Path) -> None:
    profile = build(data, tmp_path / "p", settings=LADDER)
    assert [p.name for p in profile.passes] == NAMES and [p.size for p in profile.passes] == [64, 48, 32, 16]
    assert [p.name for p in profile.host_passes] == ["high", "host48", "host32", "host16"]
    assert profile.costs == sorted(profile.costs, reverse=True) and profile.gmacs == (
        profile.costs[-1],
        profile.costs[0],
    )
    host = adapter()
    for row in (0, 3):
        batch = host.collate([read_image(profile.image_path(row))], 64)
        for name, scale in (("s48", 0.75), ("s32", 0.5), ("low", 0.25)):
            part = host.resize(batch, torch.arange(1), scale)
            (wanted,) = host.detections(host.predict(part), part)
            np.testing.assert_allclose(profile.detections(name, row).boxes, wanted.boxes, atol=1e-4)
        own = host.collate([read_image(profile.image_path(row))], 32)
        (wanted,) = host.detections(host.predict(own), own)
        np.testing.assert_allclose(profile.detections("host32", row).scores, wanted.scores, atol=1e-6)


def test_two_sizes_are_stored_as_ever(data: tuple[Path, Path], tmp_path: Path) -> None:
    two = build(data, tmp_path / "two")
    assert two.meta["format_version"] == 1 and extra_names(two.meta) == [] and "between" not in two.meta
    ladder = build(data, tmp_path / "ladder", settings=ProfileSettings.ladder((64, 48, 32), batch=3, thumbnail_size=16))
    assert ladder.meta["format_version"] == 2
    assert ladder.table.select(two.table.schema.names).equals(two.table)


def test_a_killed_ladder_goes_on(data: tuple[Path, Path], tmp_path: Path) -> None:
    host = adapter()
    host.on_pass = kill_after(9)
    with pytest.raises(Killed):
        build(data, tmp_path / "killed", host, LADDER)
    again = build(data, tmp_path / "killed", settings=LADDER)
    assert again.table.equals(build(data, tmp_path / "whole", settings=LADDER).table)


def test_sizes_that_the_stride_makes_the_same(data: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DualResError, match=r"sizes 48 and 40 are both 48 x 48 at the stride"):
        build(data, tmp_path / "p", settings=ProfileSettings.ladder((64, 48, 40)))


def test_edited_sizes_are_refused(data: tuple[Path, Path], tmp_path: Path) -> None:
    build(data, tmp_path / "p", settings=LADDER)
    meta = json.loads((tmp_path / "p" / META).read_text())
    for key, value in (
        ("between", [32, 48]),
        ("between", [48]),
        ("between", [48, 32, 24]),
        ("host_sizes", [48, 48, 16]),
    ):
        (tmp_path / "p" / META).write_text(json.dumps({**meta, key: value}))
        if (key, value) == ("between", [48]):  # fewer sizes than columns: those that are named are there
            assert [p.name for p in Profile.load(tmp_path / "p").passes] == ["high", "s48", "low"]
            continue
        with pytest.raises(DualResError, match="damaged or was edited"):
            Profile.load(tmp_path / "p")


def test_names_of_passes() -> None:
    meta = {"high": 640, "scale": 0.5, "between": [512], "host_sizes": [512, 320]}
    assert [(p.name, p.size, p.own) for p in routed_passes(meta)] == [
        ("high", 640, False),
        ("s512", 512, False),
        ("low", 320, False),
    ]
    assert [p.name for p in host_passes(meta)] == ["high", "host512", "host320"]
    assert extra_names(meta) == ["s512", "host512", "host320"]
