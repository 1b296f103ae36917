"""Detections as COCO results: ids of images and classes, and the rows."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from dualres_plugin.common.images.blobs import ImageFile
from dualres_plugin.common.types import Detections
from dualres_plugin.profile.data.coco_json import read_ids
from dualres_plugin.profile.data.dataset import match_categories

logger = logging.getLogger("dualres")
LONGEST_ID = 18  # digits that 64 bits hold


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
        self.of_image, categories = read_ids(path)
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


def choose_ids(paths: list[ImageFile], adapter: Classes, annotations: Path | None) -> Ids:
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
    stems = (Path(p.name).stem for p in paths)
    numbered = len({int(stem) for stem in stems if _is_id(stem)}) == len(paths)
    return NumberedIds() if numbered else Ids()


def _is_id(stem: str) -> bool:
    return stem.isascii() and stem.isdigit() and len(stem) <= LONGEST_ID


def coco_rows(name: str, found: Detections, ids: Ids, names: dict[int, str] | None) -> Iterator[dict[str, Any]]:
    """The detections of one image as COCO results, with file and class names beside the ids.

    Args:
        name: of the image's file.
        found: in it, in pixels.
        ids: give the image's and the classes' ids.
        names: label -> class name.

    Yields:
        One row per detection; `bbox` is x, y, width, height in pixels.
    """
    image_id = ids.image(name)
    if image_id is None:
        return
    for box, score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist()):
        category = ids.category(label)
        if category is not None:
            x0, y0, x1, y1 = box
            row = {"image_id": image_id, "file_name": name, "category_id": category, "score": round(score, 5)}
            row["bbox"] = [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)]
            row["category_name"] = (names or {}).get(label, str(label))
            yield row
