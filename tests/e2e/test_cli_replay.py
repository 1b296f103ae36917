"""`dualres replay` as an operator runs it: measured times, a load, what keeps the promise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.cli import dualres, ok
from tests.fakes import write_photos


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    write_photos(folder := tmp_path_factory.mktemp("photos"), 6)
    return folder


def test_a_load_that_is_light_needs_nothing(models: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    words = (
        "--p95-ms",
        60_000,
        "--arrivals",
        "steady:1",
        "--count",
        50,
        "--threshold",
        0,
        "--out",
        tmp_path / "r.json",
    )
    done = ok("replay", models["cond"], photos, *words)
    assert "measured on 6 photos: 160 px" in done.out and "nothing is to be done" in done.out
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["sizes"] == [160, 80] and found["photos"] == 50
    shares = {way["way"]: way["shares"] for way in found["ways"]}
    assert shares["all at the largest size"] == [1, 0] and shares["all at the smallest size"] == [0, 1]
    assert shares["the most that fixed thresholds keep it with"] == [1, 0]
    assert all(way["p50_ms"] <= way["p95_ms"] <= way["p99_ms"] for way in found["ways"])


def test_a_load_that_is_too_much_is_said(models: dict[str, Path], photos: Path) -> None:
    words = ("--p95-ms", 10, "--arrivals", "bursts:100000:100", "--threshold", 0)
    assert "even all at the smallest size are too late" in ok("replay", models["pair"], photos, *words).out


def test_wrong_words_are_one_message(models: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    words = ("replay", models["cond"], photos, "--p95-ms", 100, "--arrivals")
    assert "arrivals 'often': give steady:RATE" in dualres(*words, "often").message
    assert "does not exist" in dualres("replay", tmp_path / "no.onnx", *words[2:], "steady:1").message
    assert "no images in" in dualres("replay", words[1], tmp_path, *words[3:], "steady:1").message
    assert "--p95-ms" in dualres(*words[:4], 0, "--arrivals", "steady:1").message
