"""Building a profile: run the frozen detector once at both sizes, resumably."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from dualres_plugin.common.errors import DualResError, check_number
from dualres_plugin.common.files.lock import locked
from dualres_plugin.common.images import UnreadableImageError, router_images_of
from dualres_plugin.common.resize import check_scale, make_thumbnails
from dualres_plugin.common.types import Detections, Targets
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.probe import check_sizes
from dualres_plugin.profile.dataset import match_categories, order_warning
from dualres_plugin.profile.records import Dataset
from dualres_plugin.profile.schema import FORMAT_VERSION
from dualres_plugin.profile.store import check_folder, finish, part_file, part_fits, read_checksums, write_part
from dualres_plugin.profile.table import MAX_DETECTIONS, PARTS, THUMB_SIZE, Profile, row_of
from dualres_plugin.profile.views import View, ViewPlan, make_view, plan_view

logger = logging.getLogger("dualres")
GIVE_UP = 64  # images that a detector may reject before it is known to work at all


class Job(NamedTuple):
    """One view to run the detector on.

    Attributes:
        record: its index in the data set.
        view: its number, 0 for the image itself.
    """

    record: int
    view: int


@dataclass(frozen=True)
class ProfileSettings:
    """What defines a profile; a folder made with other settings is not resumed.

    Attributes:
        high: the high size in pixels, in the host's own meaning of size.
        scale: low / high ratio.
        views: views per image; 1 is the image alone.
        batch: images per pass.
        seed: of the augmented views.
        thumbnail_size: side of the stored thumbnails, the largest input a router trained on them can have.
    """

    high: int
    scale: float
    views: int = 1
    batch: int = 8
    seed: int = 0
    thumbnail_size: int = THUMB_SIZE

    def __post_init__(self) -> None:
        check_scale(self.scale)
        for name in ("high", "views", "batch", "thumbnail_size"):
            check_number(name, getattr(self, name), 1)
        check_number("seed", self.seed, 0)


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
        return _build(adapter, dataset, folder, settings, detector_name, workers, progress, give_up)


def _build(
    adapter: HostAdapter[Any],
    dataset: Dataset,
    out: Path,
    settings: ProfileSettings,
    detector_name: str,
    workers: int,
    progress: bool,
    give_up: int,
) -> Profile:
    settings = _as_the_host_runs(adapter, settings)
    labels, unknown = _label_map(adapter, dataset)
    meta = _describe(adapter, dataset, settings, detector_name, labels)
    finished = check_folder(out, meta)
    if finished:
        return Profile.load(out)
    for message in dataset.warnings():
        logger.warning(message)
    if unknown:
        logger.warning("the detector does not know %d of the categories: %s", len(unknown), ", ".join(unknown[:8]))
    check_sizes(adapter, settings.high, settings.scale)
    builder = _Builder(adapter, dataset, settings, labels)
    batches = builder.plan()
    _run(builder, batches, out / PARTS, workers, progress, give_up)
    if builder.not_finite:
        logger.warning("%d detections had NaN or infinite boxes or scores and were dropped", builder.not_finite)
    guess = order_warning(labels, dataset.categories, adapter.class_names) if dataset.labelled else ""
    return finish(out, meta, dataset, len(batches), [guess] if guess else [])


def _as_the_host_runs(adapter: HostAdapter[Any], settings: ProfileSettings) -> ProfileSettings:
    size = adapter.host_size(settings.high)
    if size != settings.high:
        logger.warning("high %d px is off the stride of this detector: it runs at %d px", settings.high, size)
    return replace(settings, high=size)


def _label_map(adapter: HostAdapter[Any], dataset: Dataset) -> tuple[dict[int, int], list[str]]:
    if dataset.labelled:
        return match_categories(dataset.categories, adapter.class_names, adapter.label_ids)
    known = adapter.class_names or {i: f"class {i}" for i in adapter.label_ids or []}
    return {label: label for label in known}, []


def _describe(
    adapter: HostAdapter[Any], dataset: Dataset, settings: ProfileSettings, detector: str, labels: dict[int, int]
) -> dict[str, Any]:
    categories = dataset.categories or adapter.class_names or {i: f"class {i}" for i in labels}
    contents = [(r.id, r.path.name, r.size, r.boxes.tolist(), r.categories.tolist()) for r in dataset.records]
    return {
        "format_version": FORMAT_VERSION,
        "kind": "dualres-profile",
        "host": adapter.name,
        "detector": detector or type(adapter.detector).__name__,
        "detector_fingerprint": fingerprint(adapter),
        "dataset": dataset.name,
        "dataset_fingerprint": hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:16],
        "labelled": dataset.labelled,
        "categories": {str(k): v for k, v in categories.items()},
        "high": settings.high,
        "scale": settings.scale,
        "views": settings.views,
        "batch": settings.batch,
        "seed": settings.seed,
        "thumbnail_size": settings.thumbnail_size,
    }


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


class _Builder:
    """Turns jobs (image, view) into rows; knows nothing of files."""

    def __init__(self, adapter: HostAdapter[Any], dataset: Dataset, settings: ProfileSettings, labels: dict[int, int]):
        self.adapter = adapter
        self.dataset = dataset
        self.records = dataset.records
        self.settings = settings
        self.category_of = labels
        self.not_finite = 0  # boxes with NaN or infinity that the detector gave
        self.label_of = {category: label for label, category in labels.items()}

    def plan_of(self, job: Job) -> ViewPlan:
        return plan_view(self.records, job.record, job.view, self.settings.seed)

    def plan(self) -> list[list[Job]]:
        """All jobs in batches of equal input shape. Fixed by the settings, so that a resumed run has the same."""
        shapes: dict[tuple[int, int], list[Job]] = {}
        for view in range(self.settings.views):
            for index in range(len(self.records)):
                job = Job(index, view)
                shape = self.adapter.input_shape(self.plan_of(job).size, self.settings.high)
                shapes.setdefault(shape, []).append(job)
        size = self.settings.batch
        return [jobs[i : i + size] for jobs in shapes.values() for i in range(0, len(jobs), size)]

    def keys(self, jobs: Sequence[Job]) -> list[tuple[int, int]]:
        """Image id and view of each job."""
        return [(self.records[job.record].id, job.view) for job in jobs]

    def read(self, jobs: Sequence[Job]) -> tuple[list[tuple[Job, View]], list[str]]:
        """Pixels of a batch; unreadable images are named instead."""
        good, skipped = [], []
        for job in jobs:
            try:
                good.append((job, make_view(self.records, self.plan_of(job))))
            except UnreadableImageError as error:
                skipped.append(str(error))
        return good, skipped

    def rows(self, items: Sequence[tuple[Job, View]]) -> tuple[list[dict[str, Any]], list[str]]:
        """Run a batch; if the host rejects it, one by one, so that a single odd image costs only itself."""
        if not items:
            return [], []
        try:
            return self._rows(items), []
        except DualResError:
            raise
        except Exception as error:
            if len(items) == 1:
                name = self.records[items[0][0].record].path.name
                return [], [f"'{name}': the {self.adapter.name} host rejects it ({error})"]
            parts = [self.rows([item]) for item in items]
            return [row for part, _ in parts for row in part], [message for _, part in parts for message in part]

    def _rows(self, items: Sequence[tuple[Job, View]]) -> list[dict[str, Any]]:
        adapter, settings = self.adapter, self.settings
        images = [view.pixels for _, view in items]
        targets = [self._targets(view) for _, view in items] if self.dataset.labelled else None
        batch = adapter.collate(images, settings.high, targets)
        low_batch = adapter.resize(batch, torch.arange(len(images)), settings.scale)
        high, loss_high = adapter.profile_pass(batch, self.dataset.labelled)
        low, loss_low = adapter.profile_pass(low_batch, self.dataset.labelled)
        shape = adapter.input_shape(images[0].shape[:2], settings.high)
        low_shape = adapter.low_shape(shape, settings.scale)
        gmacs = adapter.macs(low_shape, low=True), adapter.macs(shape)
        thumbs = make_thumbnails(router_images_of(images), settings.thumbnail_size)
        pixels = (thumbs * 255).round().byte().numpy()
        return [
            row_of(
                self.records[job.record].id,
                job.view,
                str(self.records[job.record].path.resolve()),
                (view.pixels.shape[0], view.pixels.shape[1]),
                view,
                (self._to_categories(low[i]), self._to_categories(high[i])),
                (_item(loss_low, i), _item(loss_high, i)),
                gmacs,
                pixels[i],
            )
            for i, (job, view) in enumerate(items)
        ]

    def _targets(self, view: View) -> Targets:
        labels = np.array([self.label_of.get(int(c), -1) for c in view.categories], dtype=np.int64)
        return Targets(view.boxes, labels, view.ignore)

    def _to_categories(self, found: Detections) -> Detections:
        """Labels become category ids; classes that the dataset does not have cannot be right or wrong."""
        categories = np.array([self.category_of.get(int(n), -1) for n in found.labels], dtype=np.int64)
        finite = np.isfinite(found.boxes).all(axis=1) & np.isfinite(found.scores)
        if not finite.all():  # IoU with NaN passes every threshold, so such a box would count as a hit
            self.not_finite += int((~finite).sum())
        keep = np.flatnonzero((categories >= 0) & finite)[:MAX_DETECTIONS]
        return Detections(found.boxes[keep], found.scores[keep], categories[keep])


def _item(losses: torch.Tensor | None, i: int) -> float | None:
    """None where there is none; a loss that is not finite says nothing either."""
    return None if losses is None or not losses[i].isfinite() else float(losses[i])


def _run(builder: _Builder, batches: list[list[Job]], parts: Path, workers: int, progress: bool, give_up: int) -> None:
    known = read_checksums(parts)
    files = [part_file(parts, i) for i in range(len(batches))]
    todo = [i for i, file in enumerate(files) if not part_fits(file, builder.keys(batches[i]), known.get(file.name))]
    done = sum(map(len, batches)) - sum(len(batches[i]) for i in todo)
    total = sum(map(len, batches))
    bar = tqdm(total=total, initial=done, unit="img", desc="profile", disable=not progress, dynamic_ncols=True)
    skipped, refused, useful = 0, 0, done > 0
    with bar, ThreadPoolExecutor(max(1, workers)) as pool:
        for i, (items, unreadable) in _ahead(builder, batches, todo, pool, max(1, workers) + 1):
            rows, rejected = builder.rows(items)
            useful = useful or bool(rows)
            refused += len(rejected)
            if not useful and refused >= give_up:
                shutil.rmtree(parts)  # so that the next try starts with these images again
                raise DualResError(f"not one image could be used so far; the last problem: {rejected[-1]}")
            write_part(part_file(parts, i), rows, unreadable + rejected)
            for message in unreadable + rejected:
                logger.warning("left out: %s", message)
            skipped += len(unreadable) + len(rejected)
            bar.update(len(batches[i]))
            if skipped:
                bar.set_postfix(left_out=skipped)


def _ahead(
    builder: _Builder, batches: list[list[Job]], todo: list[int], pool: ThreadPoolExecutor, depth: int
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
