"""Ultralytics data sets: a `data.yaml`, image folders or lists of files, and a label file beside each image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.decode import UnreadableImageError, image_size
from dualres_plugin.common.images.sources import IMAGE_SUFFIXES
from dualres_plugin.profile.data.coco_json import LARGEST_CATEGORY
from dualres_plugin.profile.data.records import Dataset, LabelledBox, is_file, read_text, shown

LARGEST_SHARE = 1e4  # of an image's side; a coordinate beyond this is in pixels, or a mistake


def _name(value: Any) -> Any:
    """Classes may be called 7 or yes, which YAML reads as something else than text."""
    return shown(str(value)) if isinstance(value, (str, bool, int, float)) else value


ClassName = Annotated[str, BeforeValidator(_name)]
ClassNumber = Annotated[int, Field(ge=0, le=LARGEST_CATEGORY)]
Place = Annotated[str, Field(min_length=1, max_length=4096)]


class DataYaml(BaseModel):
    """What is read of a `data.yaml`; the host knows more keys.

    Attributes:
        names: of the classes, in order or by number.
        path: what the splits are relative to; the file's own folder by default.
        images: of the wanted split: folders or lists of files.
    """

    model_config = ConfigDict(extra="ignore")

    names: list[ClassName] | dict[ClassNumber, ClassName]
    path: Place | None = None
    images: Place | list[Place]


def read_yolo(path: Path, split: str) -> Dataset:
    """Read one split of an Ultralytics data set.

    Args:
        path: the `data.yaml`.
        split: "train", "val" or another of its keys.

    Returns:
        Its images with their objects, and what was left out.

    Raises:
        DualResError: If it is no such file, or names folders or lists that are not there.
    """
    config = _config(path, split)
    names = config.names
    categories = dict(enumerate(names)) if isinstance(names, list) else dict(names)
    root = Path(config.path or path.parent)
    root = root if root.is_absolute() else path.parent / root
    dataset = Dataset(shown(f"{path.stem}:{split}"), [], categories)
    for i, image in enumerate(_images(root, config.images)):
        try:
            size = image_size(image)
        except UnreadableImageError as error:
            dataset.drop("unreadable images", str(error))
            continue
        objects = _objects(dataset, image, size)
        if objects is not None:
            dataset.add(i + 1, image, size, objects)
    return dataset


def _config(path: Path, split: str) -> DataYaml:
    try:
        values = yaml.safe_load(read_text(path, "data file"))
    except yaml.YAMLError as error:
        raise DualResError(f"'{path}' is not valid YAML: {error}") from None
    except (RecursionError, ValueError, OverflowError) as error:  # of YAML's numbers and dates
        if isinstance(error, DualResError):
            raise
        raise DualResError(f"'{path}' is not valid YAML ({type(error).__name__}: {error}).") from None
    if not isinstance(values, dict) or "names" not in values or not values.get(split):
        raise DualResError(f"'{path}' is not an Ultralytics data file with 'names' and a '{split}' split.")
    entry = values[split]
    try:
        return DataYaml(names=values["names"], path=values.get("path") or None, images=_places(entry))
    except ValidationError as error:
        wrong = {str(e["loc"][0]) for e in error.errors(include_input=False, include_url=False)}
        if "names" in wrong:
            raise DualResError(f"'names' of '{path}' must be a list, or a mapping from numbers to names.") from None
        key = "path" if "path" in wrong else split
        raise DualResError(f"'{key}' of '{path}' must be a folder, a list of files (.txt), or several.") from None


def _places(entry: Any) -> Any:
    """A folder may be called 5."""
    many = entry if isinstance(entry, list) else [entry]
    return [str(item) if isinstance(item, (str, int, float)) else item for item in many]


def _images(root: Path, entry: str | list[str]) -> list[Path]:
    found: list[Path] = []
    for item in entry if isinstance(entry, list) else [entry]:
        path = root / item
        if _is_dir(path):
            found += sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        elif path.suffix == ".txt" and is_file(path):
            lines = read_text(path, "list of images").splitlines()
            found += [path.parent / line.strip() for line in lines if line.strip()]
        else:
            raise DualResError(f"image folder '{shown(str(path))}' of the data file does not exist.")
    return found


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _objects(dataset: Dataset, image: Path, size: tuple[int, int]) -> list[LabelledBox] | None:
    """Objects of an image; None where its labels cannot be read: it must not pass for an empty one."""
    # The host's own rule: the last `/images/` of the path becomes `/labels/`.
    head, sep, tail = str(image).rpartition("/images/")
    label = Path(f"{head}/labels/{tail}" if sep else image).with_suffix(".txt")
    if not is_file(label):
        return []
    try:
        lines = read_text(label, "label file").splitlines()
    except DualResError as error:
        dataset.drop("images whose labels cannot be read", str(error))
        return None
    boxes = [_box(dataset, line, f"{label}:{number}", size) for number, line in enumerate(lines, 1) if line.strip()]
    return [box for box in boxes if box is not None]


def _box(dataset: Dataset, line: str, where: str, size: tuple[int, int]) -> LabelledBox | None:
    """A line "class cx cy w h", or "class x y x y …" for a polygon, in shares of the image's sides."""
    values = _numbers(line)
    if values is None:
        dataset.drop("label lines that cannot be read", where)
        return None
    category, (cx, cy, w, h) = int(values[0]), values[1:5]
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


def _numbers(line: str) -> list[float] | None:
    """The numbers of a line; None if they are neither a box nor a polygon, as the host sees it too."""
    try:
        values = [float(v) for v in line.split()]
    except ValueError:
        return None
    box = len(values) == 5 or (len(values) >= 7 and len(values) % 2 == 1)
    usual = all(-LARGEST_SHARE <= v <= LARGEST_SHARE for v in values[1:])  # False for NaN
    return values if box and usual and values[0].is_integer() and abs(values[0]) <= LARGEST_CATEGORY else None
