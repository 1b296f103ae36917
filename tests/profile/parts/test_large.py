"""Profiles of many row groups: built, read, trained on and evaluated as if they were one table in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.evaluation import evaluate
from dualres_plugin.profile.gains import compute_gain
from dualres_plugin.profile.overlap import image_sketch
from dualres_plugin.profile.parts import rows as rows_module
from dualres_plugin.profile.parts.rows import FileRows, group_rows
from dualres_plugin.profile.table import META, PARTS, ROWS, Profile
from dualres_plugin.train.config import TrainConfig
from dualres_plugin.train.thumbnails import Thumbnails
from dualres_plugin.train.train import train_router
from tests.fakes import planted_profile
from tests.profile.helpers import SETTINGS, Killed, adapter, build, kill_after

UNLINK = Path.unlink
VIEWS = replace(SETTINGS, views=3)  # 30 rows


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "GROUP_ROWS", 7)


def split(profile: Profile, out: Path, rows: int) -> Profile:
    """The same profile in row groups of so many rows."""
    out.mkdir()
    (out / META).write_bytes((profile.path / META).read_bytes())
    pq.write_table(profile.table, out / ROWS, row_group_size=rows)
    large = Profile.load(out)
    assert isinstance(large._rows, FileRows)
    return large


def test_a_group_has_a_thousand_rows_or_64_mb_of_thumbnails() -> None:
    assert group_rows(16) == 1000 and group_rows(160) == 64 * 2**20 // 76800 and group_rows(8192) == 1


def test_the_rows_are_those_of_one_table(data: tuple[Path, Path], tmp_path: Path, small_groups: None) -> None:
    large = build(data, tmp_path / "large", settings=VIEWS)
    assert pq.ParquetFile(tmp_path / "large" / ROWS).num_row_groups == 5
    rows_module.GROUP_ROWS = 1000
    small = build(data, tmp_path / "small", settings=VIEWS)
    assert pq.ParquetFile(tmp_path / "small" / ROWS).num_row_groups == 1
    assert large.table.equals(small.table) and len(large) == len(small) == 30
    order = np.random.default_rng(0).permutation(30)
    assert torch.equal(large.thumbnails(order), small.thumbnails(order))
    assert torch.equal(large.thumbnails(), small.thumbnails())
    for row in order:
        one, other = large.detections("high", row), small.detections("high", row)
        assert np.array_equal(one.boxes, other.boxes) and np.array_equal(one.scores, other.scores)
        assert np.array_equal(large.targets(row).boxes, small.targets(row).boxes)
        assert large.image_path(row) == small.image_path(row) and np.array_equal(large.area(row), small.area(row))


@pytest.mark.parametrize("passes", [1, 9, 15, 19])
def test_a_killed_run_loses_one_batch(passes: int, data: tuple[Path, Path], tmp_path: Path, small_groups: None) -> None:
    whole = build(data, tmp_path / "whole", settings=VIEWS)
    first = adapter()
    first.on_pass = kill_after(passes)
    with pytest.raises(Killed):
        build(data, tmp_path / "p", first, VIEWS)
    joined = len(list((tmp_path / "p" / PARTS).glob("joined-*.arrow")))
    assert joined == passes // 2 // 3  # three batches make a file
    second = adapter()
    profile = build(data, tmp_path / "p", second, VIEWS)
    assert profile.table.equals(whole.table) and profile.meta == whole.meta
    assert second.images_seen <= 2 * (30 - 2 * (passes // 2))  # the last batch of a shape has two


def test_a_damaged_file_of_many_batches_is_made_again(
    data: tuple[Path, Path], tmp_path: Path, small_groups: None
) -> None:
    whole = build(data, tmp_path / "whole", settings=VIEWS)
    first = adapter()
    first.on_pass = kill_after(15)
    with pytest.raises(Killed):
        build(data, tmp_path / "p", first, VIEWS)
    part = next((tmp_path / "p" / PARTS).glob("joined-*.arrow"))
    part.write_bytes(part.read_bytes()[:-100])
    assert build(data, tmp_path / "p", settings=VIEWS).table.equals(whole.table)


def test_a_kill_after_joining_leaves_batches_twice_and_harms_nothing(
    data: tuple[Path, Path], tmp_path: Path, small_groups: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = build(data, tmp_path / "whole", settings=VIEWS)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", _killed)
        with pytest.raises(Killed):
            build(data, tmp_path / "p", settings=VIEWS)
    parts = tmp_path / "p" / PARTS
    assert list(parts.glob("joined-*.arrow")) and list(parts.glob("batch-*.parquet"))
    assert build(data, tmp_path / "p", settings=VIEWS).table.equals(whole.table)


def _killed(path: Path, missing_ok: bool = False) -> None:
    if path.name.startswith("batch-"):
        raise Killed
    UNLINK(path, missing_ok)


@pytest.mark.parametrize("train", [{}, {"backbone": "tiny", "epochs": 2, "input_size": 16}])
def test_router_and_numbers_are_those_of_a_table_in_memory(train: dict[str, Any], tmp_path: Path) -> None:
    small = planted_profile(tmp_path / "small", 60, views=2, side=24 if train else 160)
    large = split(small, tmp_path / "large", 7)
    assert np.array_equal(compute_gain("ap", small), compute_gain("ap", large))
    assert image_sketch(small) == image_sketch(large)
    one, other = (train_router(p, TrainConfig(**train), progress=False) for p in (small, large))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    assert one.quantiles == other.quantiles
    results = [evaluate(p, one, bootstrap=5, permutations=2).metrics() for p in (small, large)]
    assert results[0] == results[1]


def test_many_thumbnails_are_kept_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = planted_profile(tmp_path / "p", 20)
    monkeypatch.setattr("dualres_plugin.train.thumbnails.IN_MEMORY", 100)
    rows, chosen = np.arange(3, 20), torch.tensor([5, 0, 16, 5])
    on_disk = Thumbnails(profile, rows, 8)[chosen]
    monkeypatch.undo()
    assert torch.equal(on_disk, Thumbnails(profile, rows, 8)[chosen])


def test_damage_in_a_later_group_is_seen(tmp_path: Path) -> None:
    profile = planted_profile(tmp_path / "p", 20)
    column = profile.table.schema.get_field_index("thumbnail")
    pixels = profile.table.column("thumbnail").to_pylist()
    pixels[15] = b"short"
    broken = Profile(profile.meta, profile.table.set_column(column, "thumbnail", [pixels]), profile.path)
    late = split(broken, tmp_path / "late", 7)
    with pytest.raises(DualResError, match="a thumbnail that is not 16 x 16"):
        late.thumbnails()
    scores = profile.table.column("high_scores").to_pylist()
    scores[15] = scores[15][:-1]
    column = profile.table.schema.get_field_index("high_scores")
    field = profile.table.schema.field(column)
    table = profile.table.set_column(column, field, [pa.array(scores, field.type)])
    with pytest.raises(DualResError, match="'high_boxes' and 'high_scores' differ in length"):
        split(Profile(profile.meta, table, profile.path), tmp_path / "lists", 7)
