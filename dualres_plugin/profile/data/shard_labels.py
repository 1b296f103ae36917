"""Labels inside of .tar shards: a `.json` beside each photo, as WebDataset keeps together what belongs together.

A member is `{"annotations": [{"bbox": [x, y, w, h], "category_id": 3}, …], "width": …, "height": …}` as in COCO, or
that list alone. All of it is a stranger's: each entry is checked by itself, and an odd one costs only itself.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import read_json
from dualres_plugin.common.images.blobs import TarMember
from dualres_plugin.common.images.sources import IMAGE_SUFFIXES, tar_members
from dualres_plugin.common.images.tars import read_members
from dualres_plugin.profile.data.coco_json import read_box, read_categories, stated_size, whole
from dualres_plugin.profile.data.records import Dataset, LabelledBox, read_text, shown

LARGEST = 4 * 2**20  # bytes of one member: some 40,000 boxes


@dataclass(frozen=True)
class _Label:
    """What a `.json` says of the photo beside it.

    Attributes:
        photo: the photo.
        image_id: that it states; None without.
        size: (height, width) that it states; None without.
        boxes: its objects.
    """

    photo: TarMember
    image_id: int | None
    size: tuple[int, int] | None
    boxes: list[LabelledBox]


def read_shards(pattern: str, names: Path | None = None) -> Dataset:
    """The photos of .tar shards, labelled where one of them at least has annotations beside it.

    Photos are numbered from 1 in their order, or have the `image_id` of their labels where each has one of its own.

    Args:
        pattern: a name, range or glob of shards, or a URL of them.
        names: category names, see `read_names`; without it those of the members' own `categories`, else numbers.

    Returns:
        The photos; of a labelled set without those whose labels are missing or cannot be read.

    Raises:
        DualResError: If a shard is damaged, two members give a category two names, there is no category, or `names`
            is given for shards without labels.
    """
    members = tar_members(pattern, {*IMAGE_SUFFIXES, ".json"})
    photos = [m for m in members if m.suffix.lower() != ".json"]
    beside = {_place(m): m for m in members if m.suffix.lower() == ".json"}
    dataset = Dataset(shown(Path(pattern).name), [], read_names(names) if names else {})
    own: dict[int, str] = {}
    found = [_label(dataset, photo, text, own) for photo, text in _texts(photos, beside)]
    labels = [label for label in found if isinstance(label, _Label)]
    if not labels:
        return _unlabelled(dataset.name, photos, pattern, names)
    seen = {box.category for label in labels for box in label.boxes}
    dataset.categories = dataset.categories or {i: own.get(i, str(i)) for i in sorted({*own, *seen})}
    if not dataset.categories:
        raise DualResError(f"the labels in '{pattern}' have no category: there is nothing to measure AP on.")
    for photo, label in zip(photos, found):
        if isinstance(label, str):
            dataset.drop(label, str(photo))
    for number, label in _numbered(labels):
        dataset.add(number, label.photo, label.size, label.boxes)
    return dataset


def read_names(path: Path) -> dict[int, str]:
    """Names of categories.

    Args:
        path: a JSON file with COCO's list `categories`, or a text file with a name a line, the first of category 0.

    Raises:
        DualResError: If it is no such file, or names none.
    """
    if path.suffix.lower() == ".json":
        content = read_json(path, "file of names")
        listed = content.get("categories") if isinstance(content, dict) else None
        names = read_categories(Dataset("", []), listed) if isinstance(listed, list) else {}
    else:
        lines = read_text(path, "file of names").splitlines()
        names = {i: shown(line.strip()) for i, line in enumerate(lines) if line.strip()}
    if not names:
        raise DualResError(f"'{path}' names no category: give a list 'categories' as COCO's, or a name a line.")
    return names


def _place(member: TarMember) -> tuple[str, str]:
    """Archive, and name without its ending: what a photo and its labels have in common."""
    return member.archive, member.key.rpartition(".")[0]


def _texts(
    photos: Sequence[TarMember], beside: dict[tuple[str, str], TarMember]
) -> Iterator[tuple[TarMember, bytes | None]]:
    """Each photo with the content of its `.json`; None without, one byte too many where it is too large."""
    wanted = [beside[_place(photo)] for photo in photos if _place(photo) in beside]
    contents = read_members(wanted, LARGEST + 1)
    for photo in photos:
        yield photo, next(contents) if _place(photo) in beside else None


def _label(dataset: Dataset, photo: TarMember, text: bytes | None, own: dict[int, str]) -> _Label | str:
    """The labels of a photo, or what kind of photo it is without; `own` takes the names of its categories."""
    if text is None:
        return "photos without a .json beside them"
    if len(text) > LARGEST:
        return f"photos with a .json of more than {LARGEST >> 20} MB"
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):  # no JSON or UTF-8, a number of 5,000 digits, a deep nest
        return "photos whose .json is not valid JSON"
    content = {"annotations": content} if isinstance(content, list) else content
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        return "photos whose .json has no list 'annotations'"
    size = stated_size(content)
    if size == (0, 0):
        return "photos whose .json states an impossible height or width"
    known: Container[int] | None = dataset.categories or None
    where = f"the labels of {photo}"
    boxes = (
        read_box(dataset, entry, f"annotation {number} of {where}", known)
        for number, entry in enumerate(content["annotations"], 1)
    )
    if not dataset.categories and isinstance(content.get("categories"), list):
        _add_names(own, read_categories(dataset, content["categories"], where), photo)
    return _Label(photo, whole(content.get("image_id")), size, [box for box in boxes if box is not None])


def _add_names(own: dict[int, str], more: dict[int, str], photo: TarMember) -> None:
    for category, name in more.items():
        if own.setdefault(category, name) != name:
            raise DualResError(
                f"the labels of '{photo}' call category {category} '{name}', others '{own[category]}': give the names "
                "by --names."
            )


def _numbered(labels: Sequence[_Label]) -> list[tuple[int, _Label]]:
    """In order of their numbers."""
    stated = [label.image_id for label in labels]
    own = [i for i in stated if i is not None]
    numbers = own if len(set(own)) == len(labels) else range(1, len(labels) + 1)
    return sorted(zip(numbers, labels), key=lambda pair: pair[0])


def _unlabelled(name: str, photos: Sequence[TarMember], pattern: str, names: Path | None) -> Dataset:
    if names:
        raise DualResError(
            f"--names is given, and no photo in '{pattern}' has labels: a .json of the same name beside it, with a "
            "list 'annotations'."
        )
    dataset = Dataset(name, [], labelled=False)
    for number, photo in enumerate(photos, 1):
        dataset.add(number, photo, None, [])
    return dataset
