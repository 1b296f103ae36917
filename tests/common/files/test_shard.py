"""Which share of the work a process does."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.shard import Shard, parse_shard


@pytest.mark.parametrize("total", [1, 3, 7])
@pytest.mark.parametrize("things", [0, 1, 20])
def test_shares_are_all_things_once_and_nearly_equal(total: int, things: int) -> None:
    shares = [Shard(i, total).of(things) for i in range(1, total + 1)]
    assert sorted(n for share in shares for n in share) == list(range(things))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({"RANK": "0", "WORLD_SIZE": "4"}, "1/4"),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, "4/4"),
        ({"SLURM_ARRAY_TASK_ID": "12", "SLURM_ARRAY_TASK_MIN": "10", "SLURM_ARRAY_TASK_COUNT": "5"}, "3/5"),
        # a job of an array in which srun starts one process
        ({"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "5",
          "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, "2/5"),
    ],
)  # fmt: skip
def test_auto_asks_the_launcher(environment: dict[str, str], shard: str) -> None:
    assert str(parse_shard("auto", environment)) == shard


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "-1/4", "1/0", "a/b", "1/2/3", "1/9999999"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(DualResError, match="give NUMBER/COUNT, such as 3/64"):
        parse_shard(text, {})


def test_auto_without_a_launcher_is_refused() -> None:
    with pytest.raises(DualResError, match="neither torchrun"):
        parse_shard("auto", {})
    with pytest.raises(DualResError, match="RANK or WORLD_SIZE is no number"):
        parse_shard("auto", {"RANK": "x", "WORLD_SIZE": "2"})


def test_folders_stand_beside_the_whole() -> None:
    assert Shard(3, 64).folder(Path("runs/coco")) == Path("runs/coco.3-of-64")
