"""The generated scenes: repeatable, labelled correctly, varied, written as COCO that pycocotools reads."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from dualres_plugin.common.errors import DualResError
from dualres_plugin.demo import painting as drawing
from dualres_plugin.demo.scenes import (
    CLASSES,
    KINDS,
    SHAPES,
    Scene,
    generate_scene,
    generate_scenes,
    split_start,
    write_coco,
)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [generate_scene(3, index) for index in range(120)]


def digest(scene: Scene) -> str:
    parts = (scene.image.tobytes(), scene.boxes.tobytes(), scene.labels.tobytes())
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_same_numbers_give_the_same_pixels(scenes: list[Scene]) -> None:
    again = [generate_scene(3, index) for index in (0, 7, 119)]
    assert [digest(scene) for scene in again] == [digest(scenes[index]) for index in (0, 7, 119)]


def test_every_seed_index_and_split_gives_another_scene(scenes: list[Scene]) -> None:
    digests = {digest(scene) for scene in scenes} | {digest(generate_scene(4, index)) for index in range(5)}
    assert len(digests) == len(scenes) + 5
    train = [digest(scene) for scene in generate_scenes(0, "train", 3)]
    val = [digest(scene) for scene in generate_scenes(0, "val", 3)]
    assert not set(train) & set(val)
    assert abs(split_start("train") - split_start("val")) >= 2**20


def test_worker_processes_do_not_change_the_scenes() -> None:
    alone = [digest(scene) for scene in generate_scenes(1, "train", 10)]
    assert [digest(scene) for scene in generate_scenes(1, "train", 10, workers=2)] == alone


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**40), index=st.integers(0, 2**52))
def test_any_scene_is_well_formed(seed: int, index: int) -> None:
    scene = generate_scene(seed, index)
    height, width = scene.image.shape[:2]
    assert scene.image.dtype == np.uint8 and (height, width) in SHAPES
    assert scene.boxes.dtype == np.float32 and scene.boxes.shape == (len(scene.labels), 4)
    assert scene.labels.dtype == np.int64 and len(scene.labels) >= 1
    assert scene.labels.min() >= 1 and scene.labels.max() <= len(CLASSES)
    x1, y1, x2, y2 = scene.boxes.T
    assert (x1 >= 0).all() and (y1 >= 0).all() and (x2 <= width).all() and (y2 <= height).all()
    assert (x2 - x1 >= 4).all() and (y2 - y1 >= 4).all()


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(DualResError, match="numbered from 0"):
        generate_scene(0, -1)


@pytest.mark.parametrize("name", CLASSES)
def test_boxes_are_tight(name: str) -> None:
    rng = np.random.default_rng(0)
    for size in (9.0, 40.0, 150.0):
        canvas = np.full((240, 240, 3), 128, np.float32)
        outline = drawing.make_outline(rng, name, size)
        assert max(outline.width, outline.height) == pytest.approx(size, rel=1e-4)
        box = (20.3, 30.6, 20.3 + outline.width, 30.6 + outline.height)
        cover = drawing._cover(outline, box, canvas.shape, (0, 0))[..., 0]
        rows, columns = np.nonzero(cover.max(1) > 0)[0], np.nonzero(cover.max(0) > 0)[0]
        painted = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert np.abs(np.subtract(painted, box)).max() < 1.3


def test_classes_are_balanced(scenes: list[Scene]) -> None:
    counts = np.bincount(np.concatenate([scene.labels for scene in scenes]), minlength=len(CLASSES) + 1)[1:]
    assert counts.sum() > 600
    assert counts.min() > 0.6 * counts.mean() and counts.max() < 1.5 * counts.mean()


def test_sizes_run_from_a_few_pixels_to_half_the_frame(scenes: list[Scene]) -> None:
    longest = [float(np.max(scene.boxes[:, 2:] - scene.boxes[:, :2])) for scene in scenes]
    every = np.concatenate([(scene.boxes[:, 2:] - scene.boxes[:, :2]).max(1) for scene in scenes])
    assert every.min() < 12 and every.max() > 110
    # both kinds of scene that a router must tell apart are common
    assert np.mean(np.array(longest) < 32) > 0.1
    assert np.mean([np.min(scene.boxes[:, 2:] - scene.boxes[:, :2]) > 40 for scene in scenes]) > 0.2


def test_kinds_share_out_all_scenes() -> None:
    assert sum(kind.share for kind in KINDS.values()) == pytest.approx(1)


def test_coco_files_hold_the_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations, images = write_coco(tmp_path, "val", 6, seed=2)
    coco = COCO(annotations)
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    for image_id, scene in enumerate(generate_scenes(2, "val", 6), 1):
        entry = coco.imgs[image_id]
        picture = np.asarray(Image.open(images / entry["file_name"]))
        assert (picture == scene.image).all() and picture.shape == (entry["height"], entry["width"], 3)
        rows = coco.imgToAnns[image_id]
        assert [row["category_id"] for row in rows] == scene.labels.tolist()
        boxes = np.array([row["bbox"] for row in rows])
        boxes[:, 2:] += boxes[:, :2]
        assert np.allclose(boxes, scene.boxes, atol=1e-3)
        assert all(row["area"] == pytest.approx(row["bbox"][2] * row["bbox"][3]) for row in rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["val", "val.json"]


@pytest.mark.parametrize(("split", "n"), [("val", 0), ("a/b", 3), ("", 3), ("..", 3)])
def test_bad_requests_get_one_clear_error(tmp_path: Path, split: str, n: int) -> None:
    with pytest.raises(DualResError):
        write_coco(tmp_path, split, n, seed=0)
    assert not any(tmp_path.iterdir())
