"""What `dualres predict` leaves behind: drawings or a video, detections, routes, label files and a contact sheet.

Everything is written while the images come in, so that a long stream needs no more memory than a short one.
"""

from __future__ import annotations

import csv
import logging
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from dualres_plugin.common.drawing import draw
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import atomic_write, make_dir
from dualres_plugin.common.images import VIDEO_SUFFIXES, expand_source, iter_source, video_rate
from dualres_plugin.predict.coco_results import Ids, choose_ids, coco_rows, json_rows
from dualres_plugin.predict.contact_sheet import ContactSheet
from dualres_plugin.predict.exported import ExportedPredictor
from dualres_plugin.predict.predictor import Prediction, Predictor

logger = logging.getLogger("dualres")
SHEET = "contact_sheet.jpg"


@dataclass(frozen=True)
class Outputs:
    """What is written besides `detections.json` and `routes.csv`.

    Attributes:
        conf: detections below this score are neither drawn nor listed.
        drawings: the images with boxes and route, or a video.
        routes: `contact_sheet.jpg`, thumbnails sorted by score.
        text: `labels/NAME.txt`, a line `class x y width height` per object, centre and size as shares of the image.
        text_conf: adds the detection's score to each of these lines.
        ids: COCO annotations whose image and category ids `detections.json` uses.
    """

    conf: float = 0.25
    drawings: bool = True
    routes: bool = False
    text: bool = False
    text_conf: bool = False
    ids: Path | None = None


@dataclass
class Summary:
    """What a run of predict did."""

    out: Path
    images: int = 0
    high: int = 0
    left_out: int = 0

    @property
    def share(self) -> float:
        """Share of the images so far that went high."""
        return self.high / self.images if self.images else 0.0

    def __str__(self) -> str:
        text = f"{self.images} images, {self.high} at high ({self.share:.1%}); results in {self.out}"
        return text + (f"; {self.left_out} unreadable files left out" if self.left_out else "")


def save_predictions(
    predictor: Predictor | ExportedPredictor, source: str, out: Path, outputs: Outputs | None = None
) -> Summary:
    """Run over a source and write what `outputs` asks for.

    Args:
        predictor: a detector with its router, or an exported model.
        source: path, folder, glob, list file (.txt) or video.
        out: folder of the results.
        outputs: what is written besides `detections.json` and `routes.csv`; None is the drawings.

    Returns:
        Counts of images and routes.

    Raises:
        DualResError: If the source or the output folder cannot be used.
    """
    wanted = outputs or Outputs()
    make_dir(out)
    summary = Summary(out)

    def skip(message: str) -> None:
        summary.left_out += 1
        logger.warning("left out: %s", message)

    paths = expand_source(source)
    videos = [p for p in paths if p.suffix.lower() in VIDEO_SUFFIXES]
    _check_output(paths, videos, out)
    video = videos[0] if videos else None
    writer = _Writer(predictor, out, wanted, choose_ids(paths, predictor.adapter, wanted.ids))
    with ExitStack() as stack:
        writer.open(stack, video)
        total = None if video else len(paths)
        bar = stack.enter_context(tqdm(total=total, unit="img", desc="predict", dynamic_ncols=True))
        for p in predictor.stream(iter_source(source, skip), skip):
            summary.images += 1
            summary.high += p.route.route == "high"
            bar.update()
            if not video:
                bar.write(f"{p.image.name}: {p.route}, {int((p.found.scores >= wanted.conf).sum())} objects")
            writer.write(p, summary)
    writer.close()
    return summary


def _check_output(paths: list[Path], videos: list[Path], out: Path) -> None:
    if videos and len(paths) > 1:
        raise DualResError(f"'{videos[0]}' is one of {len(paths)} files: a video has to be the only source.")
    if any(path.resolve().parent == out.resolve() for path in paths):
        raise DualResError(f"the source lies in '{out}', so drawings would replace photos: choose another --out.")


