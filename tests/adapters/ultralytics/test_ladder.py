"""Three sizes of a real YOLO, in the host's own ways in: predict, val, track, and `attach`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ultralytics")

from dualres_plugin import DualResWrapper, ResolutionRouter, adapt
from dualres_plugin.adapters.ultralytics import attach, detach
from dualres_plugin.cli.app import app
from dualres_plugin.common.errors import DualResError
from tests.adapters.ultralytics.helpers import data_yaml, real_yolo, rows

QUIET = {"verbose": False}
SIZES = (640, 512, 448)
ALL_LARGE = (float("-inf"), float("-inf"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_yaml(tmp_path_factory.mktemp("data"), 6)


def test_all_at_the_largest_is_the_plain_host_bit_for_bit(
    data: Path, router: ResolutionRouter, photos: list[Path], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = [rows(r) for r in real_yolo().predict(photos, conf=0.001, **QUIET)]
    options = {"data": str(data), "batch": 4, "plots": False, "workers": 0, "verbose": False}
    maps = real_yolo().val(**options).box.maps.tolist()
    for model in (
        DualResWrapper(real_yolo(), router, sizes=SIZES, thresholds=ALL_LARGE),
        attach(real_yolo(), router, sizes=SIZES, thresholds=ALL_LARGE),
    ):
        found = model.predict(photos, conf=0.001, **QUIET)
        assert all(np.array_equal(rows(r), e) for r, e in zip(found, expected, strict=True))
        assert {(r.dualres.route, r.dualres.size) for r in found} == {("640", 640)}
        assert model.val(**options).box.maps.tolist() == maps


def test_each_photo_is_what_two_sizes_give_at_its_size(router: ResolutionRouter, photos: list[Path]) -> None:
    model = DualResWrapper(real_yolo(), router, sizes=SIZES, shares=(0.3, 0.4, 0.3))
    found = [model.predict(path, conf=0.001, **QUIET)[0] for path in photos]
    assert len({r.dualres.route for r in found}) > 1 and set(model.log.routes) <= {"640", "512", "448"}
    for result, path in zip(found, photos, strict=True):
        size = result.dualres.size
        at = {"threshold": float("-inf")} if size == 640 else {"threshold": float("inf"), "low": size}
        (alone,) = DualResWrapper(real_yolo(), router, **at).predict(path, conf=0.001, **QUIET)
        assert np.array_equal(rows(result), rows(alone)), path.name
        assert result.dualres.step == SIZES.index(size) and str(size) in str(result.dualres)


def test_val_and_track_run_a_ladder(
    data: Path, router: ResolutionRouter, photos: list[Path], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    model = DualResWrapper(real_yolo(), router, sizes=SIZES)
    options = {"data": str(data), "batch": 4, "plots": False, "workers": 0, "verbose": False}
    assert model.val(**options).box.map > 0.2
    assert model.log.images >= 6 and len(model.log.routes) > 1
    tracked = model.track(photos[:3], persist=True, **QUIET)
    assert {r.dualres.route for r in tracked} <= {"640", "512", "448"}
    routed = attach(real_yolo(), router, sizes=(1, 0.8, 0.7))
    assert {r.dualres.size for r in routed.predict(photos, **QUIET)} <= {640, 512, 448}
    assert not hasattr(detach(routed).predict(photos[0], **QUIET)[0], "dualres")


def test_pixels_stay_pixels_at_another_imgsz(router: ResolutionRouter, photos: list[Path]) -> None:
    model = DualResWrapper(real_yolo(), router, sizes=SIZES, thresholds=(float("inf"), float("-inf")))
    (found,) = model.predict(photos[0], imgsz=960, **QUIET)
    assert found.dualres.size == 512, "the middle one"
    with pytest.raises(DualResError, match="low=512: the low size must be smaller than the high size, which is 480"):
        model.predict(photos[0], imgsz=480, **QUIET)


def test_a_held_ladder_counts_in_gmacs(router: ResolutionRouter, photos: list[Path]) -> None:
    model = DualResWrapper(real_yolo(), router, sizes=SIZES, shares=(0.2, 0.3, 0.5), hold_rate=True)
    model.predict(photos, **QUIET)
    adapter = adapt(real_yolo())
    macs = [adapter.macs((s, s)) for s in SIZES]
    assert model.controller is not None and model.controller.costs == pytest.approx(
        [(m - macs[-1]) / (macs[0] - macs[-1]) for m in macs]
    )
    assert sum(model.controller.state.counts) == len(photos)
    assert "held at 20% / 30% / 50%" in repr(model) and "then 512 px, 448 px" in repr(model)


def test_sizes_that_cannot_be_are_refused(router: ResolutionRouter) -> None:
    for options, message in (
        ({"sizes": SIZES, "low": 320}, "either sizes, or high and low"),
        ({"sizes": (640,)}, "two sizes or more"),
        ({"sizes": (448, 512, 640)}, "low=512: the low size must be smaller"),
        ({"sizes": (640, 448, 512)}, "must become smaller, largest first: 448 px is followed by 512 px"),
        ({"sizes": (0.8, 0.5)}, "the first is the largest, in pixels"),
        ({"sizes": SIZES, "threshold": 0.1}, "3 sizes need 2 thresholds between them, not 1"),
        ({"sizes": SIZES, "target_high_rate": 0.1}, "give the share of each of the 3"),
        ({"sizes": SIZES, "shares": (0.5, 0.5)}, "3 sizes need 3 shares"),
        ({"sizes": SIZES, "thresholds": (0.0, 0.1)}, "they must descend"),
        ({"sizes": SIZES, "thresholds": (0.1, 0.0), "hold_rate": True}, "cannot hold too"),
        ({"sizes": SIZES, "low_detector": real_yolo()}, "a pair of networks has two sizes"),
    ):
        with pytest.raises(DualResError, match=message):
            DualResWrapper(real_yolo(), router, **options)


def test_the_command_line_runs_a_ladder_and_a_budget(
    router: ResolutionRouter, photos: list[Path], tmp_path: Path
) -> None:
    from typer.testing import CliRunner

    from tests.shared import require_shared

    (tmp_path / "photos").mkdir()
    for path in photos:
        (tmp_path / "photos" / path.name).symlink_to(path)
    weights = require_shared("weights", "yolo11n.pt")
    words = ["predict", weights, tmp_path / "photos", "--router", router.save(tmp_path / "r"), "--sizes", "640,512,448"]

    def run(out: str, *more: str) -> str:
        done = CliRunner().invoke(app, [str(w) for w in (*words, "--out", tmp_path / out, *more)])
        assert done.exit_code == 0, done.output
        return done.output

    assert "target 20% / 30% / 50%" in run("a", "--shares", "0.2,0.3,0.5")
    table = (tmp_path / "a" / "routes.csv").read_text().splitlines()
    assert {line.split(",")[1] for line in table[1:]} <= {"640", "512", "448"}
    assert f"{len(photos)} images: 448 px {len(photos)} (100%)" in run("b", "--thresholds", "1000,999")
    adapter = adapt(real_yolo())
    run("c", "--gmacs", str(adapter.macs((480, 640)) * 0.8), "--show-routes")
    assert (tmp_path / "c" / "contact_sheet.jpg").is_file()
    assert json.loads((tmp_path / "c" / "detections.json").read_text())
    wrong = CliRunner().invoke(app, [str(w) for w in (*words, "--out", tmp_path / "d", "--shares", "0.2,x")])
    assert isinstance(wrong.exception, DualResError) and "give numbers with commas" in str(wrong.exception)
