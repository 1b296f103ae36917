"""Image sets: COCO, data.yaml and plain folders; what is bad is counted, named and left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dualres_plugin.common.errors import DualResError
from dualres_plugin.profile.data.dataset import load_dataset, match_categories
from tests.fakes import photo, write_coco, write_photos


@pytest.fixture
def coco(tmp_path: Path) -> tuple[Path, Path]:
    return write_coco(tmp_path, 4)


def edited(coco: tuple[Path, Path], change: Callable[[dict[str, Any]], Any]) -> Any:
    content = json.loads(coco[0].read_text())
    change(content)
    coco[0].write_text(json.dumps(content))
    return load_dataset(*coco)


# -- COCO -------------------------------------------------------------------------------------------------


def test_coco_is_read_as_written(coco: tuple[Path, Path]) -> None:
    def change(c: dict[str, Any]) -> None:
        c["annotations"][0].update(bbox=[3, 4, 10, 20.5], area=77, iscrowd=1, category_id=2)

    dataset = edited(coco, change)
    assert dataset.labelled and dataset.categories == {1: "square", 2: "disc"} and not dataset.warnings()
    assert [r.id for r in dataset.records] == [1, 2, 3, 4]
    first = dataset.records[0]
    assert first.size == (48, 64) and first.path == coco[1] / "0.png"
    assert first.boxes[0].tolist() == [3, 4, 13, 24.5] and first.boxes.dtype == np.float32
    assert first.area[0] == 77 and bool(first.ignore[0]) and not first.ignore[1] and first.categories[0] == 2
    assert [len(r.boxes) for r in dataset.records] == [2, 2, 2, 2]


def test_images_without_boxes_stay(coco: tuple[Path, Path]) -> None:
    dataset = edited(coco, lambda c: c.update(annotations=[]))
    assert len(dataset.records) == 4 and not dataset.warnings()
    assert dataset.records[0].boxes.shape == (0, 4)


def test_missing_size_is_read_from_the_file(coco: tuple[Path, Path]) -> None:
    def change(c: dict[str, Any]) -> None:
        for image in c["images"]:
            del image["height"], image["width"]

    assert [r.size for r in edited(coco, change).records] == [(48, 64), (64, 48)] * 2


BAD: dict[str, tuple[Callable[[dict[str, Any]], Any], str, int, int]] = {
    # change, kind that is counted, images left, boxes left
    "zero width": (
        lambda c: c["annotations"][0].update(bbox=[1, 1, 0, 5]),
        "1 boxes with zero or negative size",
        4,
        7,
    ),
    "negative height": (
        lambda c: c["annotations"][0].update(bbox=[1, 1, 5, -2]),
        "1 boxes with zero or negative size",
        4,
        7,
    ),
    "nan": (
        lambda c: c["annotations"][0].update(bbox=[float("nan"), 1, 5, 2]),
        "1 boxes that are not four finite numbers",
        4,
        7,
    ),
    "three numbers": (
        lambda c: c["annotations"][0].update(bbox=[1, 2, 3]),
        "1 boxes that are not four finite numbers",
        4,
        7,
    ),
    "unlisted image": (
        lambda c: c["annotations"][0].update(image_id=99),
        "1 annotations of images that the file does not list",
        4,
        7,
    ),
    "unknown category": (
        lambda c: c["annotations"][0].update(category_id=9),
        "1 annotations of unknown categories",
        4,
        7,
    ),
    "missing file": (
        lambda c: c["images"][0].update(file_name="gone.png"),
        "1 images that are not in the folder",
        3,
        6,
    ),
    "the same id twice": (
        lambda c: c["images"][0].update(id=2),
        "1 images with an id that was used before",
        3,
        6,
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_entries_are_counted_and_the_rest_is_kept(case: str, coco: tuple[Path, Path]) -> None:
    change, message, images, boxes = BAD[case]
    dataset = edited(coco, change)
    assert any(message in warning for warning in dataset.warnings()), dataset.warnings()
    assert len(dataset.records) == images
    assert sum(len(r.boxes) for r in dataset.records) == boxes


def test_an_unreadable_image_without_a_stated_size(coco: tuple[Path, Path]) -> None:
    (coco[1] / "0.png").write_bytes(b"")
    dataset = edited(coco, lambda c: c["images"][0].pop("height"))
    assert "1 unreadable images left out" in dataset.warnings()[0] and "0.png" in dataset.warnings()[0]
    assert len(dataset.records) == 3


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no images": lambda c: c.pop("images"),
    "images of a wrong type": lambda c: c.update(images={"1": "a"}),
    "annotations of a wrong type": lambda c: c.update(annotations=None),
    "categories of a wrong type": lambda c: c.update(categories="square"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_malformed_file_gives_one_clear_error(case: str, coco: tuple[Path, Path]) -> None:
    with pytest.raises(DualResError, match=r"annotations\.json' is not a COCO annotation file"):
        edited(coco, BROKEN[case])


def test_files_that_are_not_there_or_something_else(coco: tuple[Path, Path], tmp_path: Path) -> None:
    data, images = coco
    with pytest.raises(DualResError, match="does not exist"):
        load_dataset(tmp_path / "none.json", images)
    with pytest.raises(DualResError, match=r"image folder .* does not exist"):
        load_dataset(data, tmp_path / "none")
    with pytest.raises(DualResError, match="add --images DIR"):
        load_dataset(data)
    with pytest.raises(DualResError, match="give --data"):
        load_dataset(None)
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(DualResError, match="is not a COCO annotation file"):
        load_dataset(tmp_path / "list.json", images)
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(DualResError, match="not valid JSON"):
        load_dataset(tmp_path / "text.json", images)
    with pytest.raises(DualResError, match="cannot read annotation file"):
        load_dataset(images, images)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DualResError, match=r"no usable image .* 4 images that are not in the folder"):
        load_dataset(data, empty)


# -- a plain folder ---------------------------------------------------------------------------------------


def test_a_folder_has_no_labels(tmp_path: Path) -> None:
    paths = write_photos(tmp_path, 3)
    paths[0].write_bytes(b"")
    dataset = load_dataset(None, tmp_path)
    assert not dataset.labelled and dataset.categories == {}
    assert [r.path.name for r in dataset.records] == ["1.png", "2.png"]
    assert "1 unreadable images left out" in dataset.warnings()[0]


# -- data.yaml ----------------------------------------------------------------------------------------------


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """Two photos of 100 x 50 pixels with one box each."""
    for i in range(2):
        for kind in ("images", "labels"):
            (tmp_path / kind / "val").mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(i, (50, 100))).save(tmp_path / "images" / "val" / f"{i}.png")
        (tmp_path / "labels" / "val" / f"{i}.txt").write_text("1 0.5 0.5 0.2 0.4\n")
    (tmp_path / "data.yaml").write_text("path: .\nval: images/val\nnames: [square, disc]\n")
    return tmp_path / "data.yaml"


def label(yolo: Path, text: str) -> Any:
    (yolo.parent / "labels" / "val" / "0.txt").write_text(text)
    return load_dataset(yolo, split="val")


def test_yolo_labels_become_pixels(yolo: Path) -> None:
    dataset = load_dataset(yolo, split="val")
    assert dataset.labelled and dataset.categories == {0: "square", 1: "disc"} and not dataset.warnings()
    record = dataset.records[0]
    assert record.size == (50, 100)
    assert np.allclose(record.boxes, [[40, 15, 60, 35]])
    assert record.area[0] == pytest.approx(400) and record.categories.tolist() == [1]


def test_polygons_become_their_bounding_box(yolo: Path) -> None:
    dataset = label(yolo, "0 0.1 0.2 0.5 0.2 0.3 0.8\n")
    assert np.allclose(dataset.records[0].boxes, [[10, 10, 50, 40]])


def test_a_missing_or_empty_label_file_is_an_image_without_boxes(yolo: Path) -> None:
    assert not len(label(yolo, "\n").records[0].boxes)
    (yolo.parent / "labels" / "val" / "0.txt").unlink()
    dataset = load_dataset(yolo, split="val")
    assert not len(dataset.records[0].boxes) and len(dataset.records) == 2


def test_lists_absolute_paths_and_names_by_number(yolo: Path) -> None:
    root = yolo.parent
    (root / "val.txt").write_text(f"./images/val/1.png\n{root / 'images' / 'val' / '0.png'}\n")
    yolo.write_text(f"path: {root}\nval: val.txt\nnames: {{0: square, 1: disc}}\n")
    assert [r.path.name for r in load_dataset(yolo, split="val").records] == ["1.png", "0.png"]
    yolo.write_text("val: [images/val, images/val]\nnames: {0: square, 1: disc}\n")
    assert len(load_dataset(yolo, split="val").records) == 4


LINES = {
    "x 0.5 0.5 0.2 0.4": "label lines that cannot be read",
    "1 0.5": "label lines that cannot be read",
    "1 0.5 0.5 a 0.4": "label lines that cannot be read",
    "nan 0.5 0.5 0.2 0.4": "label lines that cannot be read",
    "inf 0.5 0.5 0.2 0.4": "label lines that cannot be read",
    "1 nan 0.5 0.2 0.4": "label lines that cannot be read",
    "1 0.5 0.5 inf 0.4": "label lines that cannot be read",
    "7 0.5 0.5 0.2 0.4": "annotations of unknown categories",
    "1 0.5 0.5 0 0.4": "boxes with zero or negative size",
    "1 0.5 0.5 0.2 -0.4": "boxes with zero or negative size",
}


@pytest.mark.parametrize("line", LINES)
def test_bad_label_lines_are_counted_with_their_place(line: str, yolo: Path) -> None:
    dataset = label(yolo, f"0 0.5 0.5 0.1 0.1\n{line}\n1 0.2 0.2 0.1 0.1\n")
    (warning,) = dataset.warnings()
    assert f"1 {LINES[line]} left out" in warning and "0.txt:2" in warning
    assert dataset.records[0].categories.tolist() == [0, 1]


def test_an_unreadable_photo_of_a_data_yaml(yolo: Path) -> None:
    (yolo.parent / "images" / "val" / "0.png").write_bytes(b"")
    dataset = load_dataset(yolo, split="val")
    assert len(dataset.records) == 1 and "unreadable images" in dataset.warnings()[0]


YAMLS = {
    "names: [a]\n": "'val' split",
    "val: images/val\n": "with 'names'",
    "- a\n- b\n": "not an Ultralytics data file",
    "": "not an Ultralytics data file",
    "a: [\n": "not valid YAML",
    "val: nowhere\nnames: [a]\n": "nowhere' of the data file does not exist",
    "val: images/val\nnames: 5\n": "names",
    "val: images/val\nnames: {a: b}\n": "names",
    "val: 5\nnames: [a]\n": "5' of the data file does not exist",
}


@pytest.mark.parametrize("text", YAMLS)
def test_a_malformed_data_yaml_gives_one_clear_error(text: str, yolo: Path) -> None:
    yolo.write_text(text)
    with pytest.raises(DualResError, match=YAMLS[text]):
        load_dataset(yolo, split="val")


def test_a_data_yaml_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DualResError, match="does not exist"):
        load_dataset(tmp_path / "data.yaml")


# -- classes --------------------------------------------------------------------------------------------------


def test_classes_match_by_name_whatever_their_order_case_or_hyphens() -> None:
    matched, unknown = match_categories({5: "Traffic-Light", 9: "dog", 11: "emu"}, {0: "dog", 1: "traffic light"}, None)
    assert matched == {0: 9, 1: 5} and unknown == ["emu"]


def test_unnamed_classes_match_in_order_if_their_number_agrees() -> None:
    assert match_categories({4: "a", 2: "b"}, None, [1, 2]) == ({1: 2, 2: 4}, [])
    assert match_categories({4: "a", 2: "b"}, {0: "x", 1: "y"}, None) == ({0: 2, 1: 4}, [])
    with pytest.raises(DualResError, match="wrong detector or wrong annotations"):
        match_categories({4: "a", 2: "b"}, None, [1, 2, 3])
    with pytest.raises(DualResError, match=r"\(x, …\) are none of the dataset's \(a, b"):
        match_categories({4: "a", 2: "b"}, {0: "x"}, None)
