"""Building a profile: run the frozen detector once at both sizes, resumably."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.lock import locked
from dualres_plugin.common.files.shard import Shard
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.half import half_passes
from dualres_plugin.hosts.probe import check_sizes
from dualres_plugin.profile.builder import Builder, Job
from dualres_plugin.profile.builder import ProfileSettings as ProfileSettings
from dualres_plugin.profile.data.clips import check_views
from dualres_plugin.profile.data.dataset import match_categories, order_warning
from dualres_plugin.profile.data.records import Dataset
from dualres_plugin.profile.parts.batches import Parts, part_file, write_part
from dualres_plugin.profile.parts.merge import finish_shard
from dualres_plugin.profile.parts.rows import group_rows
from dualres_plugin.profile.parts.store import Origin, check_folder, finish
from dualres_plugin.profile.schema import FORMAT_VERSION, LADDER_VERSION
from dualres_plugin.profile.table import PARTS, Profile
from dualres_plugin.profile.views import View

logger = logging.getLogger("dualres")
GIVE_UP = 64  # images that a detector may reject before it is known to work at all


def build_profile(
    adapter: HostAdapter[Any],
    dataset: Dataset,
    out: Path | str,
    settings: ProfileSettings,
    *,
    detector_name: str = "",
    workers: int = 1,
    progress: bool = True,
    give_up: int = GIVE_UP,
) -> Profile:
    """Run the detector at both sizes over a dataset and store everything that routing needs.

    Args:
        adapter: of the frozen detector.
        dataset: images, with or without labels. Without labels there are no losses.
        out: the profile's folder, made if it is missing. A started one with the same settings is resumed; finished
            batches are kept.
        settings: sizes, views, batch and the like.
        detector_name: for the description.
        workers: threads that read and augment images ahead of the detector.
        progress: show a progress bar.
        give_up: images that the detector may reject before one has worked; then the run ends with an error.

    Returns:
        The finished profile.

    Raises:
        DualResError: If the folder cannot be written, holds another profile or is written by another process, or no
            image could be used, or the detector does not run at these sizes.
    """
    with locked(out) as folder:
        plan = Plan(adapter, dataset, settings, detector_name)
        if check_folder(folder, plan.meta):
            return Profile.load(folder)
        parts = _make(plan, folder, range(len(plan.batches)), workers, progress, give_up)
        return finish(folder, plan.meta, parts.joined(), plan.origin)


def build_shard(
    adapter: HostAdapter[Any],
    dataset: Dataset,
    out: Path | str,
    settings: ProfileSettings,
    shard: Shard,
    *,
    detector_name: str = "",
    workers: int = 1,
    progress: bool = True,
    give_up: int = GIVE_UP,
) -> Path:
    """One share of `build_profile`, for one of many processes or machines; `merge_shards` makes a profile of them.

    Args:
        adapter: as of `build_profile`, like all of the following.
        dataset: the whole; the shard takes its batches from it.
        out: the shard's folder. A started one is resumed.
        settings: the same for all shards.
        shard: which one this is.
        detector_name: for the description.
        workers: threads that read and augment images ahead of the detector.
        progress: show a progress bar.
        give_up: images that the detector may reject before one has worked.

    Returns:
        The folder.

    Raises:
        DualResError: As `build_profile` does.
    """
    with locked(out) as folder:
        plan = Plan(adapter, dataset, settings, detector_name)
        meta = {**plan.meta, "shard": str(shard)}
        check_folder(folder, meta)
        _make(plan, folder, shard.of(len(plan.batches)), workers, progress, give_up)
        finish_shard(folder, meta, len(plan.batches), plan.origin)
        return folder


class Plan:
    """What follows from detector, data set and settings before any image is read.

    Args:
        adapter: of the frozen detector.
        dataset: the images.
        settings: as the user gave them.
        detector_name: for the description.

    Attributes:
        builder: turns batches into rows.
        meta: the description of the profile, without its results.

    Raises:
        DualResError: If two sizes are the same to this detector, it knows none of the categories, it cannot run in
            half, or views are asked of videos.
    """

    def __init__(self, adapter: HostAdapter[Any], dataset: Dataset, settings: ProfileSettings, detector_name: str = ""):
        half_passes(settings.half, adapter.detector)  # is refused before anything is written
        check_views(dataset, settings.views)
        self.settings = _as_the_host_runs(adapter, settings)
        _check_shapes(adapter, self.settings)
        self.labels, self.unknown = _label_map(adapter, dataset)
        self.meta = _describe(adapter, dataset, self.settings, detector_name, self.labels)
        self.builder = Builder(adapter, dataset, self.settings, self.labels)

    @cached_property
    def batches(self) -> list[list[Job]]:
        """All jobs, batch by batch."""
        return self.builder.plan()

    @property
    def origin(self) -> Origin:
        """What is known of the data set."""
        dataset, adapter = self.builder.dataset, self.builder.adapter
        guess = order_warning(self.labels, dataset.categories, adapter.class_names) if dataset.labelled else ""
        return Origin(len(dataset.records), dataset.dropped.total(), dataset.warnings(), [guess] if guess else [])

    def check(self) -> None:
        """Say what is odd about the data set, and run the detector once at each size.

        Raises:
            DualResError: If it does not run at one.
        """
        for message in self.builder.dataset.warnings():
            logger.warning(message)
        if self.unknown:
            names = ", ".join(self.unknown[:8])
            logger.warning("the detector does not know %d of the categories: %s", len(self.unknown), names)
        settings = self.settings
        adapter = self.builder.adapter
        with half_passes(settings.half, adapter.detector):
            for size in (*settings.between, round(settings.high * settings.scale)):
                check_sizes(adapter, settings.high, size / settings.high)

    def parts(self, out: Path) -> Parts:
        """The finished batches of a folder.

        Args:
            out: of the profile or shard.
        """
        return Parts(out / PARTS, self.builder.schema, group_rows(self.settings.thumbnail_size))


def _make(plan: Plan, out: Path, numbers: range, workers: int, progress: bool, give_up: int) -> Parts:
    """Run what is not done yet of these batches."""
    plan.check()
    parts = plan.parts(out)
    _run(plan.builder, plan.batches, numbers, parts, workers, progress, give_up)
    if plan.builder.not_finite:
        logger.warning("%d detections had NaN or infinite boxes or scores and were dropped", plan.builder.not_finite)
    return parts


def _as_the_host_runs(adapter: HostAdapter[Any], settings: ProfileSettings) -> ProfileSettings:
    size = adapter.host_size(settings.high)
    if size != settings.high:
        logger.warning("high %d px is off the stride of this detector: it runs at %d px", settings.high, size)
    return replace(settings, high=size)


def _check_shapes(adapter: HostAdapter[Any], settings: ProfileSettings) -> None:
    """Refuse sizes that the stride makes the same."""
    square = (settings.high, settings.high)
    shapes = {settings.high: square}
    for size in (*settings.between, round(settings.high * settings.scale)):
        shape = adapter.low_shape(square, size / settings.high)
        same = next((other for other, known in shapes.items() if known == shape), None)
        if same is not None and settings.between:
            raise DualResError(
                f"sizes {same} and {size} are both {shape[0]} x {shape[1]} at the stride of this detector "
                f"({adapter.stride} px): leave one out."
            )
        shapes[size] = shape


def _label_map(adapter: HostAdapter[Any], dataset: Dataset) -> tuple[dict[int, int], list[str]]:
    if dataset.labelled:
        return match_categories(dataset.categories, adapter.class_names, adapter.label_ids)
    known = adapter.class_names or {i: f"class {i}" for i in adapter.label_ids or []}
    return {label: label for label in known}, []


def _describe(
    adapter: HostAdapter[Any], dataset: Dataset, settings: ProfileSettings, detector: str, labels: dict[int, int]
) -> dict[str, Any]:
    categories = dataset.categories or adapter.class_names or {i: f"class {i}" for i in labels}
    ladder = {k: list(v) for k, v in (("between", settings.between), ("host_sizes", settings.host_sizes)) if v}
    return {
        "format_version": LADDER_VERSION if ladder else FORMAT_VERSION,
        "kind": "dualres-profile",
        "host": adapter.name,
        "detector": detector or type(adapter.detector).__name__,
        "detector_fingerprint": fingerprint(adapter),
        "dataset": dataset.name,
        "dataset_fingerprint": _fingerprint_of(dataset),
        "labelled": dataset.labelled,
        "categories": {str(k): v for k, v in categories.items()},
        "high": settings.high,
        "scale": settings.scale,
        "views": settings.views,
        "batch": settings.batch,
        "seed": settings.seed,
        "thumbnail_size": settings.thumbnail_size,
        **ladder,
        **({"half": settings.half} if settings.half else {}),
        **({"clips": True} if dataset.clips else {}),
    }


def _fingerprint_of(dataset: Dataset) -> str:
    """A hash of the JSON list of all records, which is never in memory as a whole."""
    digest, clips = hashlib.sha256(), dataset.clips
    for number, r in enumerate(dataset.records):
        content: tuple[Any, ...] = (r.id, r.path.name, r.size, r.boxes.tolist(), r.categories.tolist())
        if clips:
            content += (Path(r.clip).name, r.frame)
        digest.update((", " if number else "[").encode() + json.dumps(content).encode())
    digest.update(b"]")
    return digest.hexdigest()[:16]


def fingerprint(adapter: HostAdapter[Any]) -> str:
    """Tells two detectors apart: a hash over every 97th weight.

    Args:
        adapter: of the detector as it was loaded, before `for_inference`.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    detectors: tuple[Any, ...] = (adapter.detector, adapter.low_detector)
    for detector in detectors:
        state = detector.state_dict() if hasattr(detector, "state_dict") else {}
        for tensor in state.values():
            digest.update(tensor.detach().flatten()[::97].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _run(
    builder: Builder,
    batches: list[list[Job]],
    numbers: range,
    parts: Parts,
    workers: int,
    progress: bool,
    give_up: int,
) -> None:
    finished = parts.check(numbers, lambda i: builder.keys(batches[i]))
    todo = [i for i in numbers if i not in finished]
    total = sum(len(batches[i]) for i in numbers)
    done = total - sum(len(batches[i]) for i in todo)
    bar = tqdm(total=total, initial=done, unit="img", desc="profile", disable=not progress, dynamic_ncols=True)
    skipped, refused, useful = 0, 0, done > 0
    with bar, ThreadPoolExecutor(max(1, workers)) as pool:
        for i, (items, unreadable) in _ahead(builder, batches, todo, pool, max(1, workers) + 1):
            rows, rejected = builder.rows(items)
            useful = useful or bool(rows)
            refused += len(rejected)
            if not useful and refused >= give_up:
                shutil.rmtree(parts.folder)  # so that the next try starts with these images again
                raise DualResError(f"not one image could be used so far; the last problem: {rejected[-1]}")
            write_part(part_file(parts.folder, i), rows, unreadable + rejected, builder.schema)
            parts.add(i, len(rows))
            for message in unreadable + rejected:
                logger.warning("left out: %s", message)
            skipped += len(unreadable) + len(rejected)
            bar.update(len(batches[i]))
            if skipped:
                bar.set_postfix(left_out=skipped)
    parts.join()


def _ahead(
    builder: Builder, batches: list[list[Job]], todo: list[int], pool: ThreadPoolExecutor, depth: int
) -> Iterator[tuple[int, tuple[list[tuple[Job, View]], list[str]]]]:
    """Read a few batches ahead of the detector, in order."""
    waiting: list[tuple[int, Future[tuple[list[tuple[Job, View]], list[str]]]]] = []
    for i in todo:
        waiting.append((i, pool.submit(builder.read, batches[i])))
        if len(waiting) >= depth:
            number, future = waiting.pop(0)
            yield number, future.result()
    for number, future in waiting:
        yield number, future.result()
