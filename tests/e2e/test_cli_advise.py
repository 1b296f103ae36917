"""`dualres profile --sizes` and `dualres advise` as a user types them, on real photos with a real detector."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.cli import dualres, ok
from tests.e2e.test_cli_main_job import subset
from tests.shared import require_shared

pytest.importorskip("ultralytics")


@pytest.mark.shared
def test_a_ladder_is_profiled_and_judged(tmp_path: Path) -> None:
    data, images = subset(tmp_path, "val2017", 12)
    detector = require_shared("weights", "yolo11n.pt")
    words = ("--data", data, "--images", images, "--sizes", "160,320,256", "--out", tmp_path / "ladder")
    printed = ok("profile", detector, *words).out
    assert "12 views of 12 images" in printed and "next: dualres advise" in printed
    assert [word for word in ("low", "s256", "high") if word in printed] == ["low", "s256", "high"]
    done = ok("advise", tmp_path / "ladder", "--bootstrap", 20, "--out", tmp_path / "advice").out
    sentence = next(line for line in done.splitlines() if line.startswith(("run ", "route ")))
    assert "95 % interval" in sentence and "12 photos" in sentence
    found = json.loads((tmp_path / "advice" / "advice.json").read_text())
    assert found["sentence"] == sentence and set(found["sizes"]) <= {160, 256, 320}
    Image.open(tmp_path / "advice" / "frontier.png").verify()
    assert (tmp_path / "advice" / "advice.html").read_text().startswith("<!doctype html>")
    for budget, message in (("40ms", "holds no times"), ("cheap", "1.6gmacs or 40ms")):
        done = dualres("advise", tmp_path / "ladder", "--budget", budget)
        assert done.status == 2 and message in done.err
    (tmp_path / "times.csv").write_text("size,ms\n320,9\n256,7\n160,4\nrouter,0.5\n")
    words = ("--budget", "8ms", "--times", tmp_path / "times.csv", "--choose-on", tmp_path / "ladder")
    assert ok("advise", tmp_path / "ladder", "--bootstrap", 20, *words).out.startswith("ms ")


WRONG = {
    "640,x": "whole pixels with commas",
    "640": "two to 16 different sizes",
    "640,640": "two to 16 different sizes",
    "0,640": "between 1 and",
}


@pytest.mark.parametrize("sizes", WRONG)
def test_sizes_that_are_none(sizes: str, tmp_path: Path) -> None:
    words = ("profile", "ultralytics:yolov8n.yaml", "--images", tmp_path, "--sizes", sizes)
    done = dualres(*words, "--out", tmp_path / "o")
    assert done.status == 2 and WRONG[sizes] in done.err


def test_sizes_beside_high_are_refused(tmp_path: Path) -> None:
    words = ("profile", "ultralytics:yolov8n.yaml", "--images", tmp_path, "--sizes", "640,320", "--high", 640)
    done = dualres(*words, "--out", tmp_path / "o")
    assert done.status == 2 and "leave out --high and --low" in done.err
