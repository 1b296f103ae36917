"""data.yaml, label files and lists of strangers: one clear error, or a counted loss."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from dualres_plugin.common.errors import DualResError
from dualres_plugin.profile.data.dataset import load_dataset
from tests.fakes import photo


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """Two photos of 100 x 50 pixels with one box each."""
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for i in range(2):
        Image.fromarray(photo(i, (50, 100))).save(tmp_path / "images" / f"{i}.png")
        (tmp_path / "labels" / f"{i}.txt").write_text("1 0.5 0.5 0.2 0.4\n")
    (tmp_path / "data.yaml").write_text("val: images\nnames: [square, disc]\n")
    return tmp_path / "data.yaml"


BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 8)}]\n" for a, b in zip("abcdefgh", "bcdefghi")
)
YAMLS = {
    "names of lists": ("val: images\nnames: [[a], {b: c}]\n", "'names' of"),
    "negative number": ("val: images\nnames: {-1: a}\n", "'names' of"),
    "number of 20 digits": ("val: images\nnames: {99999999999999999999: a}\n", "'names' of"),
    "a path that is a list": ("path: [a]\nval: images\nnames: [a]\n", "'path' of"),
    "a split that is a mapping": ("val: {a: b}\nnames: [a]\n", "'val' of"),
    "a date that is none": ("val: images\nnames: [2001-99-99]\n", "not valid YAML"),
    "a number of 5,000 digits": (f"val: images\nnames: [{'9' * 5000}]\n", "not valid YAML"),
    "a deep nest": ("names: " + "[" * 3000, "not valid YAML"),
    "a bomb of aliases": (BOMB + "val: images\nnames: *i\n", "'names' of"),
    "a bomb as split": (BOMB + "val: *i\nnames: [a]\n", "'val' of"),
    "a tag that builds objects": ("val: !!python/object/apply:os.system ['x']\nnames: [a]\n", "not valid YAML"),
    "a name of 300 characters": (f"val: {'a' * 300}\nnames: [a]\n", "does not exist"),
    "a zero in a name": ('val: "a\\0b"\nnames: [a]\n', "does not exist"),
}


@pytest.mark.parametrize("case", YAMLS)
def test_odd_data_files_give_one_clear_error(case: str, yolo: Path) -> None:
    text, message = YAMLS[case]
    yolo.write_text(text)
    with pytest.raises(DualResError, match=message) as caught:
        load_dataset(yolo, split="val")
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("content", [b"\x89PNG\xff\xfe", b"\0\0\0\0"])
def test_a_binary_data_file(content: bytes, yolo: Path) -> None:
    yolo.write_bytes(content)
    with pytest.raises(DualResError):
        load_dataset(yolo, split="val")


def test_a_folder_as_data_file(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").mkdir()
    with pytest.raises(DualResError, match="cannot read data file"):
        load_dataset(tmp_path / "data.yaml")


def test_names_may_look_like_numbers(yolo: Path) -> None:
    yolo.write_text("val: images\nnames: {0: 7, 1: yes}\n")
    assert load_dataset(yolo, split="val").categories == {0: "7", 1: "True"}


@pytest.mark.parametrize("content", [b"\xff\xfe\0\1", b"1 0.5 0.5 0.2 0.4\n\x80"])
def test_binary_labels_take_their_image_along(content: bytes, yolo: Path) -> None:
    (yolo.parent / "labels" / "0.txt").write_bytes(content)
    dataset = load_dataset(yolo, split="val")
    assert [r.path.name for r in dataset.records] == ["1.png"], "it must not pass for an image without objects"
    assert "1 images whose labels cannot be read left out" in dataset.warnings()[0] and "0.txt" in dataset.warnings()[0]


LINES = ["1 0.5 0.5 0.2", "1.5 0.5 0.5 0.2 0.4", "1 0.5 0.5 1e9 0.4", "1 0.5 0.5 0.2 0.4 0.9", "² 0.5 0.5 0.2 0.4"]
LINES += [
    "1 nan 0.5 0.2 0.4",
    "1 inf 0.5 0.2 0.4",
    "1 0.1 0.1 0.5 0.5 0.1 0.5 0.3",
    f"{'9' * 400} 0.5 0.5 0.2 0.4",
    "a b",
]


@pytest.mark.parametrize("line", LINES)
def test_lines_that_are_neither_a_box_nor_a_polygon(line: str, yolo: Path) -> None:
    (yolo.parent / "labels" / "0.txt").write_text(f"0 0.5 0.5 0.2 0.4\n{line}\n")
    dataset = load_dataset(yolo, split="val")
    assert len(dataset.records[0].boxes) == 1
    assert "1 label lines that cannot be read left out" in dataset.warnings()[0] and "0.txt:2" in dataset.warnings()[0]


def test_odd_lists_of_images(yolo: Path) -> None:
    yolo.write_text("val: list.txt\nnames: [square, disc]\n")
    listed = yolo.parent / "list.txt"
    listed.write_text(f"images/0.png\nimages/{'a' * 300}.png\nimages/none.png\nimages\n")
    dataset = load_dataset(yolo, split="val")
    assert len(dataset.records) == 1 and "3 unreadable images" in dataset.warnings()[0]
    listed.write_bytes(b"\xff\xfe\0")
    with pytest.raises(DualResError, match=r"list of images .* is not a text file"):
        load_dataset(yolo, split="val")
