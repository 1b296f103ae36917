"""Reading labelled and unlabelled image sets: COCO JSON, `data.yaml`, MOTChallenge, shards, folders, clips."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.blobs import is_url
from dualres_plugin.common.images.sources import expand_source, list_images
from dualres_plugin.common.images.tars import is_tar
from dualres_plugin.common.images.video import is_video
from dualres_plugin.profile.data.clips import read_clips, take_every
from dualres_plugin.profile.data.coco_json import read_coco
from dualres_plugin.profile.data.mot import is_mot, read_mot
from dualres_plugin.profile.data.records import Dataset, shown
from dualres_plugin.profile.data.shard_labels import read_shards
from dualres_plugin.profile.data.yolo_labels import read_yolo

logger = logging.getLogger("dualres")


def load_dataset(
    data: Path | str | None,
    images: Path | str | None = None,
    split: str = "train",
    allow_outside: bool = False,
    names: Path | None = None,
    clips: Sequence[str] = (),
    every: int = 1,
) -> Dataset:
    """Read a dataset.

    Args:
        data: COCO annotations (.json), an Ultralytics `data.yaml`, a `gt.txt` or folder of MOTChallenge, or None:
            images without labels, or shards with labels inside.
        images: the image folder, .tar shards or a URL, without annotations also a list file; not used with a
            `data.yaml` or MOTChallenge.
        split: which split of a `data.yaml`.
        allow_outside: file names of COCO annotations may lead out of the image folder.
        names: of the categories of labels inside of shards, see `shard_labels.read_names`.
        clips: instead of `images`, videos and folders of clips; with COCO annotations, the one that they are of.
        every: take every n-th frame of a clip.

    Returns:
        At least one image; without `data` labelled only where shards have labels inside.

    Raises:
        DualResError: If something is missing or malformed, or no image is left.
    """
    inside = data is None and images is not None and is_tar(str(images)) and not Path(images).is_dir()
    if names is not None and not inside:
        raise DualResError("--names is of labels inside of .tar shards: give the shards as --images, without --data.")
    if clips and images is not None:
        raise DualResError(f"clips ({clips[0]}, …) and --images {images}: give one of them.")
    if data is None and clips:
        return read_clips(clips, every)
    place = _only(clips) if clips else images
    dataset = read_shards(str(images), names) if inside else _read(data, place, split, allow_outside)
    if not dataset.records:
        raise DualResError(f"no usable image in '{data or images}': {'; '.join(dataset.warnings()) or 'it is empty'}.")
    take_every(dataset, every)
    return dataset


def _only(clips: Sequence[str]) -> str:
    if len(clips) > 1:
        raise DualResError(f"--data is of one video or folder, not of {len(clips)}: give the folder that holds all.")
    return clips[0]


def _read(data: Path | str | None, images: Path | str | None, split: str, allow_outside: bool) -> Dataset:
    if data is None:
        if images is None:
            raise DualResError("give --data (annotations or data.yaml) or --images (a folder), or both.")
        return read_clips([images]) if is_video(images) and Path(images).is_file() else _without_labels(images)
    if Path(data).suffix.lower() in (".yaml", ".yml"):
        return read_yolo(Path(data), split)
    if is_mot(Path(data)):
        if images is not None:
            raise DualResError(f"'{data}' has its frames beside it: leave out '{images}'.")
        return read_mot(Path(data))
    if images is None:
        raise DualResError(f"COCO annotations '{data}' need the image folder too: add --images DIR.")
    return read_coco(Path(data), images, allow_outside)


def _without_labels(images: Path | str) -> Dataset:
    dataset = Dataset(shown(Path(images).name), [], labelled=False)
    listed = Path(images).suffix.lower() == ".txt" or is_url(images)
    for i, path in enumerate(expand_source(images) if listed else list_images(images)):
        dataset.add(i + 1, path, None, [])
    return dataset


def match_categories(
    categories: dict[int, str], class_names: dict[int, str] | None, label_ids: list[int] | None
) -> tuple[dict[int, int], list[str]]:
    """Which detector label means which dataset category.

    By name where one name at least is common to both; otherwise in order, if the numbers of classes agree. That is a
    guess, so a warning says which class stands for which.

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
        in_order = dict(zip(labels, sorted(categories)))
        logger.warning(order_warning(in_order, categories, class_names))
        return in_order, []
    unnamed = all(name == str(i) for i, name in categories.items())
    doubt = "these have no names, give --names FILE." if unnamed else "wrong detector or wrong annotations?"
    shown = ", ".join(list((class_names or {}).values())[:5]) or f"{len(labels)} unnamed classes"
    raise DualResError(
        f"the detector's classes ({shown}, …) are none of the dataset's "
        f"({', '.join(list(categories.values())[:5])}, …): {doubt}"
    )


def order_warning(matched: dict[int, int], categories: dict[int, str], class_names: dict[int, str] | None) -> str:
    """What to say where classes were matched by their order alone.

    Args:
        matched: {label: category id}.
        categories: the dataset's names by category id.
        class_names: the detector's names by label, or None where its host knows none.

    Returns:
        A sentence; "" where names decided.
    """
    names = {label: _plain(name) for label, name in (class_names or {}).items()}
    if set(names.values()) & {_plain(name) for name in categories.values()}:
        return ""
    pairs = [f"{(class_names or {}).get(label, label)} = {categories[i]}" for label, i in list(matched.items())[:4]]
    return (
        f"no class name is common to detector and annotations, so the {len(matched)} classes were matched by their "
        f"order ({', '.join(pairs)}{', …' if len(matched) > 4 else ''}): AP means nothing if that is wrong."
    )


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ").replace("-", " ")
