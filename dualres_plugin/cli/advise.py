"""`dualres advise`: which sizes to run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dualres_plugin.cli.options import Groups, Margin, Seed, within

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
    router: Annotated[str, typer.Option(help="Folder of a router, or: default, small.")] = "default",
    choose_on: Annotated[
        Path | None,
        typer.Option(
            help="Profile of other photos at the same sizes, which choose sizes and thresholds, so that PROFILE gives "
            "the figures alone; without it the photos choose for one another, in five folds."
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="What may be spent per image: 1.6 or 1.6gmacs, or 40ms with --times; none: the cheapest way within "
            "--margin."
        ),
    ] = None,
    times: Annotated[
        Path | None,
        typer.Option(
            help="times.csv of dualres bench --sizes, or a CSV file with the columns size and ms, a row for each size "
            "and one for router: costs are ms then."
        ),
    ] = None,
    margin: Margin = 0.5,
    groups: Groups = None,
    bootstrap: Annotated[int, typer.Option(help="Half samples for the 95 % intervals.", callback=within(2))] = 1000,
    out: Annotated[Path | None, typer.Option(help="Folder for advice.html, advice.json and frontier.png.")] = None,
    seed: Seed = 0,
) -> None:
    """Say which sizes to run: one, or several with a router, and whether these photos can show that it helps.

    One fixed size is compared with two to four routed ones at the same cost, router included. Sizes and
    thresholds are chosen on other photos than the figures come from. Intervals come from random
    halves of the photos, the same for both sides of a difference.

    \b
    Examples:
    dualres advise runs/ladder
    dualres advise runs/ladder --router runs/router --budget 1.6 --out runs/advice
    dualres advise runs/ladder --choose-on runs/ladder-train --budget 40ms --times times.csv
    """
    from dualres_plugin.evaluate.ladder.advise import advise as run
    from dualres_plugin.evaluate.ladder.groups import read_groups
    from dualres_plugin.evaluate.report.advice import write_advice
    from dualres_plugin.evaluate.scoring import score_profile
    from dualres_plugin.profile.table import Profile
    from dualres_plugin.router.network import ResolutionRouter

    spend, milliseconds = _budget(budget, times)
    loaded, net = Profile.load(profile), ResolutionRouter.from_pretrained(router)
    found = run(
        loaded,
        net,
        choose_on=Profile.load(choose_on) if choose_on else None,
        budget=spend,
        times=milliseconds,
        margin=margin,
        bootstrap=bootstrap,
        seed=seed,
        groups=read_groups(groups, loaded) if groups else None,
        every=out is not None,
    )
    typer.echo(_table(found))
    typer.echo(found.sentence)
    if out is not None:
        write_advice(out, found, loaded, score_profile(net, loaded, loaded.originals))
        typer.echo(f"look at {out / 'advice.html'}")


def _budget(budget: str | None, times: Path | None) -> tuple[float | None, dict[int | str, float] | None]:
    """The number, and the times that it needs."""
    from dualres_plugin.common.errors import DualResError
    from dualres_plugin.evaluate.ladder.budget import read_budget, read_times

    spend, unit = read_budget(budget) if budget else (None, "ms" if times else "GMACs")
    if unit == "ms" and times is None:
        raise DualResError(
            f"--budget {budget}: a profile holds no times. Give --times FILE, the times.csv that `dualres bench "
            "--sizes` of the same sizes makes, or a CSV with the columns size and ms, a row for each size and one for "
            "router."
        )
    if unit == "GMACs" and times is not None:
        raise DualResError(f"--budget {budget} is in GMACs, --times in ms: write {spend:g}ms, or leave one out.")
    return spend, read_times(times) if times else None


def _table(advice: Advice) -> str:
    """AP of each way at some budgets."""
    import numpy as np

    first = next(iter(advice.frontiers.values()))
    budgets = np.linspace(0.5, 1.0, 6) * first[-1][0]
    width = max(map(len, advice.frontiers))
    lines = [advice.unit.ljust(width) + "".join(f"{b:8.2f}" for b in budgets)]
    for name, points in advice.frontiers.items():
        cost, ap = np.array(points).T
        values = np.interp(budgets, cost, 100 * ap, left=np.nan)
        lines.append(name.ljust(width) + "".join(f"{v:8.1f}" for v in values))
    return "\n".join(lines)
