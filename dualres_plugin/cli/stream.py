"""`dualres train-stream`: teach a router to read the last frame."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dualres_plugin.cli.options import Seed


def register(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command("train-stream")(train_stream)


def train_stream(
    profile: Annotated[
        Path,
        typer.Argument(metavar="PROFILE", help="A profile of clips: videos, or folders of frames named in order."),
    ],
    router: Annotated[str, typer.Option(help="Folder of the router that learns it, or: default, small.")],
    out: Annotated[
        Path | None, typer.Option(help="Where router and stream.json go; the router's own folder if none.")
    ] = None,
    gain: Annotated[str, typer.Option(help="What to learn; agreement alone needs no labels.")] = "agreement",
    seed: Seed = 0,
) -> None:
    """Teach a router to read what was found in the last frame of a stream, from a profile of clips. Needs no labels.

    \b
    Examples:
    dualres profile yolo11n.pt street.mp4 clips/ --out runs/clips
    dualres train-stream runs/clips --router runs/router
    dualres predict yolo11n.pt street.mp4 --router runs/router --memory runs/router --skip 3 --out runs/street
    """
    from dualres_plugin.common.errors import DualResError
    from dualres_plugin.common.files.shipped import SHIPPED
    from dualres_plugin.profile.table import Profile
    from dualres_plugin.router.network import ResolutionRouter
    from dualres_plugin.train.stream import train_stream as run

    if out is None and router in SHIPPED:
        raise DualResError("the folder of a router that ships is the package's own: say where to put both with --out.")
    net = ResolutionRouter.from_pretrained(router)
    head = run(Profile.load(profile), net, gain=gain, seed=seed)
    folder = Path(router) if out is None else out
    if out is not None and out.resolve() != Path(router).resolve():
        net.save(out)
    path = head.save(folder)
    told = head.info
    typer.echo(
        f"stream head in {path}: rank correlation with the gain of the next frame {told['spearman']:.2f}, of the "
        f"thumbnail alone {told['spearman_of_thumbnail']:.2f}; {told['clips']} clips, each judged by others"
    )
    typer.echo(f"next: dualres predict DETECTOR VIDEO --router {folder} --memory {folder} --skip 3 --out runs/video")
