"""`dualres profile`: what a detector finds at each size, measured once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dualres_plugin.cli.options import (
    MOST_SIZE,
    ChannelsLast,
    Detector,
    Half,
    High,
    Low,
    Seed,
    on_device,
    short_name,
    within,
)


def register(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command("profile")(profile)


def profile(
    detector: Detector,
    out: Annotated[Path, typer.Option(help="Folder of the profile; a started one is resumed.")],
    clips: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CLIP]...", help="Instead of --images: videos, and folders of videos or of frames."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="COCO annotations (.json), COCO-VID among them, an Ultralytics data.yaml, or MOTChallenge sequences; "
            "none: no labels, or those in .tar shards."
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            help="Image folder, .tar shards (photos-{000..099}.tar) or URL of a folder (s3://…); without --data also a "
            "list file (.txt). Not needed with a data.yaml.",
        ),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(
            help="Category names of labels inside of .tar shards: COCO's categories (.json), or a name a line."
        ),
    ] = None,
    every: Annotated[int, typer.Option(help="Of clips: take every Nth frame.", callback=within(1))] = 1,
    high: High = None,
    low: Low = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            help="Instead of --high and --low: a ladder of sizes in pixels, such as 640,512,448,384,320. "
            "`dualres advise` says which of them to run.",
        ),
    ] = None,
    host_sizes: Annotated[
        bool,
        typer.Option(
            "--host-sizes/--no-host-sizes",
            help="With --sizes: also run the host's own pass at each smaller size, which is what one fixed size costs "
            "and gives without this package. Doubles the time.",
        ),
    ] = True,
    views: Annotated[
        int, typer.Option(help="Views per image: 1 the image alone, more adds crops and mosaics.", callback=within(1))
    ] = 1,
    split: Annotated[str, typer.Option(help="Split of a data.yaml.")] = "train",
    batch: Annotated[int, typer.Option(help="Images per pass.", callback=within(1))] = 8,
    workers: Annotated[int, typer.Option(help="Threads that read images ahead.", callback=within(1))] = 1,
    thumbnail: Annotated[
        int, typer.Option(help="Side of the stored thumbnails: the router's largest input.", callback=within(1))
    ] = 160,
    seed: Seed = 0,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, cuda:1, mps …; several, such as cuda:0,cuda:1: a process on each.")
    ] = "cpu",
    half: Half = None,
    channels_last: ChannelsLast = False,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="File names of the annotations may lead out of --images.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            help="Do only this share, such as 3/64, into OUT.3-of-64; auto reads it from torchrun or Slurm. Join all "
            "with `dualres profile-merge`."
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say what it would cost: batches, GMACs and bytes. Runs nothing.")
    ] = False,
    engine: Annotated[str, typer.Option(help="local, or ray: the workers of a Ray cluster.")] = "local",
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster, such as auto; without it one is started here and stopped.")
    ] = None,
    concurrency: Annotated[
        int, typer.Option(help="Ray workers, each with a detector of its own.", callback=within(1))
    ] = 1,
    num_gpus: Annotated[
        float, typer.Option(help="GPUs of each Ray worker; 0.5 puts two on one.", callback=within(0))
    ] = 0.0,
) -> None:
    """Run the detector once at each size over a data set and store what routing needs.

    Everything after this (training, calibration, evaluation at every budget) costs no detector pass.
    Train and evaluate on different images: profile them into two folders.

    \b
    Examples:
    dualres profile yolo11n.pt --data train.json --images train/ --views 8 --out runs/train
    dualres profile yolo11n.pt --data data.yaml --split val --out runs/val
    dualres profile yolo11n.pt --images unlabelled/ --out runs/nolabels
    dualres profile yolo11n.pt street.mp4 yard.mp4 clips/ --every 2 --out runs/clips
    dualres profile yolo11n.pt --data MOT17/train --out runs/mot
    dualres profile yolo11n.pt --data val.json --images val/ --sizes 640,512,448,384,320 --out runs/ladder
    """
    given = dict(locals())
    from dualres_plugin.cli.scale import check_engine, costs, on_devices, on_ray
    from dualres_plugin.common.files.shard import parse_shard
    from dualres_plugin.hosts.registry import load_detector
    from dualres_plugin.hosts.sizes import ask_sizes
    from dualres_plugin.profile.build import ProfileSettings, build_profile, build_shard
    from dualres_plugin.profile.data.dataset import load_dataset

    check_engine(given)
    ladder = _ladder(sizes, low, high)
    if "," in device and not plan:
        made = on_devices(profile, given)
        typer.echo(f"{len(made)} views of {len(made.originals)} images in {out}")
        return
    dataset = load_dataset(data, images, split, allow_outside, names, clips or (), every)
    adapter = on_device(load_detector(detector), device.partition(",")[0], channels_last)
    common: dict[str, Any] = {
        "views": views, "batch": batch, "seed": seed, "thumbnail_size": thumbnail, "half": half,
    }  # fmt: skip
    if ladder:
        settings = ProfileSettings.ladder(ladder, host_sizes, **common)
    else:
        size, both = ask_sizes(adapter, low, high, None)
        settings = ProfileSettings(size, both.ratios()[0], **common)
    if plan:
        typer.echo(costs(adapter, dataset, settings))
        return
    named: dict[str, Any] = {"detector_name": short_name(detector), "workers": workers}
    if shard:
        share = parse_shard(shard)
        folder = build_shard(adapter, dataset, share.folder(out), settings, share, **named)
        typer.echo(
            f"shard {share} in {folder}; when all are done: dualres profile-merge {out} {out}.*-of-{share.total}"
        )
        return
    if engine == "ray":
        made = on_ray(given, dataset, settings)
    else:
        made = build_profile(adapter, dataset, out, settings, **named)
    spent = ", ".join(f"{p.name} {cost:.2f}" for p, cost in zip(reversed(made.passes), reversed(made.costs)))
    typer.echo(f"{len(made)} views of {len(made.originals)} images in {out}: {spent} GMACs")
    if ladder:
        typer.echo(f"next: dualres advise {out}")


def _ladder(sizes: str | None, low: int | None, high: int | None) -> list[int]:
    """The sizes that `--sizes` names; none without it."""
    from dualres_plugin.common.errors import DualResError
    from dualres_plugin.profile.passes import check_ladder

    if sizes is None:
        if low and high and low >= high:
            raise DualResError(f"--low {low} must be smaller than --high {high}.")
        return []
    if low or high:
        raise DualResError("--sizes names every size: leave out --high and --low.")
    try:
        ladder = [int(word) for word in sizes.replace(" ", "").split(",")]
    except ValueError:
        raise DualResError(f"--sizes {sizes}: give whole pixels with commas between, such as 640,512,448.") from None
    if not all(1 <= size <= MOST_SIZE for size in ladder):
        raise DualResError(f"--sizes {sizes}: each must lie between 1 and {MOST_SIZE} pixels.")
    return list(check_ladder(ladder))
