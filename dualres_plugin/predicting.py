"""`dualres predict`: a routed detector over any source, host-agnostic, with flat memory."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dualres_plugin.adapter import HostAdapter, run_routed
from dualres_plugin.controller import BudgetController
from dualres_plugin.drawing import draw
from dualres_plugin.errors import DualResError
from dualres_plugin.files import atomic_write, make_dir
from dualres_plugin.images import VIDEO_SUFFIXES, SourceImage, expand_source, iter_source
from dualres_plugin.policy import Budget, rate_for_budget
from dualres_plugin.router import ResolutionRouter
from dualres_plugin.timing import measure_ms
from dualres_plugin.types import Decision, Detections, ImageDecision
from dualres_plugin.wrapper import Gate

logger = logging.getLogger("dualres")
TIMED_IMAGES = 8


@dataclass(frozen=True)
class Prediction:
    """One image, what was found, and the route it took."""

    image: SourceImage
    found: Detections
    route: ImageDecision


@dataclass
class Summary:
    """What a run of predict did."""

    out: Path
    images: int = 0
    high: int = 0
    left_out: int = 0

    def __str__(self) -> str:
        share = self.high / self.images if self.images else 0.0
        text = f"{self.images} images, {self.high} at high ({share:.1%}); results in {self.out}"
        return text + (f"; {self.left_out} unreadable files left out" if self.left_out else "")


class Predictor:
    """Runs a routed detector over images and answers in pixels of the originals.

    Args:
        adapter: of the frozen detector.
        router, threshold: decide each route.
        size, scale: high size and low / high ratio.
        batch: images per pass; images of one shape share a pass.
        controller: holds the rate on a drifting stream.
    """

    def __init__(
        self,
        adapter: HostAdapter[Any],
        router: ResolutionRouter,
        threshold: float,
        size: int,
        scale: float,
        batch: int = 1,
        controller: BudgetController | None = None,
    ):
        self.adapter = adapter.for_inference()
        self.gate = Gate(router, threshold, controller)
        self.size = size
        self.scale = scale
        self.batch = batch

    def stream(
        self, images: Iterator[SourceImage], on_skip: Callable[[str], None] | None = None
    ) -> Iterator[Prediction]:
        """Predictions in the order of the images; memory does not grow with their number.

        Args:
            on_skip: told of each image that the host rejects, which is then left out; without it the error is raised.
        """
        pending: list[SourceImage] = []
        for image in images:
            if pending and (len(pending) == self.batch or not self._same_shape(pending[0], image)):
                yield from self._run(pending, on_skip)
                pending = []
            pending.append(image)
        if pending:
            yield from self._run(pending, on_skip)

    def _same_shape(self, a: SourceImage, b: SourceImage) -> bool:
        shapes = (self.adapter.input_shape(i.pixels.shape[:2], self.size) for i in (a, b))
        return len(set(shapes)) == 1

    def _run(self, images: list[SourceImage], on_skip: Callable[[str], None] | None) -> list[Prediction]:
        try:
            return self._predict(images)
        except DualResError:
            raise
        except Exception as error:
            if on_skip is None:
                raise
            if len(images) > 1:  # a single odd image costs only itself
                return [p for image in images for p in self._run([image], on_skip)]
            on_skip(f"'{images[0].name}': the {self.adapter.name} host rejects it ({error})")
            return []

    def _predict(self, images: list[SourceImage]) -> list[Prediction]:
        batch = self.adapter.collate([image.pixels for image in images], self.size)
        decisions: list[Decision] = []
        raw = run_routed(self.adapter, batch, self.gate, self.scale, decisions.append)
        found = self.adapter.detections(raw, batch)
        return [Prediction(image, f, decisions[0].of(i)) for i, (image, f) in enumerate(zip(images, found))]


def choose_threshold(
    router: ResolutionRouter, adapter: HostAdapter[Any], size: int, scale: float, source: Any, budget: Budget
) -> float:
    """The threshold of a budget; 50 % at high by default.

    A budget in GMACs is turned into a rate with the cost of the source's first readable image, one in milliseconds
    with times measured on its first few.
    """
    if budget.threshold is not None:
        return budget.threshold
    rate = 0.5 if budget.target_high_rate is None else budget.target_high_rate
    if budget.gmacs is not None:
        shape = adapter.input_shape(_first_images(source, 1)[0].shape[:2], size)
        low = adapter.macs(adapter.low_shape(shape, scale), low=True)
        rate = rate_for_budget(budget.gmacs, router.gmacs(), low, adapter.macs(shape))
    if budget.ms is not None:
        times = measure_ms(adapter.for_inference(), router, _first_images(source, TIMED_IMAGES), size, scale)
        rate = rate_for_budget(budget.ms, times["t_router"], times["t_low"], times["t_high"], "ms")
        logger.info(
            "measured: router %.1f, low %.1f, high %.1f ms, so %.0f %% of the images may go high",
            *times.values(),
            100 * rate,
        )
    return router.threshold_for(rate)


def _first_images(source: Any, count: int) -> list[np.ndarray]:
    images = [image.pixels for image in islice(iter_source(source, on_skip=lambda message: None), count)]
    if not images:
        raise DualResError(f"source '{source}' holds no readable image.")
    return images


def save_predictions(
    predictor: Predictor, source: str, out: Path, conf: float, save: bool, echo: Callable[[str], None]
) -> Summary:
    """Run over a source; write drawn images (or a video), `detections.json` (COCO results) and `routes.csv`."""
    make_dir(out)
    summary = Summary(out)

    def skip(message: str) -> None:
        summary.left_out += 1
        logger.warning("left out: %s", message)

    paths = expand_source(source)
    videos = [p for p in paths if p.suffix.lower() in VIDEO_SUFFIXES]
    _check_output(paths, videos, out)
    numbered = len({int(p.stem) for p in paths if p.stem.isdigit()}) == len(paths)
    drawn = _Names()
    results: list[dict[str, Any]] = []
    names = predictor.adapter.class_names
    with ExitStack() as stack:
        table = csv.writer(
            stack.enter_context(stack.enter_context(atomic_write(out / "routes.csv")).open("w", newline=""))
        )
        table.writerow(["file", "route", "score"])
        writer = stack.enter_context(_Video(out / videos[0].name)) if videos and save else None
        total = None if videos else len(paths)
        bar = stack.enter_context(tqdm(total=total, unit="img", desc="predict", dynamic_ncols=True))
        for p in predictor.stream(iter_source(source, skip), skip):
            summary.images += 1
            summary.high += p.route.route == "high"
            bar.update()
            table.writerow([p.image.name, p.route.route, f"{p.route.score:.5f}"])
            # COCO names its files by image id; other files are numbered.
            image_id = int(Path(p.image.name).stem) if numbered else summary.images
            results += _coco(p, image_id, conf, names)
            caption = str(p.route)
            if writer:
                caption += f"  high so far {summary.high / summary.images:.0%}"
                writer.write(np.asarray(draw(p.image.pixels, p.found, names, caption, conf)))
            else:
                bar.write(f"{p.image.name}: {p.route}, {int((p.found.scores >= conf).sum())} objects")
                if save:
                    with atomic_write(out / drawn.of(p.image.name)) as temporary:
                        draw(p.image.pixels, p.found, names, caption, conf).save(temporary, quality=90)
    with atomic_write(out / "detections.json") as temporary:
        temporary.write_text(json.dumps(results))
    return summary


def _check_output(paths: list[Path], videos: list[Path], out: Path) -> None:
    if videos and len(paths) > 1:
        raise DualResError(f"'{videos[0]}' is one of {len(paths)} files: a video has to be the only source.")
    if any(path.resolve().parent == out.resolve() for path in paths):
        raise DualResError(f"the source lies in '{out}', so drawings would replace photos: choose another --out.")


class _Names:
    """File names of drawings: `a.png` and `a.jpg`, or two folders' `1.jpg`, must not share one."""

    def __init__(self) -> None:
        self.used: set[str] = set()

    def of(self, name: str) -> str:
        stem, number = Path(name).stem, 1
        made = f"{stem}.jpg"
        while made in self.used:
            number += 1
            made = f"{stem}_{number}.jpg"
        self.used.add(made)
        return made


def _coco(p: Prediction, image_id: int, conf: float, names: dict[int, str] | None) -> list[dict[str, Any]]:
    rows = []
    for box, score, label in zip(p.found.boxes.tolist(), p.found.scores.tolist(), p.found.labels.tolist()):
        if score >= conf:
            x0, y0, x1, y1 = box
            row = {"image_id": image_id, "file_name": p.image.name, "category_id": label, "score": round(score, 5)}
            row["bbox"] = [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)]
            row["category_name"] = (names or {}).get(label, str(label))
            rows.append(row)
    return rows


class _Video:
    """Writes frames to an .mp4; the size is that of the first frame."""

    def __init__(self, path: Path):
        self.path = path.with_suffix(".mp4")
        self.writer: Any = None

    def __enter__(self) -> _Video:
        return self

    def write(self, frame: np.ndarray) -> None:
        import cv2

        if self.writer is None:
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self.writer = cv2.VideoWriter(str(self.path), code, 25.0, (frame.shape[1], frame.shape[0]))
        self.writer.write(np.ascontiguousarray(frame[..., ::-1]))

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            self.writer.release()
