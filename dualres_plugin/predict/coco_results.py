"""Detections as COCO results: ids of images and classes, and a JSON list that is written as it grows."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import atomic_write, read_json
from dualres_plugin.predict.predictor import Prediction
from dualres_plugin.profile.dataset import match_categories

logger = logging.getLogger("dualres")


class Classes(Protocol):
    """What is asked of a detector here."""

    @property
    def class_names(self) -> dict[int, str] | None:
        """Label -> name, where it is known."""

    @property
    def label_ids(self) -> list[int] | None:
        """Labels in class order, where names are unknown."""


class Ids:
    """Image and category ids of COCO results."""

    images = 0  # images so far

    def image(self, name: str) -> int | None:
        """The id of an image by file name; None leaves its detections out."""
        return self.images

    def category(self, label: int) -> int | None:
        """The id of a class by the detector's label; None leaves the detection out."""
        return label

    def tell(self) -> None:
        """Say what had no id."""


class NumberedIds(Ids):
    """COCO names its files by image id."""

    def image(self, name: str) -> int | None:
        """The number that the file is named by."""
        return int(Path(name).stem)


class IdsOf(Ids):
    """The ids of a COCO annotation file, images by their file name and classes by their name."""

    def __init__(self, path: Path, adapter: Classes):
        coco = read_json(path, "annotation file")
        try:
            self.of_image = {Path(im["file_name"]).name: int(im["id"]) for im in coco["images"]}
            categories = {int(c["id"]): str(c["name"]) for c in coco["categories"]}
        except (TypeError, KeyError, ValueError) as error:
            raise DualResError(f"'{path}' is not a COCO annotation file: images or categories lack {error}.") from None
        self.path = path
        self.of_label, _ = match_categories(categories, adapter.class_names, adapter.label_ids)
        self.unknown_images = 0
        self.unknown_labels: set[int] = set()

    def image(self, name: str) -> int | None:
        """As the annotations have it."""
        number = self.of_image.get(name)
        self.unknown_images += number is None
        return number

    def category(self, label: int) -> int | None:
        """As the annotations have it."""
        if label not in self.of_label:
            self.unknown_labels.add(label)
        return self.of_label.get(label)

    def tell(self) -> None:
        """Warn of images and classes that the annotations do not list."""
        left_out = [f"{self.unknown_images} images"] if self.unknown_images else []
        left_out += [f"{len(self.unknown_labels)} classes"] if self.unknown_labels else []
        if left_out:
            text = "detections.json leaves out what is found in or of %s that '%s' does not list"
            logger.warning(text, " and ".join(left_out), self.path)


def choose_ids(paths: list[Path], adapter: Classes, annotations: Path | None) -> Ids:
    """Those of the annotations; else the numbers in the file names, if each file has its own; else 1, 2, 3 …

    Args:
        paths: the files of the source.
        adapter: knows the classes.
        annotations: a COCO file, or None.

    Raises:
        DualResError: If the annotations cannot be read, or share no class with the detector.
    """
    if annotations is not None:
        return IdsOf(annotations, adapter)
    numbered = len({int(p.stem) for p in paths if p.stem.isdigit()}) == len(paths)
    return NumberedIds() if numbered else Ids()


def coco_rows(p: Prediction, ids: Ids, conf: float, names: dict[int, str] | None) -> Iterator[dict[str, Any]]:
    """The detections of one image as COCO results, with file and class names beside the ids.

    Args:
        p: the image and what was found.
        ids: give the image's and the classes' ids.
        conf: detections below this score are left out.
        names: label -> class name.

    Yields:
        One row per detection; `bbox` is x, y, width, height in pixels.
    """
    image_id = ids.image(p.image.name)
    if image_id is None:
        return
    for box, score, label in zip(p.found.boxes.tolist(), p.found.scores.tolist(), p.found.labels.tolist()):
        category = ids.category(label) if score >= conf else None
        if category is not None:
            x0, y0, x1, y1 = box
            row = {"image_id": image_id, "file_name": p.image.name, "category_id": category, "score": round(score, 5)}
            row["bbox"] = [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)]
            row["category_name"] = (names or {}).get(label, str(label))
            yield row


@contextmanager
def json_rows(path: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Write a JSON list row by row, so that the rows of a long stream need not be kept.

    Args:
        path: of the file, which appears when the block ends well.

    Yields:
        A function that writes one row.
    """
    with atomic_write(path) as temporary, temporary.open("w") as file:
        file.write("[")
        yield _row_writer(file)
        file.write("]\n")


def _row_writer(file: TextIO) -> Callable[[dict[str, Any]], None]:
    between = ""

    def write(row: dict[str, Any]) -> None:
        nonlocal between
        file.write(between + json.dumps(row))
        between = ",\n"

    return write
