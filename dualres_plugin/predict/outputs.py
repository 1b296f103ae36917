"""The folder that predict writes to: which of its files may be replaced, names for new ones, and the tables."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import atomic_write
from dualres_plugin.common.files.csv import Writer, plain
from dualres_plugin.common.images.blobs import ImageFile
from dualres_plugin.predict.coco_results import Ids, coco_rows
from dualres_plugin.predict.journal import Record
from dualres_plugin.predict.predictor import Prediction

SHEET, ROUTES, DETECTIONS = "contact_sheet.jpg", "routes.csv", "detections.json"
TIMELINE, PAGE = "timeline.png", "timeline.html"  # of a video
COLUMNS = ["file", "route", "score", "drawing", "labels"]
LONGEST_NAME = 255  # bytes, of a file


def written_before(out: Path) -> set[str]:
    """Files that an earlier, finished run wrote, as its `routes.csv` lists them.

    Args:
        out: the folder.

    Returns:
        Names relative to it; none where there is no such table.
    """
    try:
        with (out / ROUTES).open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            if next(rows, [])[:3] != COLUMNS[:3]:
                return set()
            names = {plain(name) for row in rows for name in row[3:5] if name}
    except (OSError, ValueError, csv.Error):
        return set()
    return names | {ROUTES, DETECTIONS, SHEET, TIMELINE, PAGE}


def refuse_own_source(paths: Iterable[ImageFile], out: Path) -> None:
    """Stop where drawings would lie among the photos; a link counts both where it lies and where it leads to.

    Args:
        paths: of the source.
        out: the folder.

    Raises:
        DualResError: If one of them lies in it.
    """
    home = os.path.realpath(out)  # Path.resolve raises where a link leads to itself
    files = (path for path in paths if isinstance(path, Path))
    if any(home in (str(Path(os.path.realpath(path)).parent), os.path.realpath(path.parent)) for path in files):
        raise DualResError(f"the source lies in '{out}', so drawings would replace photos: choose another --out.")


def refuse_foreign(out: Path, wanted: Iterable[str], own: set[str]) -> None:
    """Stop before anything that predict did not write is replaced.

    Args:
        out: the folder.
        wanted: names that will be written; a folder stands for the text files in it.
        own: names that predict wrote.

    Raises:
        DualResError: If one of them is somebody else's.
    """
    for name in wanted:
        path = out / name
        inside = [f"{name}/{file.name}" for file in path.glob("*.txt")] if path.is_dir() else [name]
        for file in inside:
            if os.path.lexists(out / file) and file not in own:
                raise DualResError(f"'{out / file}' was not written by predict and stays: choose another --out.")


class Names:
    """Names of drawings: `a.png` and `a.jpg`, or two folders' `1.jpg`, must not share one, nor take a stranger's.

    Args:
        out: the folder of the drawings.
        own: names in it that may be replaced.
        used: stems that are taken.
    """

    def __init__(self, out: Path, own: set[str], used: set[str]):
        self.out = out
        self.own = own
        self.used = used

    def of(self, name: str) -> str:
        """A stem that is free, as near to the image's as can be.

        Args:
            name: of the image's file.
        """
        stem, number = Path(name).stem, 1
        made = _shortened(stem, "")
        while made in self.used or self._is_foreign(f"{made}.jpg"):
            number += 1
            made = _shortened(stem, f"_{number}")
        self.used.add(made)
        return made

    def _is_foreign(self, name: str) -> bool:
        return name not in self.own and os.path.lexists(self.out / name)


def _shortened(stem: str, end: str) -> str:
    """The stem with an end, cut so that a suffix of four bytes fits too."""
    most = LONGEST_NAME - len(".jpg") - len(end)
    return os.fsdecode(os.fsencode(stem)[:most]) + end


def label_lines(p: Prediction, least_score: float, with_score: bool) -> list[str]:
    """An image's objects in the format that Ultralytics trains on.

    Args:
        p: the image and what was found.
        least_score: detections below this are left out.
        with_score: each line ends with the detection's score.

    Returns:
        A line `class x y width height` per object, centre and size as shares of the image.
    """
    height, width = p.image.pixels.shape[:2]
    lines = []
    shares = np.clip(p.found.boxes / [width, height, width, height], 0, 1).tolist()
    for (x0, y0, x1, y1), score, label in zip(shares, p.found.scores.tolist(), p.found.labels.tolist()):
        if score >= least_score:
            values = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]
            values += [score] if with_score else []
            lines.append(" ".join([str(label), *(f"{v:.6f}" for v in values)]))
    return lines


def write_tables(out: Path, records: Iterable[Record], ids: Ids, names: dict[int, str] | None) -> None:
    """Write `routes.csv` and `detections.json`; both are complete before the first takes its name.

    Args:
        out: the folder.
        records: of every image; read once, one at a time.
        ids: of images and classes.
        names: label -> class name.

    Raises:
        DualResError: If they cannot be written.
    """
    with (
        atomic_write(out / ROUTES) as routes,
        atomic_write(out / DETECTIONS) as found,
        routes.open("w", newline="", encoding="utf-8", errors="backslashreplace") as table_file,
        found.open("w", encoding="utf-8") as list_file,
    ):
        table = Writer(table_file)
        table.writerow(COLUMNS)
        between = "["
        for number, r in enumerate(records, 1):
            table.writerow([r.name, r.route.route, f"{r.route.score:.5f}", r.drawing, r.labels])
            ids.images = number
            for row in coco_rows(r.name, r.found, ids, names):
                list_file.write(between + json.dumps(row))
                between = ",\n"
        list_file.write("[]\n" if between == "[" else "]\n")
