"""Reading labelled and unlabelled image sets: COCO JSON, an Ultralytics `data.yaml`, or a plain folder."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import read_json
from dualres_plugin.common.images import IMAGE_SUFFIXES, UnreadableImageError, image_size, list_images


class LabelledBox(NamedTuple):
    """One object of an image as it was read.

    Attributes:
        x0: left edge in pixels.
        y0: upper edge.
        x1: right edge.
        y1: lower edge.
        category: the dataset's category id.
        ignore: COCO's `iscrowd`.
        area: of the object in square pixels.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    category: int
    ignore: bool
    area: float


@dataclass(frozen=True)
class ImageRecord:
    """One image of a dataset and its ground truth.

    Attributes:
        id: the dataset's own image id.
        path: the file.
        size: (height, width) that the boxes refer to.
        boxes: (N, 4) float32 xyxy in pixels.
        categories: (N,) int64, the dataset's category ids.
        ignore: (N,) bool, COCO's `iscrowd`.
        area: (N,) float32 object areas in pixels, for AP by size.
    """

    id: int
    path: Path
    size: tuple[int, int]
    boxes: np.ndarray
    categories: np.ndarray
    ignore: np.ndarray
    area: np.ndarray


@dataclass
class Dataset:
    """Records plus what was left out while reading them.

    Attributes:
        name: for people.
        records: the usable images.
        categories: name by category id; empty without labels.
        labelled: False for a plain folder.
        dropped: how often each kind of bad entry was left out.
        examples: the first of each kind.
    """

    name: str
    records: list[ImageRecord]
    categories: dict[int, str] = field(default_factory=dict)
    labelled: bool = True
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def drop(self, kind: str, example: str) -> None:
        """Count something that is left out.

        Args:
            kind: of entry, in words.
            example: where this one stands.
        """
        self.dropped[kind] += 1
        self.examples.setdefault(kind, example)

    def warnings(self) -> list[str]:
        """What was left out.

        Returns:
            A line for each kind of entry.
        """
        return [f"{n} {kind} left out (first: {self.examples[kind]})" for kind, n in self.dropped.items()]


def load_dataset(data: Path | str | None, images: Path | str | None = None, split: str = "train") -> Dataset:
    """Read a dataset.

    Args:
        data: COCO annotations (.json), an Ultralytics `data.yaml`, or None for unlabelled images.
        images: the image folder; not used with a `data.yaml`.
        split: which split of a `data.yaml`.

    Returns:
        At least one image; labelled unless `data` is None.

    Raises:
        DualResError: If something is missing or malformed, or no image is left.
    """
    if data is None:
        if images is None:
            raise DualResError("give --data (annotations or data.yaml) or --images (a folder), or both.")
        dataset = _from_folder(Path(images))
    elif Path(data).suffix.lower() in (".yaml", ".yml"):
        dataset = _from_yolo(Path(data), split)
    else:
        if images is None:
            raise DualResError(f"COCO annotations '{data}' need the image folder too: add --images DIR.")
        dataset = _from_coco(Path(data), Path(images))
    if not dataset.records:
        raise DualResError(f"no usable image in '{data or images}': {'; '.join(dataset.warnings()) or 'it is empty'}.")
    return dataset


def _from_folder(folder: Path) -> Dataset:
    dataset = Dataset(folder.name, [], labelled=False)
    for i, path in enumerate(list_images(folder)):
        _add(dataset, i + 1, path, None, [])
    return dataset


def _from_coco(annotations: Path, folder: Path) -> Dataset:
    coco = read_json(annotations, "annotation file")
    if not isinstance(coco, dict) or not {"images", "annotations", "categories"} <= coco.keys():
        raise DualResError(
            f"'{annotations}' is not a COCO annotation file: it needs 'images', 'annotations' and 'categories'."
        )
    if not folder.is_dir():
        raise DualResError(f"image folder '{folder}' does not exist.")
    dataset = Dataset(annotations.stem, [])
    try:
        dataset.categories = {int(c["id"]): str(c["name"]) for c in coco["categories"]}
        entries: dict[int, Any] = {}
        for im in coco["images"]:
            if int(im["id"]) in entries:
                dataset.drop("images with an id that was used before", im["file_name"])
            else:
                entries[int(im["id"])] = im
        by_image: dict[int, list[LabelledBox]] = {i: [] for i in entries}
        for a in coco["annotations"]:
            box = _coco_box(dataset, a, entries)
            if box is not None:
                by_image[int(a["image_id"])].append(box)
        for i, im in sorted(entries.items()):
            size = (int(im["height"]), int(im["width"])) if "height" in im and "width" in im else None
            _add(dataset, i, folder / im["file_name"], size, by_image[i])
    except KeyError as error:
        raise DualResError(f"'{annotations}' is not a valid COCO annotation file: {error} is missing.") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise DualResError(f"'{annotations}' is not a valid COCO annotation file: {error}.") from None
    return dataset


def _coco_box(dataset: Dataset, a: dict[str, Any], entries: dict[int, Any]) -> LabelledBox | None:
    where = f"annotation {a.get('id', '?')}"
    if int(a["image_id"]) not in entries:
        dataset.drop("annotations of images that the file does not list", where)
    elif int(a["category_id"]) not in dataset.categories:
        dataset.drop("annotations of unknown categories", where)
    elif len(a["bbox"]) != 4 or not np.isfinite(a["bbox"]).all() or min(a["bbox"][2:]) <= 0:
        dataset.drop("boxes with zero or negative size", where)
    else:
        x, y, w, h = map(float, a["bbox"])
        crowd, area = bool(a.get("iscrowd", 0)), float(a.get("area", w * h))
        return LabelledBox(x, y, x + w, y + h, int(a["category_id"]), crowd, area)
    return None


