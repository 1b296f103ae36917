"""Generated scenes with labelled objects: the embedded default's photos.

Six classes that only their outline tells apart: hue, texture, size and light are shared by all of them and
by unlabelled distractors. Scenes come in kinds (`KINDS`), from two objects that fill half the frame to a
crowd of objects ten pixels wide, so running a detector at high resolution pays on some and not on others.
A kind sets ranges only: litter looks like a crowd in a thumbnail and blur takes away what high resolution
would buy, so a router has something to learn and is sometimes wrong.

Everything is drawn with numpy and Pillow from `(seed, index)`: same numbers, same pixels.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm.auto import tqdm

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import atomic_dir, make_dir, write_json
from dualres_plugin.demo.painting import Box, Rng, find_place, make_background, make_outline, paint, photograph

CLASSES: tuple[str, ...] = ("disc", "ring", "square", "triangle", "star", "cross")
DISTRACTORS: tuple[str, ...] = ("stick", "blob", "half", "hook")
SHAPES: tuple[tuple[int, int], ...] = ((192, 256), (256, 192), (208, 256), (256, 208), (256, 256))
"""(height, width) of the scenes in pixels; the long side is always 256."""


@dataclass(frozen=True)
class Scene:
    """One picture and its labels.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        boxes: (N, 4) float32, x1 y1 x2 y2 in pixels, inside the picture; N is at least 1.
        labels: (N,) int64, 1-based: `CLASSES[label - 1]`.
    """

    image: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """How many shapes, and the range of their longest side in pixels."""

    count: tuple[int, int]
    size: tuple[float, float]


@dataclass(frozen=True)
class Kind:
    """One kind of scene: its share of all scenes, its groups of objects, its distractors."""

    share: float
    objects: tuple[Group, ...]
    litter: Group


KINDS: dict[str, Kind] = {
    "portrait": Kind(0.24, (Group((1, 3), (60, 128)),), Group((0, 6), (8, 56))),
    "group": Kind(0.20, (Group((3, 8), (28, 70)),), Group((0, 10), (8, 48))),
    "crowd": Kind(0.26, (Group((8, 22), (9, 24)),), Group((0, 10), (6, 26))),
    "mixed": Kind(0.14, (Group((1, 2), (56, 120)), Group((5, 12), (9, 24))), Group((0, 8), (6, 34))),
    "litter": Kind(0.16, (Group((1, 4), (40, 104)),), Group((14, 36), (5, 22))),
}


def generate_scene(seed: int, index: int) -> Scene:
    """Draw scene number `index` of the stream `seed`.

    Args:
        seed: stream of scenes, 0 or more.
        index: position in the stream, 0 or more.

    Returns:
        The scene; the same arguments give the same pixels.

    Raises:
        DualResError: If an argument is negative.
    """
    if seed < 0 or index < 0:
        raise DualResError(f"scenes are numbered from 0, got seed {seed} and index {index}.")
    rng = np.random.default_rng([seed, index])
    kind = list(KINDS.values())[rng.choice(len(KINDS), p=[kind.share for kind in KINDS.values()])]
    height, width = SHAPES[rng.integers(len(SHAPES))]
    canvas = make_background(rng, height, width)
    contrast = float(rng.uniform(45, 110))

    for size in _sizes(rng, kind.litter):
        outline = make_outline(rng, DISTRACTORS[rng.integers(len(DISTRACTORS))], size)
        place = find_place(rng, outline, width, height, [])
        if place is not None:
            paint(rng, canvas, outline, place, contrast)

    boxes: list[Box] = []
    labels: list[int] = []
    sizes = [size for group in kind.objects for size in _sizes(rng, group)]
    for size in sorted(sizes, reverse=True):  # the large ones first, while there is room
        label = int(rng.integers(len(CLASSES)))
        outline = make_outline(rng, CLASSES[label], size)
        place = find_place(rng, outline, width, height, boxes)
        if place is not None:
            paint(rng, canvas, outline, place, contrast)
            boxes.append(place)
            labels.append(label + 1)
    return Scene(photograph(rng, canvas), np.asarray(boxes, np.float32), np.asarray(labels, np.int64))


def _sizes(rng: Rng, group: Group) -> list[float]:
    """Log-uniform sizes from a narrower range of the scene's own: the objects of one photo are alike."""
    low, high = math.log(group.size[0]), math.log(group.size[1])
    centre, spread = rng.uniform(low, high), rng.uniform(0.2, 1.0) * (high - low) / 2
    number = int(rng.integers(group.count[0], group.count[1] + 1))
    sizes: list[float] = np.exp(np.clip(rng.uniform(centre - spread, centre + spread, number), low, high)).tolist()
    return sizes


