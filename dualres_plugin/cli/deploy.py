"""`dualres export`, `page`, `bench` and `layout`: a routed detector as ONNX, in a browser, what it costs, and why."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from dualres_plugin.cli.options import (
    Detector,
    High,
    Low,
    Rate,
    Shares,
    Sizes,
    Threshold,
    Thresholds,
    alone,
    numbers,
    within,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this file to the command line."""
    app.command("export")(export)
    app.command("page")(page)
    app.command("bench")(alone(bench))
    app.command("layout")(layout)


Router = Annotated[str, typer.Option(help="Folder of a router.")]
Photos = Annotated[str | None, typer.Option(help="Folder or glob of real photos.")]


def export(
    detector: Detector,
    router: Router,
    out: Annotated[
        Path, typer.Option(help="The .onnx file; a folder for --form pair; REPOSITORY/NAME for --form triton.")
    ],
    form: Annotated[str, typer.Option(help="cond, resize, branches, pair or triton (docs/deployment.md).")] = "cond",
    high: High = None,
    low: Low = None,
    sizes: Sizes = None,
    target_high_rate: Rate = None,
    threshold: Threshold = None,
    shares: Shares = None,
    thresholds: Thresholds = None,
    nms: Annotated[bool, typer.Option("--nms", help="Put the host's NMS into the graph.")] = False,
    thumbnail: Annotated[
        str, typer.Option(help="Where the router's is made: inside the graph, or outside, by the session: faster.")
    ] = "inside",
    images: Photos = None,
    photos: Annotated[
        int, typer.Option(help="Photos to check the file with, every route; 0: no check.", callback=within(0))
    ] = 8,
) -> None:
    """Write detector, router and thresholds as ONNX, checked against PyTorch on real photos.

    The thresholds stay an input of the graph, so the budget can change without another export.

    \b
    Examples:
    dualres export yolo11n.pt --router runs/router --images photos/ --out yolo11n_dualres.onnx
    dualres export yolo11n.pt --router runs/router --thumbnail outside --out yolo11n_dualres.onnx
    dualres export yolo11n.pt --router runs/router --form pair --out runs/pair
    dualres export yolo11n.pt --router runs/router --form triton --thumbnail outside --out models/yolo11n
    dualres export yolo11n.pt --router runs/router --sizes 640,512,448 --shares 0.3,0.3,0.4 --out ladder.onnx
    """
    from dualres_plugin.budget.cost import Budget
    from dualres_plugin.common.errors import at_hand
    from dualres_plugin.export.build import export_model
    from dualres_plugin.hosts.registry import load_detector
    from dualres_plugin.hosts.sizes import ask_sizes
    from dualres_plugin.router.network import ResolutionRouter

    several = numbers("--shares", shares), numbers("--thresholds", thresholds)
    point = Budget(target_high_rate, threshold, None, None, *several)
    with at_hand(detector):
        adapter = load_detector(detector)
    net = ResolutionRouter.from_pretrained(router)
    size, ladder = ask_sizes(adapter, low, high, numbers("--sizes", sizes))
    limits = point.fixed_thresholds(len(ladder)) or net.thresholds_for(point.wanted_shares(len(ladder)))
    made = export_model(
        adapter, net, out, form=form, high=size, scale=ladder, threshold=limits, nms=nms, thumbnail=thumbnail,
        images=images, photos=photos,
    )  # fmt: skip
    said = ", ".join(f"{limit:+.4f}" for limit in limits)
    typer.echo(f"{made}: {_megabytes(made):.2f} MB, form {form}, threshold{'s' if len(limits) > 1 else ''} {said}")


def _megabytes(path: Path) -> float:
    repository = [path, *path.parent.glob(f"{path.name}_*")] if (path / "config.pbtxt").exists() else [path]
    files = [path] if path.is_file() else [p for folder in repository for p in folder.rglob("*") if p.is_file()]
    return sum(f.stat().st_size for f in files) / 1e6


