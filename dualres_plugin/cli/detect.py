"""`dualres predict` and `dualres demo`: run a routed detector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dualres_plugin.cli.options import (
    ChannelsLast,
    Detector,
    Device,
    Half,
    High,
    Low,
    Rate,
    Seed,
    Shares,
    Sizes,
    Threshold,
    Thresholds,
    alone,
    numbers,
    on_device,
    open_session,
    stamp,
    within,
)

if TYPE_CHECKING:
    from dualres_plugin.budget.cost import Budget
    from dualres_plugin.predict.exported import ExportedPredictor
    from dualres_plugin.predict.predictor import Predictor


def register(app: typer.Typer) -> None:
    """Add the commands of this file to the command line."""
    app.command("predict")(predict)
    app.command("demo")(alone(demo))


def predict(
    detector: Detector,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Image, folder, glob, list file (.txt), .tar shards, URL or video.")
    ],
    out: Annotated[Path, typer.Option(help="Where drawn images, detections.json and routes.csv go.")],
    router: Annotated[str | None, typer.Option(help="Folder of a router; the default router if none.")] = None,
    target_high_rate: Rate = None,
    threshold: Threshold = None,
    hold: Annotated[
        bool, typer.Option("--hold", help="Hold the target rate when the content drifts (streams, videos).")
    ] = False,
    memory: Annotated[
        Path | None,
        typer.Option(
            help="Of a video: read the last frame too; folder of a router after `dualres train-stream`, or: default, "
            "small."
        ),
    ] = None,
    skip: Annotated[
        int,
        typer.Option(
            help="Of a video: most frames in a row that reuse the last boxes where nothing stirs.",
            callback=within(0, 1000),
        ),
    ] = 0,
    gmacs: Annotated[
        float | None, typer.Option(help="Mean compute per image to spend, in GMACs.", callback=within(above=0))
    ] = None,
    ms: Annotated[
        float | None,
        typer.Option(
            help="Mean milliseconds per image to spend; times are measured on the first images.",
            callback=within(above=0),
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            help="Of a video: mean frames per second to hold, whatever the machine does meanwhile; drawing and writing "
            "count.",
            callback=within(above=0),
        ),
    ] = None,
    high: High = None,
    low: Low = None,
    sizes: Sizes = None,
    shares: Shares = None,
    thresholds: Thresholds = None,
    conf: Annotated[
        float, typer.Option(help="Draw and list detections above this score.", callback=within(0, 1))
    ] = 0.25,
    batch: Annotated[
        int | None,
        typer.Option(
            help="Images per pass (default 1); they wait for others of their route and shape.", callback=within(1)
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Threads that read photos ahead.", callback=within(0))] = 0,
    save: Annotated[bool, typer.Option(help="Save drawn images or video.")] = True,
    show_routes: Annotated[
        bool, typer.Option("--show-routes", help="Write contact_sheet.jpg: thumbnails with routes, sorted by score.")
    ] = False,
    save_txt: Annotated[bool, typer.Option("--save-txt", help="Write YOLO label files into labels/.")] = False,
    save_conf: Annotated[
        bool, typer.Option("--save-conf", help="Add each detection's score to the lines of --save-txt.")
    ] = False,
    ids: Annotated[
        Path | None,
        typer.Option(
            help="COCO annotations: detections.json uses their image and category ids, by file and class name."
        ),
    ] = None,
    device: Device = "cpu",
    half: Half = None,
    channels_last: ChannelsLast = False,
    shard: Annotated[
        str | None,
        typer.Option(help="Do only this share of the images, such as 3/64, into OUT.3-of-64; auto asks the launcher."),
    ] = None,
) -> None:
    """Detect with routing: draws the images, writes COCO JSON, prints each route and the share that went high.

    Whatever stops it, what was done is written, and the same command goes on from there; a video begins anew.

    \b
    Examples:
    dualres predict yolo11n.pt photos/ --router runs/router --out runs/predict
    dualres predict yolo11n.pt street.mp4 --router runs/router --target-high-rate 0.3 --out runs/street
    dualres predict yolo11n.pt street.mp4 --router runs/router --memory runs/router --skip 3 --out runs/street
    dualres predict yolo11n.pt street.mp4 --fps 12 --no-save --out runs/street
    dualres predict yolo11n.pt bus.jpg --router runs/router --gmacs 2.0 --out runs/bus
    dualres predict yolo11n.pt photos/ --show-routes --save-txt --out runs/predict
    dualres predict yolo11n.pt photos/ --sizes 640,512,448 --thresholds 0.4,-0.1 --out runs/ladder
    dualres predict yolo11n_dualres.onnx photos/ --out runs/predict
    """
    from dualres_plugin.budget.cost import Budget
    from dualres_plugin.common.files.lock import locked
    from dualres_plugin.common.files.shard import parse_shard
    from dualres_plugin.predict.exported import ExportedPredictor, is_exported
    from dualres_plugin.predict.saving import Outputs, save_predictions

    share = parse_shard(shard) if shard else None
    out = share.folder(out) if share else out
    if out.is_dir():
        with locked(out):  # whoever writes there now is told of before the detector is loaded
            pass
    outputs = Outputs(conf, save, show_routes, save_txt or save_conf, save_conf, ids)
    setup = _Setup(router, low, high, numbers("--sizes", sizes), batch, device, half, channels_last)
    several = numbers("--shares", shares), numbers("--thresholds", thresholds)
    made: ExportedPredictor | Predictor
    if is_exported(detector):
        setup.refuse_for_exported(detector, gmacs, ms)
        point = Budget(target_high_rate, threshold, None, None, *several, fps)
        made = ExportedPredictor(open_session(detector, point, hold=hold, memory=memory, skip=skip), conf)
    else:
        made = _routed(
            detector, source, Budget(target_high_rate, threshold, gmacs, ms, *several, fps), hold, setup, memory, skip
        )
    settings = {
        "detector": stamp(detector), "router": stamp(router), "target_high_rate": target_high_rate,
        "threshold": threshold, "gmacs": gmacs, "ms": ms, "hold": hold, "high": high, "low": low,
        "sizes": sizes, "shares": shares, "thresholds": thresholds,
        **({"half": half} if half else {}), **({"fps": fps} if fps else {}),
        "memory": stamp(str(memory)) if memory else None, "skip": skip,
    }  # fmt: skip
    typer.echo(str(save_predictions(made, source, out, outputs, settings, share, workers)))


@dataclass(frozen=True)
class _Setup:
    """The options that say what runs, and how; an exported model has all of that inside."""

    router: str | None
    low: int | None
    high: int | None
    sizes: tuple[float, ...] | None
    batch: int | None
    device: str
    half: str | None
    channels_last: bool

    def refuse_for_exported(self, model: str, gmacs: float | None, ms: float | None) -> None:
        """Raises DualResError if an option is given that an exported model does not take."""
        from dualres_plugin.common.errors import DualResError

        given: dict[str, Any] = {
            "--router": self.router,
            "--gmacs": gmacs,
            "--ms": ms,
            "--high": self.high,
            "--low": self.low,
            "--sizes": self.sizes,
        }
        given |= {"--batch": self.batch, "--device": None if self.device == "cpu" else self.device, "--half": self.half}
        given |= {"--channels-last": self.channels_last or None}
        inside = [name for name, value in given.items() if value is not None]
        if inside:
            raise DualResError(
                f"'{model}' has its router and sizes inside and runs image by image in onnxruntime: "
                f"leave out {', '.join(inside)}."
            )


def _routed(
    detector: str, source: str, budget: Budget, hold: bool, setup: _Setup, memory: Path | None, skip: int
) -> Predictor:
    """A detector with its router in PyTorch."""
    from dualres_plugin.common.errors import DualResError, at_hand
    from dualres_plugin.hosts.registry import load_detector
    from dualres_plugin.hosts.sizes import ask_sizes
    from dualres_plugin.predict.operating_point import choose_gate
    from dualres_plugin.predict.predictor import Predictor
    from dualres_plugin.router.network import ResolutionRouter, load_default_router
    from dualres_plugin.router.stream_gate import stream_options

    if hold and (budget.threshold is not None or budget.thresholds is not None):
        raise DualResError("--hold keeps a rate: give --target-high-rate, --shares, --gmacs or --ms, not a threshold.")
    with at_hand(detector):
        adapter = on_device(load_detector(detector), setup.device, setup.channels_last)
    size, ladder = ask_sizes(adapter, setup.low, setup.high, setup.sizes)
    router = ResolutionRouter.from_pretrained(setup.router) if setup.router else load_default_router()
    stream = stream_options(False if memory is None else memory, skip, None)
    gate = choose_gate(router, adapter, size, ladder, source, budget, hold, stream=stream)
    return Predictor(adapter, gate, size, ladder, 1 if setup.batch is None else setup.batch, setup.half)


def demo(
    out: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("runs/demo"),
    images: Annotated[
        int, typer.Option(help="Scenes to learn from; a third as many again are evaluated on.", callback=within(1))
    ] = 240,
    seed: Seed = 0,
) -> None:
    """The whole job in minutes, offline: profile, train, evaluate and draw, on generated scenes.

    \b
    Example:
    dualres demo --out runs/demo
    """
    from dualres_plugin.demo.run import run_demo

    run_demo(out, images, seed, echo=typer.echo)
