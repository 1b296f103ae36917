"""`dualres predict` with an exported model: what it leaves is what the detector it was made from leaves."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.cli import dualres, ok
from tests.fakes import lively_router, write_photos
from tests.shared import require_shared


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a calibrated router, photos, and YOLO11n exported with it as one file and as a pair."""
    pytest.importorskip("ultralytics")
    pytest.importorskip("onnxruntime")
    from tests.adapters.ultralytics.helpers import val_photos

    folder = tmp_path_factory.mktemp("exported")
    photos = val_photos(8)
    lively_router(photos).save(folder / "router")
    (folder / "list.txt").write_text("\n".join(map(str, photos)))
    detector = require_shared("weights", "yolo11n.pt")
    for form, out in (("cond", "m.onnx"), ("pair", "pair")):
        words = ("--router", folder / "router", "--form", form, "--high", 320, "--photos", 0, "--out", folder / out)
        ok("export", detector, *words)
    return folder


def table(folder: Path) -> list[tuple[str, str]]:
    with (folder / "routes.csv").open() as file:
        return [(row["file"], row["route"]) for row in csv.DictReader(file)]


@pytest.mark.shared
@pytest.mark.parametrize("model", ["m.onnx", "pair", "pair/manifest.json"])
def test_files_and_routes_are_those_of_the_detector(desk: Path, tmp_path: Path, model: str) -> None:
    detector = require_shared("weights", "yolo11n.pt")
    own = ("--router", desk / "router", "--high", 320)
    ok("predict", detector, desk / "list.txt", *own, "--save-txt", "--out", tmp_path / "a")
    asked = ("--target-high-rate", 0.5, "--save-txt", "--show-routes")
    done = ok("predict", desk / model, desk / "list.txt", *asked, "--out", tmp_path / "b")
    assert "8 images" in done.out
    assert table(tmp_path / "a") == table(tmp_path / "b") and len({route for _, route in table(tmp_path / "b")}) == 2
    names = [{p.name for p in (tmp_path / run).iterdir()} for run in "ab"]
    assert names[1] - names[0] == {"contact_sheet.jpg"} and names[0] < names[1]
    if model == "m.onnx":  # a pair is a square, the host's letterbox a rectangle
        a, b = (json.loads((tmp_path / run / "detections.json").read_text()) for run in "ab")
        assert len(a) == len(b) > 10
        for x, y in zip(a, b):
            assert (x["file_name"], x["category_id"]) == (y["file_name"], y["category_id"])
            assert np.abs(np.subtract(x["bbox"], y["bbox"])).max() < 0.5 and abs(x["score"] - y["score"]) < 1e-3


@pytest.mark.shared
def test_a_rate_is_held(desk: Path, tmp_path: Path) -> None:
    words = ("--hold", "--target-high-rate", 0.25, "--no-save", "--out", tmp_path / "o")
    ok("predict", desk / "m.onnx", desk / "list.txt", *words)
    assert sum(route == "high" for _, route in table(tmp_path / "o")) == 2


@pytest.mark.shared
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--router", "r", "--low", 160), "leave out --router, --low"),
        (("--batch", 4), "leave out --batch"),
        (("--threshold", 0, "--target-high-rate", 0.5), "either threshold or target_high_rate"),
        (("--threshold", 0, "--hold"), "give --target-high-rate, not --threshold"),
        (("--target-high-rate", 2), "must lie between 0"),
    ],
)
def test_options_that_an_exported_model_does_not_take(
    desk: Path, tmp_path: Path, words: tuple[object, ...], message: str
) -> None:
    done = dualres("predict", desk / "m.onnx", desk / "list.txt", *words, "--out", tmp_path / "o")
    assert message in done.message
    assert not (tmp_path / "o").exists()


def test_files_that_are_no_exported_model(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    write_photos(tmp_path / "photos", 1, [(90, 120)])
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    for name, message in (("none.onnx", "does not exist"), ("junk.onnx", "damaged")):
        done = dualres("predict", tmp_path / name, tmp_path / "photos", "--out", tmp_path / "o")
        assert message in done.message
    done = dualres("profile", tmp_path / "junk.onnx", "--images", tmp_path / "photos", "--out", tmp_path / "o")
    assert "is an exported model, which `dualres predict` runs" in done.message
