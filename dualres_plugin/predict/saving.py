"""What `dualres predict` leaves behind: drawings or a video, detections, routes, label files and a contact sheet.

Everything is written while the images come in, so that a long stream needs no more memory than a short one, and
whatever stops it loses nothing: the tables are made from the journal of what is done.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from dualres_plugin.budget.pace import pace_of
from dualres_plugin.common.drawing import draw
from dualres_plugin.common.errors import DualResError, check_number, one_line
from dualres_plugin.common.files.atomic import atomic_write
from dualres_plugin.common.files.lock import locked
from dualres_plugin.common.files.shard import Shard
from dualres_plugin.common.images.ahead import read_ahead
from dualres_plugin.common.images.blobs import ImageFile
from dualres_plugin.common.images.decode import UnreadableImageError, read_image
from dualres_plugin.common.images.photo import SourceImage
from dualres_plugin.common.images.sources import expand_source, iter_source, local_file
from dualres_plugin.common.images.video import VIDEO_SUFFIXES, video_rate
from dualres_plugin.predict.coco_results import Ids, choose_ids
from dualres_plugin.predict.contact_sheet import ContactSheet
from dualres_plugin.predict.exported import ExportedPredictor
from dualres_plugin.predict.journal import Journal, Record
from dualres_plugin.predict.outputs import (
    DETECTIONS,
    PAGE,
    ROUTES,
    SHEET,
    TIMELINE,
    Names,
    label_lines,
    refuse_foreign,
    refuse_own_source,
    write_tables,
    written_before,
)
from dualres_plugin.predict.predictor import Prediction, Predictor
from dualres_plugin.predict.summary import Summary
from dualres_plugin.predict.timeline import Timeline
from dualres_plugin.predict.video import Video, video_at

logger = logging.getLogger("dualres")


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


def save_predictions(
    predictor: Predictor | ExportedPredictor,
    source: str,
    out: Path,
    outputs: Outputs | None = None,
    settings: dict[str, Any] | None = None,
    shard: Shard | None = None,
    workers: int = 0,
) -> Summary:
    """Run over a source and write what `outputs` asks for.

    Whatever stops a run, the tables hold what was done by then, and the same call goes on from there; a video begins
    anew. A file that predict did not write is never replaced.

    Args:
        predictor: a detector with its router, or an exported model.
        source: path, folder, glob, list file (.txt), .tar shards, URL or video.
        out: folder of the results.
        outputs: what is written besides `detections.json` and `routes.csv`; None is the drawings.
        settings: what else the predictions depend on; an unfinished run goes on with equal ones alone. None asks the
            predictor.
        shard: do only this share of the images; others do theirs into folders of their own.
        workers: threads that read photos ahead of the detector; 0 reads each when its turn comes.

    Returns:
        Counts of images and routes, those of an unfinished run among them.

    Raises:
        DualResError: If the source or the output folder cannot be used, not one image can be read, another process
            writes to the folder, it holds an unfinished run with other settings, or the disk is full.
    """
    wanted = outputs or Outputs()
    check_number("conf", wanted.conf, 0, 1)
    paths = expand_source(source)
    video = _video_of(paths)
    paths = _share(paths, shard, video)
    refuse_own_source(paths, out)
    ids = choose_ids(paths, predictor.adapter, wanted.ids)
    asked = predictor.settings() if settings is None else settings
    with locked(out), ExitStack() as stack:
        run = _Run(predictor, paths, out, wanted, ids, {**asked, "source": source, **_plain(wanted), **_told(shard)})
        run.open(stack, video)
        try:
            run.go(iter_source(source) if video else None, workers)
        except BaseException:
            run.save_what_is_done()
            raise
        run.finish()
    return run.summary


def _told(shard: Shard | None) -> dict[str, Any]:
    return {} if shard is None else {"shard": str(shard)}


def _plain(wanted: Outputs) -> dict[str, Any]:
    return {**asdict(wanted), "ids": None if wanted.ids is None else str(wanted.ids)}


def _share(paths: list[ImageFile], shard: Shard | None, video: Path | None) -> list[ImageFile]:
    if shard is None:
        return paths
    if video is not None:
        raise DualResError(f"'{video}' is one video: --shard shares out images.")
    if len(paths) < shard.number:
        raise DualResError(f"there is nothing to do for shard {shard} of {len(paths)} images.")
    return [paths[i] for i in shard.of(len(paths))]


def _video_of(paths: list[ImageFile]) -> Path | None:
    videos = [p for p in paths if p.suffix.lower() in VIDEO_SUFFIXES]
    if videos and len(paths) > 1:
        raise DualResError(f"'{videos[0]}' is one of {len(paths)} files: a video has to be the only source.")
    return local_file(videos[0]) if videos else None


class _Run:
    """One run: writes each prediction as it comes, after what an unfinished one has done."""

    def __init__(
        self,
        predictor: Predictor | ExportedPredictor,
        paths: list[ImageFile],
        out: Path,
        wanted: Outputs,
        ids: Ids,
        settings: dict[str, Any],
    ):
        self.predictor = predictor
        self.names = predictor.adapter.class_names
        self.paths = paths
        self.sources: dict[str, ImageFile] = {str(path): path for path in paths} if wanted.routes else {}
        self.out = out
        self.wanted = wanted
        self.ids = ids
        self.summary = Summary(out, predictor.expected_shares, predictor.held)
        self.journal = Journal(out, settings)
        self.sheet = ContactSheet(least_score=wanted.conf) if wanted.routes else None
        self.done: Counter[str] = Counter()
        self.video: Video | None = None
        self.timeline: Timeline | None = None
        self.is_video = False

    # -- the way in ------------------------------------------------------------------------------------------------

    def open(self, stack: ExitStack, video: Path | None) -> None:
        """Take up an unfinished run, or begin one.

        Args:
            stack: closes what is opened.
            video: the source, if it is one.
        """
        self.is_video = video is not None
        own = (
            written_before(self.out)
            | self.journal.files()
            | ({ROUTES, DETECTIONS, SHEET, TIMELINE, PAGE} if self.journal.begun else set())
        )
        drawn = (self.out / video.name).with_suffix(".mp4") if video is not None and self.wanted.drawings else None
        fixed = [ROUTES, DETECTIONS, *([SHEET] if self.sheet else []), *(["labels"] if self.wanted.text else [])]
        refuse_foreign(self.out, [*fixed, *([drawn.name, TIMELINE, PAGE] if drawn else [])], own)
        stems = {Path(SHEET).stem} if self.sheet else set()
        if self.is_video or not self.journal.begun:
            self.journal.open(own, anew=True)
        else:
            self.journal.open(own, anew=False)
            stems |= self._take_up()
        self.files = Names(self.out, own, stems)
        if drawn is not None and video is not None:
            self.journal.announce(drawn.name)
            rate = video_rate(video)
            self.video = stack.enter_context(video_at(drawn, rate))
            self.timeline = Timeline.of(self.predictor, rate)

    def _take_up(self) -> set[str]:
        """Count what an unfinished run has done; gives the stems of its files."""
        stems = set()
        for r in self.journal.records():
            self.done[r.source] += 1
            self.summary.count(r.route)
            self.predictor.replay(r.route.score)
            stems.add(Path(r.drawing or r.labels).stem)
            if self.sheet:
                self._show_again(self.sheet, r)
        logger.info("going on with an unfinished run: %d images are done", self.summary.images)
        return stems

    def _show_again(self, sheet: ContactSheet, r: Record) -> None:
        try:
            sheet.add(r.name, read_image(self.sources.get(r.source, r.source)), r.found, r.route)
        except UnreadableImageError as error:
            logger.warning("not on the contact sheet: %s", error)

    # -- the images ------------------------------------------------------------------------------------------------

    def go(self, frames: Iterator[SourceImage] | None, workers: int = 0) -> None:
        """Predict and write.

        Args:
            frames: of a video; None reads the photos that are not done.
            workers: threads that read these ahead.
        """
        skip = self.summary.skip if len(self.paths) > 1 or frames is not None else None
        images = read_ahead(self._left(), workers, skip) if frames is None else frames
        total = len(self.paths) if frames is None else None
        with tqdm(total=total, initial=self.summary.images, unit="img", desc="predict", dynamic_ncols=True) as bar:
            for p in self.predictor.stream(images, self.summary.reject):
                self.summary.count(p.route)
                bar.update()
                if frames is None:
                    objects = int((p.found.scores >= self.wanted.conf).sum())
                    bar.write(f"{one_line(p.image.name)}: {p.route}, {objects} objects")
                self._write(p)

    def _left(self) -> Iterator[ImageFile]:
        for path in self.paths:
            if self.done[str(path)]:
                self.done[str(path)] -= 1
            else:
                yield path

    def _write(self, p: Prediction) -> None:
        drawing = labels = ""
        if self.timeline is not None:
            self.timeline.add(p.route, p.image.pixels)
        if self.wanted.drawings or self.wanted.text:  # the frames of a video have names of their own
            stem = Path(p.image.name).stem if self.is_video else self.files.of(p.image.name)
            text = label_lines(p, self.wanted.conf, self.wanted.text_conf) if self.wanted.text else []
            drawing = self.video.path.name if self.video else f"{stem}.jpg" if self.wanted.drawings else ""
            labels = f"labels/{stem}.txt"
            self.journal.announce(*([] if self.video else [drawing]), labels)
            if self.wanted.drawings:
                self._draw(p, drawing)
            labels = self._write_labels(labels, text)
        if self.sheet:
            self.sheet.add(p.image.name, p.image.pixels, p.found, p.route)
        self.journal.add(Record.of(p, self.wanted.conf, drawing, labels))

    def _draw(self, p: Prediction, name: str) -> None:
        caption = str(p.route)
        if self.timeline is not None:
            size = f"{p.route.size} px   " if p.route.size else ""
            caption += f"   {size}{self.timeline.pixels:.0%} of the pixels   high so far {self.summary.share:.0%}"
        drawn = draw(p.image.pixels, p.found, self.names, caption, self.wanted.conf, p.route.step)
        if self.video:
            self.video.write(drawn)
            return
        with atomic_write(self.out / name) as temporary:
            drawn.save(temporary, quality=90)

    def _write_labels(self, name: str, lines: list[str]) -> str:
        """No file for an image without objects, as Ultralytics does it; gives the name of what is there."""
        if not self.wanted.text:
            return ""
        if not lines:
            (self.out / name).unlink(missing_ok=True)  # of an earlier run
            return ""
        with atomic_write(self.out / name) as temporary:
            temporary.write_text("\n".join(lines) + "\n")
        return name

    # -- the way out -----------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """The run is over.

        Raises:
            DualResError: If there was not one image, or the results cannot be written.
        """
        if not self.summary.images:
            self.journal.close(remove=True)
            problem = f"; the first problem: {self.summary.first_problem}" if self.summary.first_problem else ""
            raise DualResError(f"not one image of the source can be used{problem}")
        self._save()
        self.summary.pace = pace_of(self.predictor.controller)
        self.journal.close(remove=True)
        self.ids.tell()

    def save_what_is_done(self) -> None:
        """Something stopped the run: that is what people are told, whatever else fails here."""
        try:
            if self.summary.images:
                self._save()
        except Exception as error:
            logger.warning("the results so far are in '%s' alone: %s", self.journal.path, error)
        finally:
            self.journal.close(remove=not self.summary.images)

    def _save(self) -> None:
        if self.video:
            self.video.finish()
        if self.timeline is not None:
            self.timeline.save(self.out / TIMELINE)
            self.timeline.save_page(self.out / PAGE, str(self.paths[0].name))
        write_tables(self.out, self.journal.records(), self.ids, self.names)
        if self.sheet:
            self.sheet.save(self.out / SHEET)
            logger.info("contact sheet in %s: %s", self.out / SHEET, self.sheet)
