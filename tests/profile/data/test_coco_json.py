"""COCO JSON of strangers: an odd entry costs itself, is named, and never stops the rest."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.profile.data.coco_json import whole
from dualres_plugin.profile.data.dataset import load_dataset
from dualres_plugin.profile.data.records import shown
from tests.fakes import write_coco

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def coco(tmp_path: Path) -> tuple[Path, Path]:
    return write_coco(tmp_path, 4)


def edited(coco: tuple[Path, Path], change: Change, **options: Any) -> Any:
    content = json.loads(coco[0].read_text())
    change(content)
    coco[0].write_text(json.dumps(content))
    return load_dataset(*coco, **options)


def image(**values: Any) -> Change:
    return lambda c: c["images"][0].update(values)


def box(**values: Any) -> Change:
    return lambda c: c["annotations"][0].update(values)


ID, SIZE, NAME = "images without a whole number", "images with an impossible height", "images without a usable file_n"
NUMBERS, AREA, CROWD = "boxes that are not four finite", "annotations with an impossible area", "an 'iscrowd' other"
LISTED, CATEGORY = "annotations of images that the file does not list", "annotations of unknown categories"
ODD: dict[str, tuple[Change, str, int, int]] = {
    # change, kind that is counted, images left, boxes left
    "image that is a number": (lambda c: c["images"].insert(0, 5), ID, 4, 8),
    "image without id": (lambda c: c["images"][0].pop("id"), ID, 3, 6),
    "image with a text as id": (image(id="one"), ID, 3, 6),
    "image with true as id": (image(id=True), ID, 3, 6),
    "image id past 64 bits": (image(id=2**63), ID, 3, 6),
    "image id that is half": (image(id=1.5), ID, 3, 6),
    "width 0": (image(width=0), SIZE, 3, 6),
    "negative height": (image(height=-48), SIZE, 3, 6),
    "infinite width": (image(width=float("inf")), SIZE, 3, 6),
    "width NaN": (image(width=float("nan")), SIZE, 3, 6),
    "width of a text": (image(width="wide"), SIZE, 3, 6),
    "gigantic": (image(width=10**6, height=10**6), SIZE, 3, 6),
    "no name": (lambda c: c["images"][0].pop("file_name"), NAME, 3, 6),
    "name that is a number": (image(file_name=5), NAME, 3, 6),
    "name of 5,000 characters": (image(file_name="a" * 5000), NAME, 3, 6),
    "name longer than a file system takes": (image(file_name="a" * 300), "images that are not in the folder", 3, 6),
    "name with a zero": (image(file_name="a\0b"), NAME, 3, 6),
    "half a surrogate pair": (image(file_name="\ud800.png"), "images that are not in the folder", 3, 6),
    "annotation that is a number": (lambda c: c["annotations"].append(5), "annotations that are no objects", 4, 8),
    "no box": (lambda c: c["annotations"][0].pop("bbox"), NUMBERS, 4, 7),
    "box of texts": (box(bbox=["1", "2", "3", "4"]), NUMBERS, 4, 7),
    "box of lists": (box(bbox=[[1], [2], [3], [4]]), NUMBERS, 4, 7),
    "endless box": (box(bbox=[0, 0, float("inf"), 5]), NUMBERS, 4, 7),
    "box of 400 digits": (box(bbox=[0, 0, 10**400, 5]), NUMBERS, 4, 7),
    "a crowd of no": (box(iscrowd="no"), CROWD, 4, 7),
    "a crowd of two": (box(iscrowd=2), CROWD, 4, 7),
    "a crowd of lists": (box(iscrowd=[1]), CROWD, 4, 7),
    "area NaN": (box(area=float("nan")), AREA, 4, 7),
    "negative area": (box(area=-1), AREA, 4, 7),
    "area of a text": (box(area="large"), AREA, 4, 7),
    "image of a list": (box(image_id=[1]), LISTED, 4, 7),
    "category past 32 bits": (box(category_id=2**40), CATEGORY, 4, 7),
    "category without name": (lambda c: c["categories"].append({"id": 7}), "categories without a number", 4, 8),
    "category with a text as id": (lambda c: c["categories"].append({"id": "x", "name": "y"}), "categories wit", 4, 8),
    "category twice": (lambda c: c["categories"].append({"id": 1, "name": "y"}), "id that was used before", 4, 8),
}


@pytest.mark.parametrize("case", ODD)
def test_one_odd_entry_costs_only_itself(case: str, coco: tuple[Path, Path]) -> None:
    change, message, images, boxes = ODD[case]
    dataset = edited(coco, change)
    assert any(message in warning for warning in dataset.warnings()), dataset.warnings()
    assert all(w.isprintable() and len(w) < 700 for w in dataset.warnings())
    assert len(dataset.records) == images
    assert sum(len(r.boxes) for r in dataset.records) == boxes


def test_what_people_write_for_whole_numbers_and_crowds(coco: tuple[Path, Path]) -> None:
    def change(c: dict[str, Any]) -> None:
        c["images"][0].update(id="1", width=64.0, height="48")
        c["annotations"][0].update(iscrowd=True, area=None, category_id=1.0, image_id="1")

    dataset = edited(coco, change)
    assert not dataset.warnings() and len(dataset.records) == 4
    assert bool(dataset.records[0].ignore[0]) and dataset.records[0].area[0] > 0
    assert [whole(v) for v in (7, 7.0, "7", "-7", True, None, "7.0", "²", float("inf"), 2**63)] == [7, 7, 7, -7] + [
        None
    ] * 6


def test_null_sizes_are_read_from_the_file(coco: tuple[Path, Path]) -> None:
    assert edited(coco, image(width=None)).records[0].size == (48, 64)


def test_no_category_at_all(coco: tuple[Path, Path]) -> None:
    with pytest.raises(DualResError, match="no category with a number and a name"):
        edited(coco, lambda c: c.update(categories=[]))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"images": [' + "9" * 5000 + "]}", '{"a": "\ud800'], ids=str.__len__)
def test_nests_and_numbers_that_json_cannot_take(text: str, coco: tuple[Path, Path]) -> None:
    coco[0].write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DualResError, match="is not valid JSON"):
        load_dataset(*coco)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../b.png", "a/../0.png"])
def test_a_name_that_leaves_the_folder_is_refused_unless_allowed(name: str, coco: tuple[Path, Path]) -> None:
    with pytest.raises(DualResError, match=r"1 file names .* lead out of .*images' \(first: '.*--allow-outside"):
        edited(coco, image(file_name=name))


def test_what_is_allowed_outside(coco: tuple[Path, Path]) -> None:
    (coco[1] / "0.png").rename(coco[1].parent / "far.png")
    dataset = edited(coco, image(file_name="../far.png"), allow_outside=True)
    assert len(dataset.records) == 4


def test_links_of_the_users_own_are_followed_and_loops_are_left_out(coco: tuple[Path, Path]) -> None:
    (coco[1] / "0.png").rename(coco[1].parent / "far.png")
    (coco[1] / "0.png").symlink_to(coco[1].parent / "far.png")
    (coco[1] / "1.png").unlink()
    (coco[1] / "1.png").symlink_to(coco[1] / "1.png")
    dataset = load_dataset(*coco)
    assert len(dataset.records) == 3 and "1 images that are not in the folder" in dataset.warnings()[0]


def test_a_loop_in_a_plain_folder(coco: tuple[Path, Path]) -> None:
    (coco[1] / "loop").symlink_to(coco[1])
    (coco[1] / "loop.png").symlink_to(coco[1] / "loop.png")
    dataset = load_dataset(None, coco[1])
    assert len({r.path.resolve() for r in dataset.records}) == 4
    assert "loop.png" in dataset.warnings()[0]


def test_names_with_newlines_and_bytes_that_are_no_text(coco: tuple[Path, Path]) -> None:
    (coco[1] / "0.png").rename(coco[1] / "0\nINFO all is well.png")
    (coco[1] / "1.png").rename(coco[1] / "\udcff.png")
    dataset = load_dataset(None, coco[1])
    assert len(dataset.records) == 3
    assert dataset.warnings() == ["1 images whose path is not valid Unicode left out (first: \\udcff.png)"]
    assert shown("a\nb\x1b[2J") == "a\\nb\\x1b[2J"


def test_a_large_file_is_read_in_seconds(tmp_path: Path) -> None:
    """A tenth of COCO train; the files are not there, so only the reading is measured."""
    count = 12_000
    content = {
        "images": [{"id": i, "file_name": f"{i:012d}.jpg", "height": 480, "width": 640} for i in range(count)],
        "annotations": [
            {"id": i, "image_id": i % count, "category_id": 1, "bbox": [1.5, 2, 30, 40], "area": 900.5, "iscrowd": 0}
            for i in range(7 * count)
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    (tmp_path / "large.json").write_text(json.dumps(content))
    start = time.perf_counter()
    with pytest.raises(DualResError, match="12000 images that are not in the folder"):
        load_dataset(tmp_path / "large.json", tmp_path)
    assert time.perf_counter() - start < 10
