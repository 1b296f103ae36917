"""`dualres train`, `evaluate` and `swap`: from a profile to a router."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dualres_plugin.cli.options import (
    MOST_SEED,
    Device,
    Groups,
    High,
    Low,
    Margin,
    Seed,
    alone,
    on_device,
    short_name,
    within,
)

if TYPE_CHECKING:
    from dualres_plugin.profile.table import Profile
    from dualres_plugin.router.network import ResolutionRouter


def register(app: typer.Typer) -> None:
    """Add the commands of this file to the command line."""
    app.command("train")(alone(train))
    app.command("evaluate")(alone(evaluate))
    app.command("swap")(swap)


def train(
    profiles: Annotated[list[Path], typer.Argument(metavar="PROFILE...", help="One or more profile folders.")],
    out: Annotated[Path, typer.Option(help="Folder of the router.")],
    config: Annotated[Path | None, typer.Option(help="YAML with training settings, e.g. configs/paper.yaml.")] = None,
    gain: Annotated[
        str | None, typer.Option(help="What to learn: ap_objects, ap, loss, matched, agreement, score_mass.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="default or small (the bodies of the routers that ship), detector:DETECTOR (its own), tiny, lite, a "
            "torchvision classifier, or timm:NAME."
        ),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Local file with backbone weights.")] = None,
    input_size: Annotated[int | None, typer.Option(help="Thumbnail side in pixels.", callback=within(1))] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the profile.", callback=within(1))] = None,
    batch: Annotated[int | None, typer.Option(help="Thumbnails per step.", callback=within(1))] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.", callback=within(0, MOST_SEED))] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Folder for TensorBoard: loss, rank correlation and the like.")
    ] = None,
) -> None:
    """Train a router from a profile, in minutes on a CPU, and calibrate it on held-out images.

    Several profiles of the same images by other detectors or sizes are averaged: the router becomes universal.

    \b
    Examples:
    dualres train runs/train --backbone detector:yolo11n.pt --input-size 128 --out runs/router
    dualres train runs/train --out runs/router
    dualres train runs/train --config configs/paper.yaml --out runs/paper
    dualres train runs/yolo runs/frcnn --gain agreement --out runs/universal
    dualres train runs/train --config configs/paper.yaml --tensorboard runs/tb --out runs/paper
    """
    from dualres_plugin.profile.table import Profile
    from dualres_plugin.train.config import TrainConfig
    from dualres_plugin.train.log import tensorboard_log
    from dualres_plugin.train.train import train_router

    settings = TrainConfig.load(
        config,
        gain=gain,
        backbone=backbone,
        weights=str(weights) if weights else None,
        input_size=input_size,
        epochs=epochs,
        batch=batch,
        seed=seed,
    )
    with tensorboard_log(tensorboard, settings) if tensorboard else nullcontext() as log:
        router = train_router([Profile.load(p) for p in profiles], settings, log=log)
    router.save(out)
    correlation = router.info["metrics"]["holdout_spearman"]
    typer.echo(
        f"router in {out}: {router.config.backbone} at {router.config.input_size} px, {router.gmacs():.3f} GMACs, "
        f"rank correlation with the gain on held-out images {correlation:.2f}"
    )
    typer.echo(f"next: dualres evaluate VAL_PROFILE {out} --out runs/report")


def evaluate(
    profile: Annotated[Path, typer.Argument(metavar="PROFILE", help="A labelled profile of images not used to train.")],
    router: Annotated[str, typer.Argument(metavar="ROUTER", help="Folder of a router, or: default, small.")],
    out: Annotated[Path, typer.Option(help="Where report.html, metrics.json, curve.csv and curve.png go.")],
    sizes: Annotated[
        list[Path] | None,
        typer.Option(help="Profile of the same images at other sizes: adds what one fixed size gives. Repeatable."),
    ] = None,
    target_high_rate: Annotated[
        float, typer.Option(help="Share at high, 0 to 1, of the operating point.", callback=within(0, 1))
    ] = 0.5,
    detector: Annotated[
        str | None, typer.Option(help="Measure milliseconds with this detector and show them in the report.")
    ] = None,
    margin: Margin = 0.5,
    groups: Groups = None,
    bootstrap: Annotated[
        int,
        typer.Option(
            help="Resamples for the 95 % intervals of differences; that of AUC-Policy takes at most 200.",
            callback=within(0),
        ),
    ] = 1000,
    permutations: Annotated[int, typer.Option(help="Random orders for the random baseline.", callback=within(1))] = 20,
    seed: Seed = 0,
) -> None:
    """Curve, AUC-Policy with interval, baselines, what is proven at the operating point, and a report to look at.

    \b
    Examples:
    dualres evaluate runs/val runs/router --out runs/report
    dualres evaluate runs/val runs/router --sizes runs/val-512 --detector yolo11n.pt --out runs/report
    dualres evaluate runs/frames runs/router --groups folder --margin 1 --out runs/report
    """
    from dualres_plugin.common.files.paths import shareable
    from dualres_plugin.evaluate.evaluation import evaluate as run
    from dualres_plugin.evaluate.evaluation import summary
    from dualres_plugin.evaluate.ladder.groups import read_groups
    from dualres_plugin.evaluate.report.write import write_evaluation
    from dualres_plugin.profile.table import Profile
    from dualres_plugin.router.network import ResolutionRouter

    loaded, net = Profile.load(profile), ResolutionRouter.from_pretrained(router)
    others = [Profile.load(p) for p in sizes or []]
    timings = _timings(detector, net, loaded) if detector else None
    result = run(
        loaded,
        net,
        target_high_rate=target_high_rate,
        bootstrap=bootstrap,
        permutations=permutations,
        seed=seed,
        progress=True,
        other_sizes=others,
        margin=margin,
        groups=read_groups(groups, loaded) if groups else None,
    )
    shown = [shareable(path) for path in (profile, router, out)]  # the report is shared: no path of this machine
    command = (
        f"dualres evaluate {shown[0]} {shown[1]} --target-high-rate {target_high_rate:g} --out {shown[2]} --seed {seed}"
    )
    title = f"{loaded.meta['detector']} on {loaded.meta['dataset']}"
    described = _described(command, net, loaded, seed)
    write_evaluation(out, result, loaded, title=title, run=described, timings=timings)
    typer.echo(summary(result))
    typer.echo(f"look at {out / 'report.html'}")


def _described(command: str, router: ResolutionRouter, profile: Profile, seed: int) -> dict[str, Any]:
    """What was run, for the report and metrics.json."""
    return {
        "command": command,
        "profile": {k: profile.meta[k] for k in ("host", "detector", "dataset", "high", "scale")},
        "router": {"backbone": router.config.backbone, "input_size": router.config.input_size, **router.info},
        "seed": seed,
    }


def _timings(detector: str, router: ResolutionRouter, profile: Profile, images: int = 16) -> dict[str, float]:
    """Milliseconds of router and passes on the first photos of a profile.

    Raises:
        DualResError: If it is another detector than that of the profile: the times would not be those of its AP.
    """
    from dualres_plugin.common.errors import DualResError
    from dualres_plugin.common.images.decode import read_image
    from dualres_plugin.hosts.registry import load_detector
    from dualres_plugin.predict.operating_point import measure_ms
    from dualres_plugin.profile.build import fingerprint

    files = [profile.image_file(int(row)) for row in profile.originals[:images]]
    adapter = load_detector(detector)
    if profile.meta.get("detector_fingerprint") not in ("", None, fingerprint(adapter)):
        raise DualResError(
            f"--detector {short_name(detector)} has other weights than the detector of profile '{profile.path}' "
            f"({profile.meta['detector']}), so its times do not belong to these numbers: give that one, or leave the "
            "option out."
        )
    adapter = adapter.for_inference()
    return measure_ms(adapter, router, [read_image(file) for file in files], int(profile.meta["high"]), profile.scale)


def swap(
    router: Annotated[str, typer.Argument(metavar="ROUTER", help="Folder of a trained router, or: default, small.")],
    detector: Annotated[str, typer.Option(help="The detector to plug it into, as HOST:NAME.")],
    images: Annotated[Path, typer.Option(help="Unlabelled images like those to come.")],
    out: Annotated[Path, typer.Option(help="Folder of the recalibrated router.")],
    high: High = None,
    low: Low = None,
    device: Device = "cpu",
) -> None:
    """Plug a router into another detector: same weights, thresholds read off new images. No labels, no training.

    \b
    Example:
    dualres swap runs/router --detector ultralytics:yolo11s.pt --images calib/ --out runs/router-s
    """
    from dualres_plugin.common.files.lock import locked
    from dualres_plugin.hosts.registry import load_detector
    from dualres_plugin.hosts.sizes import ask_sizes
    from dualres_plugin.router.network import ResolutionRouter
    from dualres_plugin.router.recalibrate import recalibrate

    adapter = on_device(load_detector(detector), device)
    size, ladder = ask_sizes(adapter, low, high, None)
    net = ResolutionRouter.from_pretrained(router)
    with locked(out):  # an unwritable folder is found now, not after the calibration
        count, cost = recalibrate(net, adapter, images, size, ladder.ratios()[0], short_name(detector))
        net.save(out)
    typer.echo(
        f"router in {out}, calibrated on {count} images for {short_name(detector)}: "
        f"low {cost['low_gmacs']:.2f}, high {cost['high_gmacs']:.2f} GMACs, router {net.gmacs():.3f}"
    )
