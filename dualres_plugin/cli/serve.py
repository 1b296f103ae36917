"""`dualres serve`: an exported model behind HTTP."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from dualres_plugin.cli.ending import Stopped
from dualres_plugin.cli.options import Rate, Shares, Threshold, Thresholds, numbers, open_session, within


def register(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command("serve")(serve)


def serve(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="The .onnx file of dualres export, or the folder of a pair.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is all of the machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 is any free one.", callback=within(0, 65_535))] = 8000,
    target_high_rate: Rate = None,
    threshold: Threshold = None,
    shares: Shares = None,
    thresholds: Thresholds = None,
    hold: Annotated[
        bool, typer.Option("--hold", help="Hold the target rate when the content drifts: all photos are one stream.")
    ] = False,
    conf: Annotated[
        float | None,
        typer.Option(help="Answer detections above this score; the file's own by default.", callback=within(0, 1)),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Of onnxruntime, for one photo.", callback=within(1))] = None,
    workers: Annotated[int, typer.Option(help="Photos worked on at once.", callback=within(1, 256))] = 2,
    queue: Annotated[
        int, typer.Option(help="Photos that may wait; more get 503 and Retry-After.", callback=within(0, 100_000))
    ] = 32,
    timeout: Annotated[
        float, typer.Option(help="Seconds that a request may take.", callback=within(above=0, most=3600))
    ] = 30.0,
    max_mb: Annotated[float, typer.Option(help="MB of a request's body.", callback=within(above=0, most=1000))] = 20.0,
    max_mpx: Annotated[
        float, typer.Option(help="Million pixels of a photo.", callback=within(above=0, most=178))
    ] = 50.0,
    p95_ms: Annotated[
        float | None,
        typer.Option(
            "--p95-ms",
            help="Answer 95 of 100 photos within this: they run smaller than the router wants where that is needed.",
            callback=within(above=0),
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the model, in /v2/models/NAME; the file's by default.")] = None,
) -> None:
    """Serve an exported model: POST a photo to /predict, or the Open Inference Protocol (KServe v2) below /v2.

    /metrics is for Prometheus. Ctrl-C or SIGTERM answers what is there, and ends.

    \b
    Examples:
    dualres serve yolo11n_dualres.onnx --port 8000
    dualres serve yolo11n_dualres.onnx --target-high-rate 0.3 --hold --host 0.0.0.0
    """
    from dualres_plugin.budget.cost import Budget
    from dualres_plugin.common.errors import DualResError
    from dualres_plugin.serve.settings import ServeSettings

    try:
        from dualres_plugin.serve.app import make_app
        from dualres_plugin.serve.server import bind, make_server
    except ModuleNotFoundError as error:
        raise DualResError(
            f'serving needs {error.name}. Install it with: pip install "dualres-plugin[serve]"'
        ) from None

    if name and "/" in name:
        raise DualResError(f"--name '{name}' must not hold a slash: it is a part of a path.")
    if hold and p95_ms is not None:
        raise DualResError("--hold keeps a rate and --p95-ms lowers it where photos wait: give one of them.")
    settings = ServeSettings(name or _name(model), conf, workers, queue, timeout, max_mb, max_mpx, p95_ms)
    address = bind(host, port)  # before the model is loaded: a port in use is told at once
    point = Budget(
        target_high_rate, threshold, None, None, numbers("--shares", shares), numbers("--thresholds", thresholds)
    )
    session = open_session(model, point, hold=hold, threads=threads)
    shown = f"[{host}]" if ":" in host else host
    ready = f"{settings.name} on http://{shown}:{address.getsockname()[1]}"
    server = make_server(make_app(session, settings), timeout, lambda: typer.echo(ready))
    with suppress(Stopped):  # the signal was obeyed: what was there is answered
        server.run(sockets=[address])


def _name(model: Path) -> str:
    """`/far/away/yolo11n.onnx` -> `yolo11n`; a pair is called like its folder."""
    path = model.parent if model.name == "manifest.json" else model
    return path.resolve().stem