def generate_scenes(seed: int, split: str, n: int, workers: int = 0) -> Iterator[Scene]:
    """Draw the first `n` scenes of a split, with a progress bar.

    Splits of different name hold different scenes, also with the same seed.

    Args:
        seed: stream of scenes.
        split: name of the split.
        n: number of scenes.
        workers: processes that draw; 0 draws in this one. The scenes do not depend on it.

    Yields:
        The scenes, in order.
    """
    start = split_start(split)
    with ExitStack() as stack:
        run: Callable[..., Iterator[Scene]] = map
        if workers:
            pool = stack.enter_context(ProcessPoolExecutor(workers))
            run = partial(pool.map, chunksize=8)
        drawn = run(partial(generate_scene, seed), range(start, start + n))
        yield from tqdm(drawn, total=n, desc=f"scenes {split}", unit="img")


def split_start(split: str) -> int:
    """The first scene index of a named split: splits of one seed share no scene.

    Returns:
        An index.
    """
    return zlib.crc32(split.encode()) << 20


def write_coco(out: Path | str, split: str, n: int, seed: int, workers: int = 0) -> tuple[Path, Path]:
    """Write a split as PNG pictures and COCO annotations: `out/split/` and `out/split.json`.

    Category ids are 1 to 6 in the order of `CLASSES`, image ids 1 to `n`. Splits of different name hold
    different scenes, also with the same seed. Both results appear only once they are complete.

    Args:
        out: folder to write to.
        split: name of the split, such as `train`.
        n: number of scenes, from 1 to 2**20.
        seed: stream of scenes.
        workers: processes that draw; 0 draws in this one.

    Returns:
        The annotation file and the image folder.

    Raises:
        DualResError: If `n` is out of range, `split` is not a plain name, or `out` cannot be written.
    """
    if not 1 <= n <= 2**20:
        raise DualResError(f"cannot write {n} scenes: ask for 1 to {2**20}.")
    if split in ("", ".", "..") or Path(split).name != split:
        raise DualResError(f"'{split}' cannot name a split: use a plain word such as 'train'.")
    out = make_dir(out)
    labels: list[Scene] = []
    with atomic_dir(out / split) as folder:
        for image_id, scene in enumerate(generate_scenes(seed, split, n, workers), 1):
            # noise does not compress: level 1 is as small as level 6 and several times as fast
            Image.fromarray(scene.image).save(folder / _file_name(image_id), compress_level=1)
            # the shape is all that the annotations need: an empty stand-in keeps it without the pixels
            blank = np.broadcast_to(np.zeros(1, np.uint8), scene.image.shape)
            labels.append(Scene(blank, scene.boxes, scene.labels))
    write_json(out / f"{split}.json", coco_dataset(labels))
    return out / f"{split}.json", out / split


def coco_dataset(scenes: Iterable[Scene]) -> dict[str, Any]:
    """The scenes' labels in COCO's format; ids count from 1.

    Args:
        scenes: in the order of their ids.

    Returns:
        What the annotation file holds.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, scene in enumerate(scenes, 1):
        height, width = scene.image.shape[:2]
        images.append({"id": image_id, "file_name": _file_name(image_id), "height": height, "width": width})
        for (x1, y1, x2, y2), label in zip(scene.boxes.tolist(), scene.labels.tolist()):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": label,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)]
    info = {"description": "scenes generated by dualres_plugin.demo.scenes"}
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}


def _file_name(image_id: int) -> str:
    return f"{image_id:06d}.png"