def _from_yolo(path: Path, split: str) -> Dataset:
    try:
        config = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise DualResError(f"data file '{path}' does not exist.") from None
    except yaml.YAMLError as error:
        raise DualResError(f"'{path}' is not valid YAML: {error}") from None
    if not isinstance(config, dict) or "names" not in config or not config.get(split):
        raise DualResError(f"'{path}' is not an Ultralytics data file with 'names' and a '{split}' split.")
    try:
        names = config["names"]
        listed = enumerate(names) if isinstance(names, list) else names.items()
        categories = {int(number): str(name) for number, name in listed}
    except (AttributeError, TypeError, ValueError):
        raise DualResError(f"'names' of '{path}' must be a list, or a mapping from numbers to names.") from None
    root = Path(config.get("path") or path.parent)
    root = root if root.is_absolute() else path.parent / root
    dataset = Dataset(f"{path.stem}:{split}", [], categories)
    for i, image in enumerate(_yolo_images(root, config[split])):
        try:
            size = image_size(image)
        except UnreadableImageError as error:
            dataset.drop("unreadable images", str(error))
            continue
        _add(dataset, i + 1, image, size, _yolo_boxes(dataset, image, size))
    return dataset


def _yolo_images(root: Path, entry: str | list[str]) -> list[Path]:
    found: list[Path] = []
    for item in entry if isinstance(entry, list) else [entry]:
        path = root / str(item)
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        elif path.suffix == ".txt" and path.is_file():
            found += [path.parent / line.strip() for line in path.read_text().splitlines() if line.strip()]
        else:
            raise DualResError(f"image folder '{path}' of the data file does not exist.")
    return found


def _yolo_boxes(dataset: Dataset, image: Path, size: tuple[int, int]) -> list[LabelledBox]:
    # The host's own rule: the last `/images/` of the path becomes `/labels/`.
    head, sep, tail = str(image).rpartition("/images/")
    label = Path(f"{head}/labels/{tail}" if sep else image).with_suffix(".txt")
    if not label.is_file():
        return []
    lines = enumerate(label.read_text().splitlines(), 1)
    boxes = [_yolo_box(dataset, line, f"{label}:{number}", size) for number, line in lines if line.strip()]
    return [box for box in boxes if box is not None]


def _yolo_box(dataset: Dataset, line: str, where: str, size: tuple[int, int]) -> LabelledBox | None:
    """A line "class cx cy w h", or "class x y x y …" for a polygon, in shares of the image's sides."""
    try:
        values = [float(v) for v in line.split()]
        category, (cx, cy, w, h) = int(values[0]), values[1:5]
        if not np.isfinite(values).all():
            raise ValueError("not finite")
    except (ValueError, OverflowError):
        dataset.drop("label lines that cannot be read", where)
        return None
    if len(values) > 5:  # a polygon: its bounding box
        xs, ys = values[1::2], values[2::2]
        cx, cy, w, h = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2, max(xs) - min(xs), max(ys) - min(ys)
    if category not in dataset.categories:
        dataset.drop("annotations of unknown categories", where)
    elif w <= 0 or h <= 0:
        dataset.drop("boxes with zero or negative size", where)
    else:
        x0, x1 = (cx - w / 2) * size[1], (cx + w / 2) * size[1]
        y0, y1 = (cy - h / 2) * size[0], (cy + h / 2) * size[0]
        return LabelledBox(x0, y0, x1, y1, category, False, (x1 - x0) * (y1 - y0))
    return None


def _add(dataset: Dataset, image_id: int, path: Path, size: tuple[int, int] | None, objects: list[LabelledBox]) -> None:
    if not path.is_file():
        dataset.drop("images that are not in the folder", path.name)
        return
    if size is None:
        try:
            size = image_size(path)
        except UnreadableImageError as error:
            dataset.drop("unreadable images", str(error))
            return
    dataset.records.append(
        ImageRecord(
            image_id,
            path,
            size,
            boxes=np.array([o[:4] for o in objects], dtype=np.float32).reshape(-1, 4),
            categories=np.array([o.category for o in objects], dtype=np.int64),
            ignore=np.array([o.ignore for o in objects], dtype=bool),
            area=np.array([o.area for o in objects], dtype=np.float32),
        )
    )


def match_categories(
    categories: dict[int, str], class_names: dict[int, str] | None, label_ids: list[int] | None
) -> tuple[dict[int, int], list[str]]:
    """Which detector label means which dataset category.

    By name where the host knows names; otherwise in order, if the numbers of classes agree.

    Args:
        categories: the dataset's names by category id.
        class_names: the detector's names by label, or None where its host knows none.
        label_ids: the detector's labels, where it has no names.

    Returns:
        {label: category id}, and the names of categories that the detector does not know.

    Raises:
        DualResError: If nothing matches.
    """
    if class_names is not None:
        by_name = {_plain(name): i for i, name in categories.items()}
        matched = {label: by_name[_plain(name)] for label, name in class_names.items() if _plain(name) in by_name}
        if matched:
            unknown = [name for i, name in categories.items() if i not in matched.values()]
            return matched, unknown
        labels = sorted(class_names)
    else:
        labels = list(label_ids or [])
    if len(labels) == len(categories):
        return dict(zip(labels, sorted(categories))), []
    shown = ", ".join(list((class_names or {}).values())[:5]) or f"{len(labels)} unnamed classes"
    raise DualResError(
        f"the detector's classes ({shown}, …) are none of the dataset's "
        f"({', '.join(list(categories.values())[:5])}, …): wrong detector or wrong annotations?"
    )


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ").replace("-", " ")
