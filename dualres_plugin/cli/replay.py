"""`dualres replay`: the latency of an exported model under a load, and what keeps a promise about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dualres_plugin.cli.options import Rate, Seed, Shares, Threshold, Thresholds, numbers, open_session, within

if TYPE_CHECKING:
    import numpy as np

    from dualres_plugin.budget.replay import Load, Outcome
    from dualres_plugin.runtime.session import DualResSession


def register(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command("replay")(replay)


def replay(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="The .onnx file of dualres export, or the folder of a pair.")
    ],
    photos: Annotated[str, typer.Argument(help="Folder or glob of real photos: 32 of them are measured.")],
    p95_ms: Annotated[
        float,
        typer.Option("--p95-ms", help="95 of 100 photos are to be answered within this.", callback=within(above=0)),
    ],
    arrivals: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="How photos arrive: steady:RATE (a second), poisson:RATE (at random), bursts:RATE:SIZE (SIZE at "
            "once), or a file with one time in seconds per line, as a log gives it.",
        ),
    ],
    target_high_rate: Rate = None,
    threshold: Threshold = None,
    shares: Shares = None,
    thresholds: Thresholds = None,
    threads: Annotated[int | None, typer.Option(help="Of onnxruntime, for one photo.", callback=within(1))] = None,
    lanes: Annotated[int, typer.Option(help="Photos that run at once, each as fast as alone.", callback=within(1))] = 1,
    count: Annotated[int, typer.Option(help="Photos that arrive.", callback=within(1, 1_000_000))] = 2000,
    out: Annotated[Path | None, typer.Option(help="Write the figures here as JSON, too.")] = None,
    seed: Seed = 0,
) -> None:
    """Replay a load: which latency it meets, and at which share of photos at high a promise is kept.

    The photos are measured at every size, one after the other; then their arrivals are replayed with these times.

    \b
    Examples:
    dualres replay yolo11n_dualres.onnx photos/ --p95-ms 120 --arrivals bursts:10:4
    dualres replay yolo11n_dualres.onnx photos/ --p95-ms 120 --arrivals seconds.txt --target-high-rate 0.3
    """
    import numpy as np

    from dualres_plugin.budget.cost import Budget
    from dualres_plugin.budget.replay import Load, largest_share
    from dualres_plugin.budget.replay import arrivals as arrive
    from dualres_plugin.budget.replay import replay as run
    from dualres_plugin.common.files.atomic import write_json
    from dualres_plugin.runtime.latency import measure_latency

    rng = np.random.default_rng(seed)
    when = arrive(arrivals, count, rng)
    point = Budget(
        target_high_rate, threshold, None, None, numbers("--shares", shares), numbers("--thresholds", thresholds)
    )
    session = open_session(model, point, threads=threads)
    scores, times = measure_latency(session, photos)
    photo = rng.integers(len(scores), size=len(when))
    load = Load(when, scores[photo], times[photo])
    wanted = load.steps(session.thresholds)
    highest = largest_share(load, p95_ms, _thresholds_at(session, scores), lanes)
    ways = {
        "as asked": run(load, wanted, lanes),
        f"as asked, smaller where {p95_ms:g} ms need it (serve --p95-ms)": run(load, wanted, lanes, p95_ms),
        "all at the largest size": run(load, np.zeros_like(wanted), lanes),
        "all at the smallest size": run(load, np.full_like(wanted, len(session.sizes) - 1), lanes),
    }
    if highest is not None:
        ways["the most that fixed thresholds keep it with"] = highest[1]
    typer.echo(_measured(session, times))
    typer.echo(_table(session, load, ways, p95_ms))
    typer.echo(_verdict(ways, highest, p95_ms))
    if out is not None:
        write_json(out, _figures(session, load, ways, p95_ms))
        typer.echo(f"wrote {out}")


def _thresholds_at(session: DualResSession, scores: np.ndarray) -> Any:
    """Thresholds by relative mean cost: shares as near to the session's as it allows."""
    from dualres_plugin.budget import ladder
    from dualres_plugin.budget.calibration import score_quantiles

    quantiles = session.card.quantiles or score_quantiles(scores)
    costs = ladder.relative_costs([float(size) ** 2 for size in session.sizes])
    wanted = session.expected_shares or ladder.even_shares(len(costs))
    return lambda level: ladder.thresholds_for(ladder.tilted(wanted, costs, level), quantiles)


def _measured(session: DualResSession, times: np.ndarray) -> str:
    import numpy as np

    from dualres_plugin.budget.deadline import QUANTILE

    middle, most = np.median(times, axis=0), np.quantile(times, QUANTILE, axis=0)
    parts = [f"{size} px {a:.1f} ms (95 %: {b:.1f})" for size, a, b in zip(session.sizes, middle, most)]
    return f"measured on {len(times)} photos: {', '.join(parts)}"


def _table(session: DualResSession, load: Load, ways: dict[str, Outcome], limit: float) -> str:
    names = " / ".join(map(str, session.sizes))
    last = load.arrivals[-1] - load.arrivals[0]
    rate = f", {(len(load.arrivals) - 1) / last:.3g} a second" if last > 0 else ""
    width = max(map(len, ways))
    lines = [f"{len(load.arrivals)} photos{rate}; latency in ms, late: above {limit:g} ms"]
    lines.append(f"{'':{width}s}  {'share at ' + names:>22s}{'p50':>9s}{'p95':>9s}{'p99':>9s}{'late':>8s}")
    for name, found in ways.items():
        at = " / ".join(f"{share:.0%}" for share in found.shares)
        ms = "".join(f"{found.quantile(level):9.0f}" for level in (0.5, 0.95, 0.99))
        lines.append(f"{name:{width}s}  {at:>22s}{ms}{found.late(limit):8.1%}")
    return "\n".join(lines)


def _verdict(ways: dict[str, Outcome], highest: tuple[float, Outcome] | None, limit: float) -> str:
    from dualres_plugin.budget.deadline import QUANTILE

    asked, promised = list(ways.values())[:2]
    if asked.quantile(QUANTILE) <= limit:
        return f"as asked, {limit:g} ms are kept: nothing is to be done."
    if promised.quantile(QUANTILE) <= limit:
        most = "no fixed threshold" if highest is None else f"a fixed threshold only up to {highest[1].shares[0]:.0%}"
        return (
            f"`dualres serve --p95-ms {limit:g}` keeps it, with {promised.shares[0]:.0%} at the largest size; {most}."
        )
    if highest is not None:
        return f"lower the share at the largest size to {highest[1].shares[0]:.0%}."
    return f"{limit:g} ms cannot be kept under this load: even all at the smallest size are too late."


def _figures(session: DualResSession, load: Load, ways: dict[str, Outcome], limit: float) -> dict[str, Any]:
    rows = [
        {
            "way": name,
            "shares": found.shares,
            **{f"p{round(100 * level)}_ms": found.quantile(level) for level in (0.5, 0.95, 0.99)},
            "late": found.late(limit),
        }
        for name, found in ways.items()
    ]
    return {"sizes": session.sizes, "p95_ms": limit, "photos": len(load.arrivals), "ways": rows}
