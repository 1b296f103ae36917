"""Shards of a profile, made by processes of their own, are together the profile that one process makes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.shard import Shard
from dualres_plugin.profile.build import ProfileSettings, build_shard
from dualres_plugin.profile.data.dataset import load_dataset
from dualres_plugin.profile.parts.merge import merge_shards
from dualres_plugin.profile.table import META, PARTS, ROWS, Profile
from tests.fakes import FakeAdapter
from tests.profile.helpers import SETTINGS, Killed, adapter, build, kill_after

VIEWS = replace(SETTINGS, views=3)


def shard(
    data: tuple[Path, Path], out: Path, number: int, total: int, host: FakeAdapter | None = None,
    settings: ProfileSettings = VIEWS,
) -> Path:  # fmt: skip
    share = Shard(number, total)
    return build_shard(host or adapter(), load_dataset(*data), share.folder(out), settings, share, progress=False)


@pytest.mark.parametrize("total", [1, 4, 20])  # of 20, some have nothing to do
def test_shards_merged_are_the_profile_of_one_process(total: int, data: tuple[Path, Path], tmp_path: Path) -> None:
    (data[1] / "0.png").write_bytes(b"")  # what is left out is told in the same order, too
    whole = build(data, tmp_path / "whole", settings=VIEWS)
    shards = [shard(data, tmp_path / "p", i, total) for i in range(total, 0, -1)]
    merged = merge_shards(tmp_path / "p", shards)
    assert merged.table.equals(whole.table) and merged.meta == whole.meta
    assert (tmp_path / "p" / ROWS).read_bytes() == (tmp_path / "whole" / ROWS).read_bytes()
    assert len(merge_shards(tmp_path / "p", shards)) == len(whole)  # a second time costs nothing


def test_each_batch_is_run_once(data: tuple[Path, Path], tmp_path: Path) -> None:
    seen = []
    for i in (1, 2, 3):
        host = adapter()
        shard(data, tmp_path / "p", i, 3, host)
        seen.append(host.images_seen)
    assert sum(seen) == 2 * 30 and min(seen) > 0


def test_a_killed_shard_resumes(data: tuple[Path, Path], tmp_path: Path) -> None:
    whole = build(data, tmp_path / "whole", settings=VIEWS)
    first = shard(data, tmp_path / "p", 1, 2)
    killed = adapter()
    killed.on_pass = kill_after(5)  # two batches are done, the third is not
    with pytest.raises(Killed):
        shard(data, tmp_path / "p", 2, 2, killed)
    second = Shard(2, 2).folder(tmp_path / "p")
    with pytest.raises(DualResError, match=r"shard '.*p\.2-of-2' is not finished: run its command again"):
        merge_shards(tmp_path / "p", [first, second])
    host = adapter()
    shard(data, tmp_path / "p", 2, 2, host)
    assert host.images_seen == 2 * (15 - 6)
    assert merge_shards(tmp_path / "p", [first, second]).table.equals(whole.table)


def test_a_finished_shard_is_no_profile_and_costs_nothing(data: tuple[Path, Path], tmp_path: Path) -> None:
    folder = shard(data, tmp_path / "p", 1, 2)
    with pytest.raises(DualResError, match=r"is shard 1/2 of a profile: .*profile-merge"):
        Profile.load(folder)
    host = adapter()
    shard(data, tmp_path / "p", 1, 2, host)
    assert host.images_seen == 0


def test_missing_shards_are_named(data: tuple[Path, Path], tmp_path: Path) -> None:
    shards = [shard(data, tmp_path / "p", i, 4) for i in (1, 3)]
    with pytest.raises(DualResError, match="2 of 4 shards are missing: 2/4, 4/4"):
        merge_shards(tmp_path / "p", shards)
    assert not (tmp_path / "p").exists()


def test_what_does_not_belong_together_is_refused(data: tuple[Path, Path], tmp_path: Path) -> None:
    one, two = (shard(data, tmp_path / "p", i, 2) for i in (1, 2))
    with pytest.raises(DualResError, match="shard 1/2 is there twice"):
        merge_shards(tmp_path / "p", [one, one])
    third = shard(data, tmp_path / "p", 2, 3)
    with pytest.raises(DualResError, match=r"is shard 2/3, '.*1-of-2' is shard 1/2"):
        merge_shards(tmp_path / "p", [one, third])
    other = shard(data, tmp_path / "other", 2, 2, settings=replace(VIEWS, seed=1))
    with pytest.raises(DualResError, match=r"not of the same profile: they differ in seed"):
        merge_shards(tmp_path / "p", [one, other])
    whole = build(data, tmp_path / "whole", settings=VIEWS)
    with pytest.raises(DualResError, match="is no shard of a profile"):
        merge_shards(tmp_path / "p", [one, whole.path])
    content = json.loads((two / META).read_text())
    (two / META).write_text(json.dumps({**content, "detector_fingerprint": "0"}))
    with pytest.raises(DualResError, match="they differ in detector_fingerprint"):
        merge_shards(tmp_path / "p", [one, two])


@pytest.mark.parametrize("gone", [True, False])
def test_a_damaged_shard_is_noticed_and_mends_itself(gone: bool, data: tuple[Path, Path], tmp_path: Path) -> None:
    whole = build(data, tmp_path / "whole", settings=VIEWS)
    shards = [shard(data, tmp_path / "p", i, 2) for i in (1, 2)]
    part = next((shards[1] / PARTS).glob("joined-*.arrow"))
    if gone:
        part.unlink()
    else:
        content = bytearray(part.read_bytes())
        content[len(content) // 2] ^= 1
        part.write_bytes(bytes(content))
    with pytest.raises(DualResError, match="run the command"):
        merge_shards(tmp_path / "p", shards)
    shutil.rmtree(tmp_path / "p", ignore_errors=True)
    shard(data, tmp_path / "p", 2, 2)
    assert merge_shards(tmp_path / "p", shards).table.equals(whole.table)
