"""`dualres profile-merge`: the work of many processes becomes one profile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of this file to the command line."""
    app.command("profile-merge")(profile_merge)


def profile_merge(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the profile.")],
    shards: Annotated[list[Path], typer.Argument(metavar="SHARD...", help="Folders of all shards.")],
) -> None:
    """Make one profile of the shards that `dualres profile --shard` made; they stay.

    It is the profile that one process would have made, row for row and bit for bit.

    \b
    Example:
    dualres profile-merge runs/train runs/train.*-of-4
    """
    from dualres_plugin.profile.parts.merge import merge_shards

    made = merge_shards(out, shards)
    typer.echo(f"{len(made)} views of {len(made.originals)} images in {out}")
