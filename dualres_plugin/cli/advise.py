"""`dualres advise`: which sizes to run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dualres_plugin.cli.options import Seed, within

if TYPE_CHECKING:
    from dualres_plugin.evaluate.ladder.advise import Advice


def register(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command("advise")(advise)


def advise(
    profile: Annotated[
        Path,
        typer.Argument(metavar="PROFILE", help="A labelled profile, best made with --sizes, of images not trained on."),
    ],
    router: Annotated[str, typer.Option(help="Folder of a router, or: default.")] = "default",
    budget: Annotated[
        float | None,
        typer.Option(
            help="GMACs per image that may be spent; none: the cheapest way within --margin.", callback=within(above=0)
        ),
    ] = None,
    margin: Annotated[
        float, typer.Option(help="AP, 0 to 100, that may be lost against the largest size.", callback=within(0, 100))
    ] = 0.5,
    bootstrap: Annotated[int, typer.Option(help="Resamples for the 95 % intervals.", callback=within(2))] = 1000,
    out: Annotated[Path | None, typer.Option(help="Folder for advice.json and frontier.png.")] = None,
    seed: Seed = 0,
) -> None:
    """Say which sizes to run: one, or two with a router, and whether these photos can show that it helps.

    One fixed size is compared with two routed ones at the same cost, router included. Sizes and
    thresholds are chosen on other photos than the figures come from (five folds). Intervals are a paired bootstrap
    over the photos.

    \b
    Examples:
    dualres advise runs/ladder
    dualres advise runs/ladder --router runs/router --budget 1.6 --out runs/advice
    """
    from dualres_plugin.evaluate.ladder.advise import advise as run
    from dualres_plugin.profile.table import Profile
    from dualres_plugin.router.network import ResolutionRouter

    loaded, net = Profile.load(profile), ResolutionRouter.from_pretrained(router)
    found = run(loaded, net, budget=budget, margin=margin, bootstrap=bootstrap, seed=seed)
    typer.echo(_table(found))
    typer.echo(found.sentence)
    if out is not None:
        _write(out, found, f"{loaded.meta['detector']} on {loaded.meta['dataset']}")


def _table(advice: Advice) -> str:
    """AP of each way at some budgets."""
    import numpy as np

    first = next(iter(advice.frontiers.values()))
    budgets = np.linspace(0.5, 1.0, 6) * first[-1][0]
    width = max(map(len, advice.frontiers))
    lines = ["GMACs".ljust(width) + "".join(f"{b:8.2f}" for b in budgets)]
    for name, points in advice.frontiers.items():
        cost, ap = np.array(points).T
        values = np.interp(budgets, cost, 100 * ap, left=np.nan)
        lines.append(name.ljust(width) + "".join(f"{v:8.1f}" for v in values))
    return "\n".join(lines)


def _write(out: Path, advice: Advice, title: str) -> None:
    from dualres_plugin.common.files.atomic import make_dir, write_json
    from dualres_plugin.evaluate.ladder.plot import draw_frontiers

    make_dir(out)
    write_json(out / "advice.json", advice.to_dict())
    draw_frontiers(out / "frontier.png", advice, title)
    typer.echo(f"look at {out / 'frontier.png'}")
