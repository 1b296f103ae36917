"""The sizes of a YOLO: its own `imgsz` is high in every way in, and pixels of a low size stay pixels."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("ultralytics")

from dualres_plugin import DualResWrapper, ResolutionRouter, adapt
from dualres_plugin.adapters.ultralytics import attach, detach
from dualres_plugin.cli.app import app
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.sources import iter_source
from dualres_plugin.predict.predictor import Predictor
from dualres_plugin.router.gate import Gate
from tests.adapters.ultralytics.helpers import data_yaml, random_yolo, real_yolo, rows
from tests.fakes import photo

QUIET = {"verbose": False}
OWN = 416


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_yaml(tmp_path_factory.mktemp("data"), 6)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YOLO trained at 416 for a few steps."""
    folder, here = tmp_path_factory.mktemp("train"), Path.cwd()
    os.chdir(folder)
    try:
        yolo = real_yolo()
        options = {"epochs": 1, "imgsz": OWN, "batch": 2, "workers": 0, "plots": False, "val": False, "lr0": 1e-5}
        yolo.train(data=str(data), project=str(folder), name="t", device="cpu", verbose=False, **options)
    finally:
        os.chdir(here)
    return folder / "t" / "weights" / "last.pt"


def yolo_of(file: Path) -> Any:
    from ultralytics import YOLO

    return YOLO(str(file))


def low_shapes(model: Any) -> list[tuple[int, int]]:
    """(height, width) of every low pass from now on, in the host's own copies too."""
    seen: list[tuple[int, int]] = []
    adapter = type(adapt(random_yolo()))
    resize = adapter.resize

    def watched(self: Any, *arguments: Any) -> Any:
        part = resize(self, *arguments)
        seen.append(tuple(part.images.shape[-2:]))
        return part

    model.setattr(adapter, "resize", watched)
    return seen


# -- the model's own size -----------------------------------------------------------------------------------


def test_all_high_is_the_plain_host_at_its_own_size(
    trained: Path, data: Path, router: ResolutionRouter, photos: list[Path], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = yolo_of(trained)
    expected = [rows(r) for r in plain.predict(photos, conf=0.001, **QUIET)]
    assert sum(map(len, expected)) > 20
    options = {"data": str(data), "batch": 4, "plots": False, "workers": 0, "verbose": False}
    maps = yolo_of(trained).val(**options).box.maps.tolist()
    routed = DualResWrapper(yolo_of(trained), router, target_high_rate=1.0)
    attached = attach(yolo_of(trained), router, target_high_rate=1.0)
    assert routed.high == OWN
    for model in (routed, attached):
        found = model.predict(photos, conf=0.001, **QUIET)
        assert all(np.array_equal(rows(r), e) for r, e in zip(found, expected, strict=True))
        assert all(r.dualres.route == "high" for r in found)
        assert model.val(**options).box.maps.tolist() == maps


def test_the_command_line_runs_at_the_models_own_size(
    trained: Path, router: ResolutionRouter, photos: list[Path], tmp_path: Path
) -> None:
    from typer.testing import CliRunner

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / photos[0].name).symlink_to(photos[0])
    words = ["predict", trained, tmp_path / "photos", "--router", router.save(tmp_path / "r"), "--out", tmp_path / "o"]
    done = CliRunner().invoke(app, [str(w) for w in (*words, "--target-high-rate", 1, "--conf", 0.1)])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "o" / "detections.json").read_text())
    (plain,) = yolo_of(trained).predict(photos[0], conf=0.1, **QUIET)
    x0, y0, x1, y1 = rows(plain)[:, :4].T
    boxes = np.array(sorted((d["bbox"] for d in found), key=str))
    assert np.allclose(boxes, sorted(np.stack([x0, y0, x1 - x0, y1 - y0], 1).tolist(), key=str), atol=0.02)


def test_the_predictor_of_the_command_line_is_plain_predict_bit_for_bit(
    trained: Path, router: ResolutionRouter, photos: list[Path]
) -> None:
    plain, adapter = yolo_of(trained), adapt(yolo_of(trained))
    everything = Predictor(adapter, Gate(router, float("-inf")), adapter.default_size, 0.5)
    for path, made in zip(photos, everything.stream(iter_source([str(p) for p in photos])), strict=True):
        expected = rows(plain.predict(path, conf=0.001, **QUIET)[0])
        assert np.array_equal(made.found.boxes, expected[:, :4])
        assert np.array_equal(made.found.scores, expected[:, 4]) and made.route.route == "high"