def page(
    model: Annotated[Path, typer.Argument(help="An exported .onnx file: --form cond, resize or branches.")],
    out: Annotated[Path, typer.Option(help="Folder of the page.")],
    title: Annotated[str | None, typer.Option(help="Over the page; the file's name by default.")] = None,
    runtime: Annotated[
        Path | None, typer.Option(help="onnxruntime-web-VERSION.tgz of npm pack; fetched by npm if not given.")
    ] = None,
    node: Annotated[bool, typer.Option("--node", help="What runs in Node instead of a browser.")] = False,
) -> None:
    """Write a web page that runs an exported model on the visitor's machine, offline (docs/browser.md).

    \b
    Examples:
    dualres page yolo11n_dualres.onnx --out page
    dualres page yolo11n_dualres.onnx --runtime onnxruntime-web-1.30.0.tgz --out page
    dualres page yolo11n_dualres.onnx --node --out page
    """
    from dualres_plugin.export.web.build import write_node, write_page

    if node:
        typer.echo(f"{write_node(model, out)}: see docs/browser.md for how to run it")
        return
    made = write_page(model, out, title=title, package=runtime)
    typer.echo(f"open {made} ({_megabytes(out):.0f} MB in all)")


def bench(
    detector: Detector,
    router: Router,
    out: Annotated[Path, typer.Option(help="Folder for table.txt, times.csv, bench.png and the exported models.")],
    images: Photos = None,
    count: Annotated[int, typer.Option(help="Photos to run.", callback=within(1))] = 128,
    high: High = None,
    low: Low = None,
    sizes: Sizes = None,
    forms: Annotated[
        str, typer.Option(help="Forms, comma separated; cond-outside is cond with --thumbnail outside.")
    ] = "cond,cond-outside,resize,branches,pair",
    threads: Annotated[int, typer.Option(help="Threads of every runtime.", callback=within(1))] = 2,
    rounds: Annotated[int, typer.Option(help="Passes over the photos.", callback=within(1))] = 1,
    memory: Annotated[bool, typer.Option(help="Measure resident memory, each model in its own process.")] = True,
    check: Annotated[
        int, typer.Option(help="Photos to check every export with, against PyTorch, every route.", callback=within(0))
    ] = 2,
) -> None:
    """Time every form against the plain detector, in one interleaved run, with the router's cost in it.

    \b
    Example:
    dualres bench yolo11n.pt --router runs/router --images photos/ --out runs/bench
    """
    # Read when torch is loaded: its idle threads must not spin while another case is timed.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from dualres_plugin.common.errors import at_hand
    from dualres_plugin.export.bench.run import BenchSettings, run_bench
    from dualres_plugin.hosts.registry import load_detector
    from dualres_plugin.hosts.sizes import ask_sizes
    from dualres_plugin.router.network import ResolutionRouter

    with at_hand(detector):
        adapter = load_detector(detector)
    size, ladder = ask_sizes(adapter, low, high, numbers("--sizes", sizes))
    settings = BenchSettings(
        high=size, scale=ladder, forms=tuple(forms.split(",")), images=images,
        count=count, threads=threads, rounds=rounds, memory=memory, check=check,
    )  # fmt: skip
    typer.echo(run_bench(adapter, ResolutionRouter.from_pretrained(router), out, settings).table())


def layout(models: Annotated[list[Path], typer.Argument(help="ONNX files, or folders of pairs.")]) -> None:
    """Count the convolutions that onnxruntime runs in its fast layout (NCHWc) on this machine, by its own graph.

    A convolution inside an If whose weights lie outside stays in the plain layout, which is slower.

    \b
    Example:
    dualres layout runs/bench/models/cond.onnx runs/bench/models/pair
    """
    from dualres_plugin.export.bench.layout import layout_table

    typer.echo(layout_table(models))
