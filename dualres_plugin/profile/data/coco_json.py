"""COCO annotation files: every entry is checked by itself, and an odd one costs only itself."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Any

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import read_json
from dualres_plugin.common.files.paths import leads_out
from dualres_plugin.common.images.blobs import ImageFile, is_url
from dualres_plugin.common.images.sources import lookup
from dualres_plugin.common.images.tars import is_tar
from dualres_plugin.common.images.video import VideoFrame, is_video
from dualres_plugin.profile.data.coco_video import PHOTO, Videos, frames_of
from dualres_plugin.profile.data.large_json import entries, is_large
from dualres_plugin.profile.data.records import Dataset, LabelledBox, shown

logger = logging.getLogger("dualres")
LISTS = ("images", "annotations", "categories")
LARGEST_ID = 2**63 - 1
LARGEST_CATEGORY = 2**31 - 1
LONGEST_NAME = 4096  # what Linux takes as a path
MOST_PIXELS = 178_956_970  # Pillow's limit: a larger picture is refused as a decompression bomb
LARGEST_PIXEL = 1e7  # a coordinate beyond this is a mistake, and float32 would lose it


def read_coco(annotations: Path, images: Path | str, allow_outside: bool = False) -> Dataset:
    """Read a COCO annotation file.

    Args:
        annotations: the JSON file.
        images: what its file names are relative to: a folder, .tar shards, or a URL. Frames that are no files are read
            from videos in the folder, or from the video that this is.
        allow_outside: names may lead out of the folder, by an absolute path or by "..".

    Returns:
        Its images with their objects, and what was left out.

    Raises:
        DualResError: If it is no such file, names no category, or a name leads out of the folder.
    """
    large = is_large(annotations)
    coco = _short_lists(annotations, LISTS) if large else _lists(annotations, LISTS)
    if large:
        coco["videos"] = list(entries(annotations, "videos"))
    find = _finder(images)
    dataset = Dataset(shown(annotations.stem), [])
    dataset.categories = read_categories(dataset, coco["categories"])
    if not dataset.categories:
        raise DualResError(f"'{annotations}' has no category with a number and a name: boxes mean nothing without.")
    listed = _images(dataset, coco["images"])
    if not allow_outside:
        _refuse_outside(annotations, images, listed)
    by_image: dict[int, list[LabelledBox]] = {i: [] for i in listed}
    objects = entries(annotations, "annotations") if large else coco["annotations"]
    for number, entry in enumerate(objects, 1):
        found = _object(dataset, entry, f"annotation {number} of the file", by_image)
        if found is not None:
            by_image[found[0]].append(found[1])
    frames, videos = frames_of(dataset, coco, whole), Videos(images)
    for i, (name, size) in sorted(listed.items()):
        if frames and i not in frames:
            continue  # is left out already
        file, frame_of = videos.place(name, find(name), frames.get(i, PHOTO))
        if file is None:
            dataset.drop("images that are not in the folder", name)
        elif isinstance(file, VideoFrame) and videos.size(file) is None:
            dataset.drop("frames past the end of their video", name)
        else:
            dataset.add(i, file, size or videos.size(file), by_image.pop(i), frame_of)
    return dataset


def _finder(images: Path | str) -> Callable[[str], ImageFile | None]:
    """Finds a photo by its name in the annotations."""
    text, folder = str(images), Path(images)
    if is_url(text) or (is_tar(text) and not folder.is_dir()):
        return lookup(text)
    if is_video(text) and folder.is_file():
        return lambda name: None  # every frame is in the video
    if not folder.is_dir():
        raise DualResError(f"image folder '{folder}' does not exist.")
    return lambda name: folder / name


def read_ids(annotations: Path) -> tuple[dict[str, int], dict[int, str]]:
    """The ids of a COCO annotation file; odd entries are left out.

    Args:
        annotations: the JSON file.

    Returns:
        Image id by the last part of its file name, and name by category id.

    Raises:
        DualResError: If it is no such file.
    """
    names = ("images", "categories")
    coco = _short_lists(annotations, names) if is_large(annotations) else _lists(annotations, names)
    dropped = Dataset(shown(annotations.stem), [])
    images = {Path(name).name: i for i, (name, _) in _images(dropped, coco["images"]).items()}
    categories = read_categories(dropped, coco["categories"])
    for message in dropped.warnings():
        logger.warning(message)
    return images, categories


def _lists(annotations: Path, names: Sequence[str]) -> Any:
    """The content of a COCO annotation file that has these lists."""
    coco = read_json(annotations, "annotation file")
    if not isinstance(coco, dict) or not all(isinstance(coco.get(name), list) for name in names):
        wanted = ", ".join(f"'{name}'" for name in names)
        raise DualResError(f"'{annotations}' is not a COCO annotation file: it needs the lists {wanted}.")
    return coco


def _short_lists(annotations: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    """The same of a large file, without its annotations: they are most of it, and are read one by one."""
    coco = {name: list(entries(annotations, name)) for name in names if name != "annotations"}
    for name, found in coco.items():
        if not found:
            raise DualResError(f"'{annotations}' is not a COCO annotation file: its list '{name}' is missing or empty.")
    return coco


def whole(value: Any, limit: int = LARGEST_ID) -> int | None:
    """A whole number as people write them: 7, 7.0 or "7".

    Args:
        value: anything.
        limit: the largest magnitude that is taken.

    Returns:
        The number; None if it is none, or too large.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    elif isinstance(value, str):
        value = int(value) if re.fullmatch(r"-?[0-9]{1,19}", value) else None
    return value if isinstance(value, int) and abs(value) <= limit else None