def test_the_own_size_is_that_of_plain_predict() -> None:
    yolo = random_yolo()
    assert adapt(yolo).default_size == adapt(yolo.model).default_size == 640
    yolo.overrides["imgsz"] = [96, 128]  # (height, width)
    assert adapt(yolo).default_size == 128 and adapt(yolo).for_inference().default_size == 128
    assert adapt(yolo).size_options(128) == {} and adapt(yolo).size_options(96) == {"imgsz": 96}
    small = random_yolo()
    small.overrides["imgsz"] = 64
    assert adapt(yolo, small).default_scale == 0.5
    assert adapt(small, yolo).default_scale == 0.5


def test_a_rectangle_stays_the_hosts(router: ResolutionRouter) -> None:
    yolo = random_yolo()
    yolo.overrides["imgsz"] = [96, 128]
    picture = photo(0, (120, 90))
    (plain,) = yolo.predict(picture, conf=0.001, **QUIET)
    (routed,) = DualResWrapper(yolo, router, target_high_rate=1.0).predict(picture, conf=0.001, **QUIET)
    assert np.array_equal(rows(plain), rows(routed))


# -- pixels stay pixels ---------------------------------------------------------------------------------------


def test_a_low_size_in_pixels_is_that_size_at_any_high_size(
    router: ResolutionRouter, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture = photo(0, (120, 160))
    seen = low_shapes(monkeypatch)
    for model in (
        DualResWrapper(random_yolo(), router, low=96, target_high_rate=0.0),
        attach(random_yolo(), router, low=96, target_high_rate=0.0),
    ):
        model.predict(picture, **QUIET)  # the wrapper tries its sizes before the first image
        seen.clear()
        for size in (192, 256, 320):
            model.predict(picture, imgsz=size, **QUIET)
        assert [max(shape) for shape in seen] == [96, 96, 96]
        seen.clear()
        model.val(data=str(data), imgsz=192, batch=1, plots=False, workers=0, verbose=False)
        assert {max(shape) for shape in seen} == {128}, "as the host's own val at 96, which pads by half a stride"
        seen.clear()
        model.predict(torch.rand(1, 3, 160, 192), **QUIET)
        assert [max(shape) for shape in seen] == [96], "a tensor has no size but its own"


def test_an_attached_low_size_in_pixels_of_a_small_yolo(
    trained: Path, router: ResolutionRouter, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = low_shapes(monkeypatch)
    attach(yolo_of(trained), router, low=208, target_high_rate=0.0).predict(photos[0], **QUIET)
    assert max(seen[0]) == 224, "208 on a grid of 32"


def test_a_low_size_that_is_not_smaller_than_that_of_the_call(router: ResolutionRouter) -> None:
    model = DualResWrapper(random_yolo(), router, low=128, high=256)
    for size in (96, 128):
        with pytest.raises(DualResError, match=f"low=128: the low size must be smaller .* {size} pixels here"):
            model.predict(photo(0), imgsz=size, **QUIET)
    with pytest.raises(DualResError, match=r"low=700: .* 640 pixels here"):
        attach(random_yolo(), router, low=700)


# -- attach ---------------------------------------------------------------------------------------------------


def test_attach_at_a_size_of_ones_own_that_is_held(router: ResolutionRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    yolo, seen = random_yolo(), low_shapes(monkeypatch)
    before = dict(yolo.overrides)
    attach(yolo, router, high=128, low=64, target_high_rate=0.5, hold_rate=True)
    results = [yolo.predict(photo(i % 3), **QUIET)[0] for i in range(12)]
    assert {max(shape) for shape in seen} == {64}
    assert len({r.dualres.threshold for r in results}) > 1
    detach(yolo)
    assert yolo.overrides == before and not {"val", "predict"} & set(yolo.__dict__)
    with pytest.raises(DualResError, match="give target_high_rate, not threshold"):
        attach(yolo, router, threshold=0.0, hold_rate=True)
    with pytest.raises(DualResError, match="high=0 must be at least 1"):
        attach(yolo, router, high=0)
    assert yolo.overrides == before


def test_val_of_an_attached_yolo_is_routed_and_restored(
    router: ResolutionRouter, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"data": str(data), "imgsz": 320, "batch": 2, "plots": False, "workers": 0, "verbose": False}
    plain, yolo = real_yolo().val(**options).box.map, real_yolo()
    attach(yolo, router, target_high_rate=0.0)
    low = yolo.val(**options).box.map
    assert low == DualResWrapper(real_yolo(), router, target_high_rate=0.0).val(**options).box.map != plain
    assert detach(yolo).val(**options).box.map == plain


# -- what is refused, and what it says ----------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["augment", "embed", "visualize", "compile"])
@pytest.mark.parametrize("form", ["wrapper", "attach"])
def test_what_would_bypass_the_routing_is_refused_by_every_method(
    router: ResolutionRouter, data: Path, option: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lap")
    monkeypatch.chdir(tmp_path)
    make: Any = DualResWrapper if form == "wrapper" else attach
    yolo = make(random_yolo(), router)
    value = [1] if option == "embed" else True
    for method in (yolo, yolo.predict, yolo.track):
        with pytest.raises(DualResError, match="visualize and compile are not available on a routed detector"):
            method(photo(0), imgsz=96, **{option: value}, **QUIET)
    with pytest.raises(DualResError, match="not available on a routed detector"):
        yolo.val(data=str(data), **{option: value})
    assert len(yolo.predict(photo(0), imgsz=96, **QUIET)) == 1


@pytest.mark.parametrize("method", ["train", "tune", "load", "reset_weights", "fuse", "save", "benchmark", "embed"])
def test_methods_that_leave_the_router_out_say_what_to_do_instead(router: ResolutionRouter, method: str) -> None:
    model = DualResWrapper(random_yolo(), router)
    with pytest.raises(DualResError, match=rf"^{method} is not available on a routed detector: \w+"):
        getattr(model, method)("x")
    assert method in dir(model) and getattr(model, method).__doc__


def test_export_by_format_says_how_it_is_done(router: ResolutionRouter) -> None:
    model = DualResWrapper(random_yolo(), router)
    with pytest.raises(DualResError, match="export writes detector and router as ONNX"):
        model.export(format="onnx")
    with pytest.raises(DualResError, match=r"DualResWrapper\.export"):
        model.host.export(format="onnx")


def test_info_is_the_detectors(router: ResolutionRouter) -> None:
    yolo = random_yolo()
    assert DualResWrapper(yolo, router).info() == yolo.info()


def test_nothing_is_routed_twice(router: ResolutionRouter, tmp_path: Path) -> None:
    model = DualResWrapper(random_yolo(), router)
    for again in (lambda: DualResWrapper(model.host, router), lambda: attach(model.host, router)):
        with pytest.raises(DualResError, match="would be routed twice"):
            again()
    with pytest.raises(DualResError, match="routed by attach already"):
        DualResWrapper(attach(random_yolo(), router), router)


def test_a_conf_that_is_no_number(router: ResolutionRouter) -> None:
    model = DualResWrapper(random_yolo(), router)
    for call in (model.predict, model, model.track):
        with pytest.raises(DualResError, match="conf=nan must lie between 0 and 1"):
            call(photo(0), conf=float("nan"))


# -- compiled, parallel -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("around", ["compile", "parallel"])
def test_a_yolo_whose_network_is_wrapped_by_torch_runs_its_network(
    around: str, router: ResolutionRouter, photos: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    def wrapped(net: nn.Module) -> Any:
        return torch.compile(net, backend="eager") if around == "compile" else nn.DataParallel(net)

    expected = [rows(r) for r in DualResWrapper(real_yolo(), router, target_high_rate=0.0).predict(photos[:3], **QUIET)]
    yolo = real_yolo()
    net = yolo.model
    yolo.model = wrapped(net)
    model = DualResWrapper(yolo, router, target_high_rate=0.0)
    assert all(np.array_equal(rows(r), e) for r, e in zip(model.predict(photos[:3], **QUIET), expected, strict=True))
    assert model.adapter.net is net and "is routed without its" in caplog.text
    assert adapt(wrapped(net)).detector is net
