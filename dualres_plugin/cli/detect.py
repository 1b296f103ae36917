"""`dualres predict` and `dualres demo`: run a routed detector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dualres_plugin.cli.options import Detector, Device, Seed, on_device

if TYPE_CHECKING:
    from dualres_plugin.predict.exported import ExportedPredictor


def register(app: typer.Typer) -> None:
    """Add the commands of this file to the command line."""
    app.command("predict")(predict)
    app.command("demo")(demo)


def predict(
    detector: Detector,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Image, folder, glob, list file (.txt) or video.")],
    out: Annotated[Path, typer.Option(help="Where drawn images, detections.json and routes.csv go.")],
    router: Annotated[str | None, typer.Option(help="Folder of a router; the shipped default if none.")] = None,
    target_high_rate: Annotated[float | None, typer.Option(help="Wanted share at high, 0 to 1 (default 0.5).")] = None,
    threshold: Annotated[float | None, typer.Option(help="Score above which an image goes high.")] = None,
    hold: Annotated[
        bool, typer.Option("--hold", help="Hold the target rate when the content drifts (streams, videos).")
    ] = False,
    gmacs: Annotated[float | None, typer.Option(help="Mean compute per image to spend, in GMACs.")] = None,
    ms: Annotated[
        float | None, typer.Option(help="Mean milliseconds per image to spend; times are measured on the first images.")
    ] = None,
    high: Annotated[int | None, typer.Option(help="High size; the detector's own by default.")] = None,
    low: Annotated[int | None, typer.Option(help="Low size; half of high by default, or that of a pair.")] = None,
    conf: Annotated[float, typer.Option(help="Draw and list detections above this score.")] = 0.25,
    batch: Annotated[int, typer.Option(help="Images per pass.")] = 1,
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
) -> None:
    """Detect with routing: draws the images, writes COCO JSON, prints each route and the share that went high.

    \b
    Examples:
    dualres predict yolo11n.pt photos/ --router runs/router --out runs/predict
    dualres predict yolo11n.pt street.mp4 --router runs/router --target-high-rate 0.3 --out runs/street
    dualres predict yolo11n.pt bus.jpg --router runs/router --gmacs 2.0 --out runs/bus
    dualres predict yolo11n.pt photos/ --show-routes --save-txt --out runs/predict
    dualres predict yolo11n_dualres.onnx photos/ --out runs/predict
    """
    from dualres_plugin.budget.controller import BudgetController
    from dualres_plugin.budget.cost import Budget
    from dualres_plugin.common.errors import DualResError
    from dualres_plugin.common.resize import check_scale
    from dualres_plugin.hosts.registry import load_detector
    from dualres_plugin.predict.exported import is_exported
    from dualres_plugin.predict.operating_point import choose_threshold
    from dualres_plugin.predict.predictor import Predictor
    from dualres_plugin.predict.saving import Outputs, save_predictions
    from dualres_plugin.router.network import ResolutionRouter, load_default_router

    outputs = Outputs(conf, save, show_routes, save_txt or save_conf, save_conf, ids)
    if is_exported(detector):
        given = {"--router": router, "--gmacs": gmacs, "--ms": ms, "--high": high, "--low": low}
        given |= {"--batch": None if batch == 1 else batch, "--device": None if device == "cpu" else device}
        exported = _exported(detector, target_high_rate, threshold, hold, conf, given)
        typer.echo(str(save_predictions(exported, source, out, outputs)))
        return
    budget = Budget(target_high_rate, threshold, gmacs, ms)
    adapter = on_device(load_detector(detector), device)
    size = high or adapter.default_size
    scale = check_scale(low / size if low else adapter.default_scale)
    net = ResolutionRouter.from_pretrained(router) if router else load_default_router()
    limit = choose_threshold(net, adapter, size, scale, source, budget)
    controller = None
    if hold:
        if threshold is not None:
            raise DualResError("--hold keeps a rate: give --target-high-rate, --gmacs or --ms, not --threshold.")
        controller = BudgetController(net.rate_of(limit), net.quantiles)
    predictor = Predictor(adapter, net, limit, size, scale, batch, controller)
    typer.echo(str(save_predictions(predictor, source, out, outputs)))


def _exported(
    model: str, rate: float | None, threshold: float | None, hold: bool, conf: float, given: dict[str, Any]
) -> ExportedPredictor:
    from dualres_plugin.common.errors import DualResError
    from dualres_plugin.predict.exported import ExportedPredictor
    from dualres_plugin.runtime.session import DualResSession

    inside = [name for name, value in given.items() if value is not None]
    if inside:
        raise DualResError(
            f"'{model}' has its router and sizes inside and runs image by image in onnxruntime: "
            f"leave out {', '.join(inside)}."
        )
    if hold and threshold is not None:
        raise DualResError("--hold keeps a rate: give --target-high-rate, not --threshold.")
    if hold and rate is None:
        rate = 0.5
    return ExportedPredictor(DualResSession(model, threshold=threshold, target_high_rate=rate, hold_rate=hold), conf)


def demo(
    out: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("runs/demo"),
    images: Annotated[int, typer.Option(help="Scenes to learn from; a third as many again are evaluated on.")] = 240,
    seed: Seed = 0,
) -> None:
    """The whole job in minutes, offline: profile, train, evaluate and draw, on generated scenes.

    \b
    Example:
    dualres demo --out runs/demo
    """
    from dualres_plugin.demo.run import run_demo

    run_demo(out, images, seed, echo=typer.echo)