class _Writer:
    """Writes each prediction as it comes."""

    def __init__(self, predictor: Predictor | ExportedPredictor, out: Path, wanted: Outputs, ids: Ids):
        self.names = predictor.adapter.class_names
        self.out = out
        self.wanted = wanted
        self.ids = ids
        self.sheet = ContactSheet(least_score=wanted.conf) if wanted.routes else None
        self.files = _Names({Path(SHEET).stem} if wanted.routes else set())
        self.video: _Video | None = None
        self.numbered = False  # the frames of a video have names of their own

    def open(self, stack: ExitStack, video: Path | None) -> None:
        file = stack.enter_context(stack.enter_context(atomic_write(self.out / "routes.csv")).open("w", newline=""))
        self.table = csv.writer(file)
        self.table.writerow(["file", "route", "score"])
        self.rows = stack.enter_context(json_rows(self.out / "detections.json"))
        self.numbered = video is not None
        if video is not None and self.wanted.drawings:
            self.video = stack.enter_context(_Video((self.out / video.name).with_suffix(".mp4"), video_rate(video)))

    def write(self, p: Prediction, so_far: Summary) -> None:
        self.table.writerow([p.image.name, p.route.route, f"{p.route.score:.5f}"])
        self.ids.images = so_far.images
        for row in coco_rows(p, self.ids, self.wanted.conf, self.names):
            self.rows(row)
        if self.wanted.drawings or self.wanted.text:
            stem = Path(p.image.name).stem if self.numbered else self.files.of(p.image.name)
            if self.wanted.drawings:
                self._draw(p, so_far, stem)
            if self.wanted.text:
                self._write_labels(p, stem)
        if self.sheet:
            self.sheet.add(p.image.name, p.image.pixels, p.found, p.route)

    def _draw(self, p: Prediction, so_far: Summary, stem: str) -> None:
        caption = f"{p.route}   high so far {so_far.share:.0%}" if self.video else str(p.route)
        drawn = draw(p.image.pixels, p.found, self.names, caption, self.wanted.conf, p.route.route)
        if self.video:
            self.video.write(drawn)
            return
        with atomic_write(self.out / f"{stem}.jpg") as temporary:
            drawn.save(temporary, quality=90)

    def _write_labels(self, p: Prediction, stem: str) -> None:
        """The format that Ultralytics trains on; no file for an image without objects, as Ultralytics does it."""
        height, width = p.image.pixels.shape[:2]
        lines = []
        shares = np.clip(p.found.boxes / [width, height, width, height], 0, 1).tolist()
        for (x0, y0, x1, y1), score, label in zip(shares, p.found.scores.tolist(), p.found.labels.tolist()):
            if score >= self.wanted.conf:
                values = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]
                values += [score] if self.wanted.text_conf else []
                lines.append(" ".join([str(label), *(f"{v:.6f}" for v in values)]))
        path = self.out / "labels" / f"{stem}.txt"
        if lines:
            with atomic_write(path) as temporary:
                temporary.write_text("\n".join(lines) + "\n")
        else:
            path.unlink(missing_ok=True)  # of an earlier run

    def close(self) -> None:
        if self.sheet:
            self.sheet.save(self.out / SHEET)
            logger.info("contact sheet in %s: %s", self.out / SHEET, self.sheet)
        self.ids.tell()


class _Names:
    """File names of drawings: `a.png` and `a.jpg`, or two folders' `1.jpg`, must not share one."""

    def __init__(self, used: set[str]) -> None:
        self.used = used

    def of(self, name: str) -> str:
        stem, number = Path(name).stem, 1
        made = stem
        while made in self.used:
            number += 1
            made = f"{stem}_{number}"
        self.used.add(made)
        return made


class _Video:
    """Writes frames to an .mp4; the size is that of the first frame."""

    def __init__(self, path: Path, rate: float):
        self.path = path
        self.rate = rate
        self.writer: Any = None

    def __enter__(self) -> _Video:
        return self

    def write(self, frame: Image.Image) -> None:
        import cv2

        if self.writer is None:
            self.writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*"mp4v"), self.rate, frame.size)
        self.writer.write(np.ascontiguousarray(np.asarray(frame)[..., ::-1]))

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            self.writer.release()
