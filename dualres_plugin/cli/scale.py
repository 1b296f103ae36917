"""Profiling by many processes: `dualres profile-merge`, several devices, and Ray."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dualres_plugin.cli.options import on_device, short_name

if TYPE_CHECKING:
    from dualres_plugin.hosts.contract import HostAdapter
    from dualres_plugin.profile.builder import ProfileSettings
    from dualres_plugin.profile.data.records import Dataset
    from dualres_plugin.profile.table import Profile


def register(app: typer.Typer) -> None:
    """Add the commands of this file to the command line."""
    app.command("profile-merge")(profile_merge)


def profile_merge(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the profile.")],
    shards: Annotated[list[Path], typer.Argument(metavar="SHARD...", help="Folders of all shards.")],
) -> None:
    """Make one profile of the shards that `dualres profile --shard` made; they stay.

    It is the profile that one process would have made, row for row and bit for bit.

    \b
    Example:
    dualres profile-merge runs/train runs/train.*-of-4
    """
    from dualres_plugin.profile.parts.merge import merge_shards

    made = merge_shards(out, shards)
    typer.echo(f"{len(made)} views of {len(made.originals)} images in {out}")


def check_engine(given: dict[str, Any]) -> None:
    """Refuse options of `dualres profile` that do not go together.

    Args:
        given: its options by name.

    Raises:
        DualResError: If some do not.
    """
    from dualres_plugin.common.errors import DualResError

    ray, several = given["engine"] == "ray", "," in given["device"]
    if given["engine"] not in ("local", "ray"):
        raise DualResError(f"--engine {given['engine']}: known are local and ray.")
    if not ray and (given["address"] or given["concurrency"] != 1 or given["num_gpus"]):
        raise DualResError("--address, --concurrency and --num-gpus are of --engine ray: add it.")
    if (ray or several) and given["shard"]:
        raise DualResError("--shard is one process's share: leave it out with --engine ray or several devices.")
    if ray and several:
        raise DualResError("--engine ray: workers have one device each, such as --device cuda; give --num-gpus.")


def on_devices(command: Callable[..., None], given: dict[str, Any]) -> Profile:
    """Run `dualres profile` with several devices: a process on each makes a shard, then they are joined.

    Args:
        command: of one process.
        given: its options by name; "device" names several with commas between, one may be named twice.

    Returns:
        The profile.

    Raises:
        DualResError: If a process failed.
    """
    from dualres_plugin.common.errors import DualResError
    from dualres_plugin.common.files.shard import Shard
    from dualres_plugin.profile.parts.merge import merge_shards
    from dualres_plugin.profile.table import ROWS, Profile

    devices = [name.strip() for name in given["device"].split(",")]
    if (given["out"] / ROWS).is_file():  # one process looks whether it is the same profile
        command(**{**given, "device": devices[0]})
        return Profile.load(given["out"])
    shards = [Shard(i, len(devices)) for i in range(1, len(devices) + 1)]
    spawn = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    shares = [{**given, "device": name, "shard": str(shard)} for name, shard in zip(devices, shards)]
    processes = [spawn.Process(target=_one_share, args=(command, share)) for share in shares]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    failed = [name for name, process in zip(devices, processes) if process.exitcode]
    if failed:
        raise DualResError(
            f"the process on {failed[0]} failed, see above. What is finished is kept: run the command again."
        )
    folders = [shard.folder(given["out"]) for shard in shards]
    made = merge_shards(given["out"], folders)
    for folder in folders:
        shutil.rmtree(folder)
    return made


def _one_share(command: Callable[..., None], given: dict[str, Any]) -> None:
    from dualres_plugin.cli.ending import one_ending

    with one_ending():
        command(**given)


def on_ray(given: dict[str, Any], dataset: Dataset, settings: ProfileSettings) -> Profile:
    """Run `dualres profile` on a Ray cluster.

    Args:
        given: its options by name.
        dataset: the images.
        settings: of the profile.

    Returns:
        The profile.
    """
    from dualres_plugin.profile.parts.cluster import Cluster, build_on_ray

    cluster = Cluster(given["address"], given["concurrency"], given["num_gpus"])
    load = partial(_loaded, given["detector"], given["device"], given["channels_last"])
    return build_on_ray(load, dataset, given["out"], settings, cluster, detector_name=short_name(given["detector"]))


def costs(adapter: HostAdapter[Any], dataset: Dataset, settings: ProfileSettings) -> str:
    """What `dualres profile` would cost.

    Args:
        adapter: of the detector.
        dataset: the images.
        settings: of the profile.

    Returns:
        Lines for people: rows and batches, GMACs of each pass, bytes.
    """
    from dualres_plugin.profile.build import Plan

    plan = Plan(adapter, dataset, settings)
    rows = sum(map(len, plan.batches))
    spent: dict[str, float] = {}
    for jobs in plan.batches:
        shape = adapter.input_shape(plan.builder.plan_of(jobs[0]).size, plan.settings.high)
        for name, macs in _passes(adapter, plan.settings, shape).items():
            spent[name] = spent.get(name, 0.0) + macs * len(jobs)
    each = ", ".join(f"{name} px {total / rows:.2f}" for name, total in spent.items())
    kept = 3 * settings.thumbnail_size**2
    return (
        f"{len(dataset.records):,} images, {rows:,} rows, {len(plan.batches):,} batches\n"
        f"GMACs per row: {each}; all rows {sum(spent.values()) / 1e3:,.1f} TMACs\n"
        f"bytes per row: {kept:,} of thumbnail before compression, and up to 24 per detection and pass; all rows "
        f"{rows * kept / 1e9:,.2f} GB, twice that while it is being finished"
    )


def _passes(adapter: HostAdapter[Any], settings: ProfileSettings, shape: tuple[int, int]) -> dict[str, float]:
    """GMACs of each pass on one image that has this shape at high."""
    low = round(settings.high * settings.scale)
    sizes = {str(size): size / settings.high for size in (*settings.between, low)}
    own = {f"host {size}": size / settings.high for size in settings.host_sizes}
    smaller = {name: adapter.macs(adapter.low_shape(shape, s), low=True) for name, s in (sizes | own).items()}
    return {str(settings.high): adapter.macs(shape), **smaller}


def _loaded(detector: str, device: str, last: bool) -> HostAdapter[Any]:
    from dualres_plugin.hosts.registry import load_detector

    return on_device(load_detector(detector), device, last)
