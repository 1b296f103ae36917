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
    words = ("--router", folder / "router", "--sizes", "320,256,128", "--shares", "0.2,0.4,0.4", "--photos", 0)
    done = ok("export", detector, *words, "--out", folder / "ladder.onnx")
    assert "ladder.onnx: 10.6" in done.out and "form cond, thresholds +" in done.out
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
def test_a_ladder_counts_by_size_as_the_detector_does(desk: Path, tmp_path: Path) -> None:
    detector = require_shared("weights", "yolo11n.pt")
    point = ("--shares", "0.4,0.2,0.4", "--no-save")
    own = ("--router", desk / "router", "--sizes", "320,256,128")
    a = ok("predict", detector, desk / "list.txt", *own, *point, "--out", tmp_path / "a")
    b = ok("predict", desk / "ladder.onnx", desk / "list.txt", *point, "--out", tmp_path / "b")
    said = [done.out.splitlines()[-1].partition("; results in")[0] for done in (a, b)]
    assert said[0] == said[1] and said[0].startswith("8 images: 320 px ") and "target 40% / 20% / 40%" in said[0]
    assert table(tmp_path / "a") == table(tmp_path / "b") and len({route for _, route in table(tmp_path / "b")}) == 3
    fixed = ok("predict", desk / "ladder.onnx", desk / "list.txt", "--thresholds", "inf,-inf", "--out", tmp_path / "c")
    assert "8 images: 256 px 8 (100%)" in fixed.out


@pytest.mark.shared
def test_a_ladder_holds_its_mean_cost(desk: Path, tmp_path: Path) -> None:
    for words in (("--shares", "0.2,0.4,0.4"), ()):
        out = tmp_path / f"o{len(words)}"
        ok("predict", desk / "ladder.onnx", desk / "list.txt", "--hold", *words, "--no-save", "--out", out)
        assert len(table(out)) == 8
    done = dualres("predict", desk / "ladder.onnx", desk / "list.txt", "--hold", "--thresholds", "1,0", "--out", out)
    assert "not --threshold or --thresholds" in done.message


@pytest.mark.shared
@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        ("ladder.onnx", ("--target-high-rate", 0.5), "is for two sizes: give the share of each of the 3"),
        ("ladder.onnx", ("--shares", "0.5,0.5"), "3 sizes need 3 shares"),
        ("ladder.onnx", ("--sizes", "640,512"), "leave out --sizes"),
        ("m.onnx", ("--shares", "0.2,0.4,0.4"), "2 sizes need 2 shares"),
    ],
)
def test_shares_are_those_of_the_files_sizes(
    desk: Path, tmp_path: Path, model: str, words: tuple[object, ...], message: str
) -> None:
    assert message in dualres("predict", desk / model, desk / "list.txt", *words, "--out", tmp_path / "o").message


@pytest.mark.shared
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--router", "r", "--low", 160), "leave out --router, --low"),
        (("--batch", 4), "leave out --batch"),
        (("--threshold", 0, "--target-high-rate", 0.5), "give only one of the budgets"),
        (("--threshold", 0, "--hold"), "give --target-high-rate or --shares, not --threshold"),
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