def read_categories(dataset: Dataset, entries: list[Any], source: str = "the file") -> dict[int, str]:
    """The names of a list `categories`.

    Args:
        dataset: told of what is left out.
        entries: of the list, of any kind.
        source: what holds the list, for messages.

    Returns:
        Name by category id.
    """
    names: dict[int, str] = {}
    for number, entry in enumerate(entries, 1):
        where = f"category {number} of {source}"
        i = whole(entry.get("id"), LARGEST_CATEGORY) if isinstance(entry, dict) else None
        if i is None or not isinstance(entry.get("name"), (str, int)):
            dataset.drop("categories without a number and a name", where)
        elif i in names:
            dataset.drop("categories with an id that was used before", where)
        else:
            names[i] = shown(str(entry["name"]))
    return names


def _images(dataset: Dataset, entries: list[Any]) -> dict[int, tuple[str, tuple[int, int] | None]]:
    """File name and stated (height, width) by id."""
    found: dict[int, tuple[str, tuple[int, int] | None]] = {}
    for number, entry in enumerate(entries, 1):
        where = f"image {number} of the file"
        i = whole(entry.get("id")) if isinstance(entry, dict) else None
        name = entry.get("file_name") if i is not None else None
        if i is None:
            dataset.drop("images without a whole number of at most 64 bits as id", where)
        elif not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or "\0" in name:
            dataset.drop("images without a usable file_name", where)
        elif i in found:
            dataset.drop("images with an id that was used before", name)
        elif stated_size(entry) == (0, 0):
            dataset.drop("images with an impossible height or width", name)
        else:
            found[i] = name, stated_size(entry)
    return found


def stated_size(entry: dict[str, Any]) -> tuple[int, int] | None:
    """The (height, width) of a photo that an entry states.

    Args:
        entry: with `height` and `width`, or without.

    Returns:
        None where it does not state both: the photo's file does. (0, 0) where they are impossible.
    """
    if entry.get("height") is None or entry.get("width") is None:
        return None
    height, width = whole(entry["height"]) or 0, whole(entry["width"]) or 0
    return (height, width) if min(height, width) >= 1 and height * width <= MOST_PIXELS else (0, 0)


def _refuse_outside(annotations: Path, folder: Path | str, entries: dict[int, tuple[str, Any]]) -> None:
    outside = [name for name, _ in entries.values() if leads_out(name)]
    if outside:
        raise DualResError(
            f"{len(outside)} file names of '{annotations}' lead out of '{folder}' (first: '{shown(outside[0])}'). Give "
            "the folder that holds all images as --images, or --allow-outside if you trust this file."
        )


def _object(
    dataset: Dataset, entry: Any, where: str, images: dict[int, list[LabelledBox]]
) -> tuple[int, LabelledBox] | None:
    """The image's id and the object; None if the entry is left out."""
    image = whole(entry.get("image_id")) if isinstance(entry, dict) else None
    if isinstance(entry, dict) and (image is None or image not in images):
        dataset.drop("annotations of images that the file does not list", where)
        return None
    box = read_box(dataset, entry, where, dataset.categories)
    return None if box is None or image is None else (image, box)


def read_box(dataset: Dataset, entry: Any, where: str, known: Container[int] | None) -> LabelledBox | None:
    """The object of an annotation.

    Args:
        dataset: told of what is left out.
        entry: anything.
        where: it stands, for messages.
        known: categories; None takes any.

    Returns:
        None if it is left out.
    """
    if not isinstance(entry, dict):
        dataset.drop("annotations that are no objects", where)
        return None
    category = whole(entry.get("category_id"), LARGEST_CATEGORY)
    crowd = entry.get("iscrowd")
    box = _finite(entry.get("bbox"), 4)
    if category is None or (known is not None and category not in known):
        dataset.drop("annotations of unknown categories", where)
    elif box is None:
        dataset.drop("boxes that are not four finite numbers", where)
    elif box[2] <= 0 or box[3] <= 0:
        dataset.drop("boxes with zero or negative size", where)
    elif crowd is not None and crowd not in (0, 1):
        dataset.drop("annotations with an 'iscrowd' other than 0 and 1", where)
    else:
        x, y, w, h = box
        stated = entry.get("area")
        area = [w * h] if stated is None else _finite([stated], 1, LARGEST_PIXEL**2)
        if area is not None and area[0] >= 0:
            return LabelledBox(x, y, x + w, y + h, category, bool(crowd), area[0])
        dataset.drop("annotations with an impossible area", where)
    return None


def _finite(values: Any, count: int, limit: float = LARGEST_PIXEL) -> list[float] | None:
    """So many numbers, none of them infinite, NaN or absurd; None where they are something else."""
    if not isinstance(values, list) or len(values) != count:
        return None
    for value in values:
        # Comparing works for integers too large for a float, and is False for NaN.
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not -limit <= value <= limit:
            return None
    return [float(value) for value in values]
