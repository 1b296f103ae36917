"""The Ultralytics adapter and its callback form, with random weights where no real ones are needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("ultralytics")

from dualres_plugin import DualResWrapper, ResolutionRouter
from dualres_plugin.adapters.ultralytics import UltralyticsAdapter, attach, detach
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.decode import read_image
from dualres_plugin.common.types import Targets
from dualres_plugin.hosts.registry import adapt, load_detector
from tests.adapters.ultralytics.helpers import random_yolo, real_yolo, rows, val_photos
from tests.fakes import lively_router, photo

QUIET = {"verbose": False}
PICTURES = [photo(i, (90, 120)) for i in range(6)]


@pytest.fixture(scope="module")
def router() -> ResolutionRouter:
    return lively_router(PICTURES)


# -- the callback form --------------------------------------------------------------------------------------


def test_attach_routes_and_detach_restores_exactly() -> None:
    yolo, photos = real_yolo(), val_photos(4)
    router = lively_router(photos)
    plain = [rows(r) for r in yolo.predict(photos, **QUIET)]
    before = {k: v.clone() for k, v in yolo.model.state_dict().items()}
    members, callbacks = set(yolo.__dict__), {k: list(v) for k, v in yolo.callbacks.items()}
    assert attach(yolo, router, target_high_rate=0.5) is yolo
    routed = yolo.predict(photos, **QUIET)
    assert {r.dualres.route for r in routed} == {"high", "low"}
    for result, expected in zip(routed, plain):
        same = rows(result).shape == expected.shape and np.allclose(rows(result), expected, atol=0.05)
        assert same == (result.dualres.route == "high")
    detach(yolo)
    assert set(yolo.__dict__) == members and yolo.callbacks == callbacks
    assert all(torch.equal(v, before[k]) for k, v in yolo.model.state_dict().items())
    again = yolo.predict(photos, **QUIET)
    assert all(np.array_equal(rows(r), p) for r, p in zip(again, plain, strict=True))
    assert not any(hasattr(r, "dualres") for r in again)


def test_attach_takes_a_folder_and_refuses_to_stack(router: ResolutionRouter, tmp_path: Path) -> None:
    yolo = random_yolo()
    attach(yolo, router.save(tmp_path / "router"), threshold=float("-inf"))
    (result,) = yolo.predict(PICTURES[0], imgsz=96, **QUIET)
    assert result.dualres.route == "high" and result.dualres.threshold == float("-inf")
    with pytest.raises(DualResError, match=r"call detach\(yolo\) first"):
        attach(yolo, router)
    detach(detach(yolo))
    attach(yolo, router, target_high_rate=0.0)
    assert yolo.predict(PICTURES[0], imgsz=96, **QUIET)[0].dualres.route == "low"


def test_a_failed_attach_leaves_nothing(router: ResolutionRouter, tmp_path: Path) -> None:
    yolo = random_yolo()
    callbacks = {k: list(v) for k, v in yolo.callbacks.items()}
    with pytest.raises(DualResError, match="does not exist"):
        attach(yolo, tmp_path / "none")
    assert yolo.callbacks == callbacks and not hasattr(yolo, "_dualres")
    attach(yolo, router)


def test_users_callbacks_keep_working(router: ResolutionRouter) -> None:
    yolo = random_yolo()
    seen: list[Any] = []

    def mine(predictor: Any) -> None:
        seen.extend(r.dualres.route for r in predictor.results)

    yolo.add_callback("on_predict_batch_end", lambda predictor: None)
    attach(yolo, router)
    yolo.add_callback("on_predict_batch_end", mine)
    yolo.predict(PICTURES, imgsz=96, **QUIET)
    assert len(seen) == 6
    detach(yolo)
    assert yolo.callbacks["on_predict_batch_end"][-1] is mine


def test_detach_after_the_callbacks_were_reset(router: ResolutionRouter) -> None:
    yolo = attach(random_yolo(), router)
    yolo.reset_callbacks()
    detach(yolo)
    (result,) = yolo.predict(PICTURES[0], imgsz=96, **QUIET)
    assert not hasattr(result, "dualres")


def test_augment_says_so_as_it_would_bypass_the_routing(router: ResolutionRouter) -> None:
    yolo = attach(random_yolo(), router)
    for options in ({"augment": True}, {"embed": [1]}):
        with pytest.raises(DualResError, match="not available on a routed detector"):
            yolo.predict(PICTURES[0], imgsz=96, **QUIET, **options)
        yolo.predictor = None


# -- loading ------------------------------------------------------------------------------------------------


def test_rt_detr_is_refused_by_every_way_in(router: ResolutionRouter, tmp_path: Path) -> None:
    from ultralytics import RTDETR, YOLO

    detector = RTDETR("rtdetr-l.yaml")
    saved = tmp_path / "rtdetr.pt"
    detector.save(saved)
    ways: list[Callable[[], Any]] = [
        lambda: adapt(detector),
        lambda: DualResWrapper(YOLO("rtdetr-l.yaml", task="detect"), router),
        lambda: attach(detector, router),
        lambda: load_detector(f"ultralytics:{saved}"),
    ]
    for way in ways:
        with pytest.raises(DualResError, match="this is an RT-DETR"):
            way()


def test_a_bare_network_can_be_profiled_but_not_predicted_with(router: ResolutionRouter) -> None:
    net = random_yolo().model
    adapter = adapt(net)
    assert adapter.name == "ultralytics" and adapter.macs((96, 96)) > 0
    with pytest.raises(DualResError, match="wrap the YOLO object"):
        DualResWrapper(net, router).predict(PICTURES[0])


@pytest.mark.parametrize("config", ["yolov6n.yaml", "yolov5n.yaml", "yolo11n.yaml", "yolo26n.yaml"])
def test_families(config: str, router: ResolutionRouter) -> None:
    yolo = random_yolo(config)
    adapter = adapt(yolo)
    target = Targets(np.array([[10, 10, 60, 60]], np.float32), np.array([1]))
    batch = adapter.collate(PICTURES[:2], 96, [target, target])
    found, losses = adapter.profile_pass(batch, True)
    assert len(found) == 2 and losses is not None and torch.isfinite(losses).all() and (losses > 0).all()
    results = DualResWrapper(yolo, router, high=96).predict(PICTURES, batch=6, **QUIET)
    assert len({r.dualres.route for r in results}) == 2


# -- compute, preprocessing, losses -----------------------------------------------------------------------------


def test_compute_is_half_of_what_the_host_prints() -> None:
    yolo = random_yolo("yolo11n.yaml")
    flops = yolo.info(detailed=False, verbose=True)[3]  # the host counts 2 FLOPs per multiply-accumulate
    assert 2 * UltralyticsAdapter(yolo).macs((640, 640)) == pytest.approx(flops, rel=0.03)
    assert UltralyticsAdapter(yolo).macs((640, 640)) == pytest.approx(3.2, abs=0.15)


def test_detections_equal_predict_at_the_evaluation_settings() -> None:
    yolo, adapter = real_yolo(), UltralyticsAdapter(real_yolo())
    for path in val_photos(3):
        batch = adapter.collate([read_image(path)], 640)
        (found,), _ = adapter.profile_pass(batch, False)
        (result,) = yolo.predict(path, conf=0.001, iou=0.7, max_det=300, **QUIET)
        expected = rows(result)
        sure = expected[:, 4] > 0.05
        assert len(found) == pytest.approx(len(expected), abs=3)
        assert np.allclose(found.boxes[: sure.sum()], expected[sure, :4], atol=1.0)
        assert np.allclose(found.scores[: sure.sum()], expected[sure, 4], atol=0.01)
        assert (found.labels[: sure.sum()] == expected[sure, 5]).mean() > 0.95


def test_a_size_off_the_stride_is_rounded_up_as_the_host_does() -> None:
    adapter = adapt(random_yolo())
    assert [adapter.host_size(size) for size in (96, 97, 100, 128, 1)] == [96, 128, 128, 128, 32]
    assert adapter.input_shape((90, 120), 100) == adapter.input_shape((90, 120), 128) == (96, 128)
    batch = adapter.collate(PICTURES[:1], 100)
    assert tuple(batch.images.shape[2:]) == (96, 128)
    found = adapter.detections(adapter.predict(batch), batch)
    assert len(found) == 1
