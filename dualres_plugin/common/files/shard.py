"""Which part of the work this process does, where several share it out."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from dualres_plugin.common.errors import DualResError

MOST_SHARDS = 100_000
# What starts processes tells each of them its number and how many there are: number, its first value, count.
LAUNCHERS = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT"),
    ("RANK", "", "WORLD_SIZE"),  # torchrun
    ("SLURM_PROCID", "", "SLURM_NTASKS"),
)


class Shard(NamedTuple):
    """One of several equal shares.

    Attributes:
        number: from 1.
        total: how many there are.
    """

    number: int
    total: int

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    def of(self, things: int) -> range:
        """The numbers of the things that are this share's: every `total`th.

        Args:
            things: how many there are.
        """
        return range(self.number - 1, things, self.total)

    def folder(self, out: Path) -> Path:
        """Where this share's output goes, beside that of the whole.

        Args:
            out: of the whole.
        """
        return out.with_name(f"{out.name}.{self.number}-of-{self.total}")


def parse_shard(text: str, environment: Mapping[str, str] = os.environ) -> Shard:
    """What `--shard` says.

    Args:
        text: such as "3/64"; "auto" asks what started the process (a Slurm array, torchrun, srun).
        environment: variables that tell.

    Raises:
        DualResError: If it is neither, or nothing tells.
    """
    if text == "auto":
        return _from(environment)
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    shard = Shard(int(found[1]), int(found[2])) if found else Shard(0, 0)
    if not 1 <= shard.number <= shard.total <= MOST_SHARDS:
        raise DualResError(f"--shard {text}: give NUMBER/COUNT, such as 3/64 (from 1/64 to 64/64), or auto.")
    return shard


def _from(environment: Mapping[str, str]) -> Shard:
    for number, first, count in LAUNCHERS:
        if number in environment and count in environment:
            try:
                place = int(environment[number]) - int(environment.get(first, "0"))
                return parse_shard(f"{place + 1}/{int(environment[count])}")
            except ValueError:
                raise DualResError(f"--shard auto: {number} or {count} is no number.") from None
    raise DualResError(
        "--shard auto: neither torchrun (RANK, WORLD_SIZE) nor Slurm (SLURM_ARRAY_TASK_ID, SLURM_PROCID) started this "
        "process. Give NUMBER/COUNT, such as 3/64."
    )
