"""One batch at a time: images and views in, rows of a profile out. Knows nothing of files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from dualres_plugin.common.errors import DualResError, check_number
from dualres_plugin.common.images.blobs import ImageFile
from dualres_plugin.common.images.decode import UnreadableImageError
from dualres_plugin.common.images.photo import router_images_of
from dualres_plugin.common.resize import check_scale, make_thumbnails
from dualres_plugin.common.types import Detections, Targets
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.half import half_passes
from dualres_plugin.profile.data.records import Dataset
from dualres_plugin.profile.passes import check_ladder, host_passes, routed_passes
from dualres_plugin.profile.schema import schema_of
from dualres_plugin.profile.table import MAX_DETECTIONS, THUMB_SIZE, row_of
from dualres_plugin.profile.views import View, ViewPlan, make_view, plan_view


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
        between: further sizes in pixels between high and low, largest first (`ladder` makes settings of such).
        host_sizes: sizes in pixels at which the host's own pass is stored beside ours.
        half: "fp16" or "bf16", what the detector's passes compute in; None as it is. Another detector, as it were.
    """

    high: int
    scale: float
    views: int = 1
    batch: int = 8
    seed: int = 0
    thumbnail_size: int = THUMB_SIZE
    between: tuple[int, ...] = ()
    host_sizes: tuple[int, ...] = ()
    half: str | None = None

    @classmethod
    def ladder(cls, sizes: Sequence[int], host: bool = True, **others: Any) -> ProfileSettings:
        """Settings of a profile at several sizes.

        Args:
            sizes: in pixels, in any order; the largest is the high one, the smallest the low one.
            host: store the host's own pass at each smaller size too.
            **others: further settings.

        Raises:
            DualResError: If there are fewer than two sizes, or two are the same.
        """
        high, *between, low = check_ladder(sizes)
        own = (*between, low) if host else ()
        return cls(high, low / high, between=tuple(between), host_sizes=own, **others)

    def __post_init__(self) -> None:
        check_scale(self.scale)
        if self.between:
            check_ladder([self.high, *self.between, round(self.high * self.scale)])
        for name in ("high", "views", "batch", "thumbnail_size"):
            check_number(name, getattr(self, name), 1)
        check_number("seed", self.seed, 0)


class Builder:
    """Turns jobs (image, view) into rows.

    Args:
        adapter: of the detector, ready for inference.
        dataset: the images.
        settings: sizes and the like.
        labels: category id by the detector's label.

    Attributes:
        not_finite: boxes with NaN or infinity that the detector gave, and that were dropped.
        clips: the images are frames of clips.
        schema: of the rows.
    """

    def __init__(self, adapter: HostAdapter[Any], dataset: Dataset, settings: ProfileSettings, labels: dict[int, int]):
        self.adapter = adapter
        self.dataset = dataset
        self.records = dataset.records
        self.settings = settings
        self.category_of = labels
        self.not_finite = 0
        self.label_of = {category: label for label, category in labels.items()}
        described = {
            "high": settings.high,
            "scale": settings.scale,
            "between": settings.between,
            "host_sizes": settings.host_sizes,
            "clips": dataset.clips,
        }
        self.clips = dataset.clips
        self.between, self.own = routed_passes(described)[1:-1], host_passes(described)[1:]
        self.schema = schema_of(described)

    def plan_of(self, job: Job) -> ViewPlan:
        """How the view is made."""
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
        with half_passes(settings.half, adapter.detector):
            high, loss_high = adapter.profile_pass(batch, self.dataset.labelled)
            low, loss_low = adapter.profile_pass(low_batch, self.dataset.labelled)
            further = self._further(batch, images)
        shape = adapter.input_shape(images[0].shape[:2], settings.high)
        low_shape = adapter.low_shape(shape, settings.scale)
        gmacs = adapter.macs(low_shape, low=True), adapter.macs(shape)
        thumbs = make_thumbnails(router_images_of(images), settings.thumbnail_size)
        pixels = (thumbs * 255).round().byte().numpy()
        return [
            row_of(
                self.records[job.record].id,
                job.view,
                _full_name(self.records[job.record].path),
                (view.pixels.shape[0], view.pixels.shape[1]),
                view,
                (self._to_categories(low[i]), self._to_categories(high[i])),
                (_item(loss_low, i), _item(loss_high, i)),
                gmacs,
                pixels[i],
                {name: results[i] for name, results in further.items()},
                (self.records[job.record].clip, self.records[job.record].frame) if self.clips else None,
            )
            for i, (job, view) in enumerate(items)
        ]

    def _further(self, batch: Any, images: Sequence[np.ndarray]) -> dict[str, list[tuple[Detections, float]]]:
        """Detections and GMACs of each image at the sizes in between, and by the host's own passes."""
        adapter, high = self.adapter, self.settings.high
        shape = adapter.input_shape(images[0].shape[:2], high)
        everything = torch.arange(len(images))
        found: dict[str, list[tuple[Detections, float]]] = {}
        for step in self.between:
            scale = step.size / high
            results, _ = adapter.profile_pass(adapter.resize(batch, everything, scale), False)
            spent = adapter.macs(adapter.low_shape(shape, scale), low=True)
            found[step.name] = [(self._to_categories(result), spent) for result in results]
        for step in self.own:
            found[step.name] = self._by_host(images, step.size)
        return found

    def _by_host(self, images: Sequence[np.ndarray], size: int) -> list[tuple[Detections, float]]:
        """As the host itself runs at `size`: images that share a shape at high may not share one here."""
        shapes = [self.adapter.input_shape(image.shape[:2], size) for image in images]
        found: dict[int, tuple[Detections, float]] = {}
        for shape in dict.fromkeys(shapes):
            index = [i for i, other in enumerate(shapes) if other == shape]
            results, _ = self.adapter.profile_pass(self.adapter.collate([images[i] for i in index], size), False)
            for i, result in zip(index, results):
                found[i] = self._to_categories(result), self.adapter.macs(shape)
        return [found[i] for i in range(len(images))]

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


def _full_name(file: ImageFile) -> str:
    return str(file.resolve() if isinstance(file, Path) else file)


def _item(losses: torch.Tensor | None, i: int) -> float | None:
    """None where there is none; a loss that is not finite says nothing either."""
    return None if losses is None or not losses[i].isfinite() else float(losses[i])
