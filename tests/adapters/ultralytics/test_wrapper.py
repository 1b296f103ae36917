"""The wrapper around a real YOLO: the host's own predict, val, track and results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("ultralytics")

from dualres_plugin import DualResWrapper, ResolutionRouter
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.decode import read_image
from dualres_plugin.profile.gains import iou_matrix
from tests.adapters.ultralytics.helpers import (
    data_yaml,
    random_yolo,
    real_yolo,
    rows,
    small_coco,
    val_photos,
    video,
)
from tests.fakes import lively_router

QUIET = {"verbose": False}


@pytest.fixture(scope="module")
def yolo() -> Any:
    return real_yolo()


def wrapper(yolo: Any, router: ResolutionRouter, rate: float = 0.5, **options: Any) -> DualResWrapper:
    return DualResWrapper(yolo, router, target_high_rate=rate, **options)


# -- predict ----------------------------------------------------------------------------------------------


def test_all_high_is_plain_predict_on_every_photo(yolo: Any, router: ResolutionRouter, photos: list[Path]) -> None:
    routed = wrapper(yolo, router, 1.0)
    for photo in photos:
        (a,), (b,) = routed.predict(photo, conf=0.001, **QUIET), yolo.predict(photo, conf=0.001, **QUIET)
        assert np.array_equal(rows(a), rows(b)) and len(rows(a))
        assert a.path == b.path and a.names == b.names and a.orig_shape == b.orig_shape
        assert a.dualres.route == "high"


def test_all_low_is_the_host_at_the_low_size_up_to_resampling(
    yolo: Any, router: ResolutionRouter, photos: list[Path]
) -> None:
    routed = wrapper(yolo, router, 0.0)
    agree = []
    for photo in photos:
        (a,), (b,) = routed.predict(photo, conf=0.4, **QUIET), yolo.predict(photo, conf=0.4, imgsz=320, **QUIET)
        assert a.dualres.route == "low"
        x, y = rows(a), rows(b)
        if len(y):
            overlap = iou_matrix(y[:, :4], x[:, :4]) * (y[:, 5:] == x[:, 5][None])
            agree += (overlap.max(axis=1, initial=0) > 0.8).tolist()
    assert len(agree) >= 8 and np.mean(agree) > 0.7


def test_mixed_routes_in_one_batch_come_back_in_order(yolo: Any, router: ResolutionRouter, photos: list[Path]) -> None:
    high, low, mixed = (
        wrapper(yolo, router, rate).predict(photos, batch=6, conf=0.3, **QUIET) for rate in (1.0, 0.0, 0.5)
    )
    assert {r.dualres.route for r in mixed} == {"high", "low"}
    for result, as_high, as_low, photo in zip(mixed, high, low, photos, strict=True):
        assert result.path == str(photo)
        same, other = (as_high, as_low) if result.dualres.route == "high" else (as_low, as_high)
        assert np.allclose(rows(result), rows(same), atol=0.05)
        assert rows(result).shape != rows(other).shape or not np.allclose(rows(result), rows(other), atol=0.05)


def test_the_route_is_the_routers(yolo: Any, router: ResolutionRouter, photos: list[Path]) -> None:
    routed = wrapper(yolo, router)
    results = routed.predict(photos, **QUIET)
    decision = routed.decide([read_image(p) for p in photos])
    spread = float(decision.scores.std())
    for i, result in enumerate(results):
        score = result.dualres.score
        assert abs(score - float(decision.scores[i])) < 0.3 * spread, "the host resizes with another filter"
        assert result.dualres.route == ("high" if score > routed.threshold else "low")
        assert result.dualres.threshold == routed.threshold
    assert (routed.log.images, routed.log.high) == (6, sum(r.dualres.route == "high" for r in results))


def test_sources_of_every_kind(yolo: Any, router: ResolutionRouter, photos: list[Path], tmp_path: Path) -> None:
    from PIL import Image

    routed = wrapper(yolo, router, 1.0)
    (expected,) = yolo.predict(photos[0], **QUIET)
    picture = read_image(photos[0])
    (tmp_path / "one.jpg").symlink_to(photos[0])
    for source in (str(photos[0]), picture[..., ::-1].copy(), Image.fromarray(picture), tmp_path, [photos[0]]):
        (result,) = routed.predict(source, **QUIET)
        assert np.allclose(rows(result), rows(expected), atol=0.5)
    streamed = routed.predict(photos[:3], stream=True, **QUIET)
    assert [r.dualres.route for r in streamed] == ["high"] * 3
    assert rows(routed(photos[0], **QUIET)[0]).shape == rows(expected).shape


def test_a_batch_tensor_as_source(yolo: Any, router: ResolutionRouter) -> None:
    tensor = torch.rand(2, 3, 64, 96)
    a = wrapper(yolo, router, 1.0).predict(tensor, conf=0.001, **QUIET)
    b = yolo.predict(tensor, conf=0.001, **QUIET)
    assert all(np.array_equal(rows(x), rows(y)) for x, y in zip(a, b, strict=True))


def test_the_high_size_can_be_chosen(yolo: Any, router: ResolutionRouter, photos: list[Path]) -> None:
    (a,) = wrapper(yolo, router, 1.0, high=320, low=160).predict(photos[1], **QUIET)
    (b,) = yolo.predict(photos[1], imgsz=320, **QUIET)
    assert np.array_equal(rows(a), rows(b))
    (c,) = wrapper(yolo, router, 1.0).predict(photos[1], imgsz=320, **QUIET)
    assert np.array_equal(rows(c), rows(b)), "a size given to predict wins"


def test_the_given_yolo_stays_as_it_was(router: ResolutionRouter, photos: list[Path]) -> None:
    yolo = real_yolo()
    before = {k: v.clone() for k, v in yolo.model.state_dict().items()}
    callbacks = {k: list(v) for k, v in yolo.callbacks.items()}
    overrides, network = dict(yolo.overrides), yolo.model
    routed = wrapper(yolo, router)
    routed.predict(photos[:2], **QUIET)
    assert yolo.model is network and yolo.predictor is None and yolo.overrides == overrides
    assert yolo.callbacks == callbacks
    after = yolo.model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    assert not hasattr(yolo.predict(photos[0], **QUIET)[0], "dualres")


def test_another_operating_point_takes_effect(yolo: Any, router: ResolutionRouter, photos: list[Path]) -> None:
    routed = wrapper(yolo, router, 0.0)
    routes = []
    for rate in (0.0, 1.0, 0.0):
        routed.set_operating_point(target_high_rate=rate)
        routes.append(routed.predict(photos[0], **QUIET)[0].dualres.route)
    assert routes == ["low", "high", "low"]


def test_what_the_host_shows_is_the_hosts(yolo: Any, router: ResolutionRouter) -> None:
    routed = wrapper(yolo, router)
    assert routed.names == yolo.names and routed.task == "detect"
    assert routed.device == yolo.device
    with pytest.raises(AttributeError):
        _ = routed.no_such_thing


# -- val ----------------------------------------------------------------------------------------------------


def test_val_at_rate_1_is_plain_val_and_falls_below_it(
    yolo: Any, router: ResolutionRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = str(data_yaml(tmp_path, 10))
    monkeypatch.chdir(tmp_path)  # the host writes runs/ and label caches
    options = {"data": data, "batch": 4, "plots": False, "workers": 0, "verbose": False}
    plain = real_yolo().val(imgsz=640, **options)
    routed = wrapper(yolo, router, 1.0)
    assert routed.val(**options).box.maps.tolist() == plain.box.maps.tolist()
    assert (routed.log.images, routed.log.high) == (10, 10)
    low = wrapper(yolo, router, 0.0)
    smaller = low.val(**options).box.map
    assert (low.log.images, low.log.high) == (10, 0)
    assert 0.5 * plain.box.map < smaller < plain.box.map
    half = wrapper(yolo, router, 0.5)
    assert smaller - 0.05 < half.val(**options).box.map <= plain.box.map + 0.05
    assert 0 < half.log.high < half.log.images == 10


# -- tracking -------------------------------------------------------------------------------------------------


def test_tracking_works_because_results_do(yolo: Any, router: ResolutionRouter, tmp_path: Path) -> None:
    pytest.importorskip("lap")
    source = video(tmp_path / "pan.avi")
    plain = [rows(r) for r in real_yolo().track(source, stream=True, **QUIET)]
    routed = list(wrapper(yolo, router, 1.0).track(source, stream=True, **QUIET))
    assert len(routed) == 6 and all(np.array_equal(rows(r), p) for r, p in zip(routed, plain, strict=True))
    low = list(wrapper(yolo, router, 0.0).track(source, stream=True, **QUIET))
    for results, route in ((routed, "high"), (low, "low")):
        assert all(r.dualres.route == route for r in results)
        ids = [set(r.boxes.id.int().tolist()) for r in results if r.boxes.id is not None]
        assert len(ids) >= 4 and set.intersection(*ids), "an object keeps its number through the video"


# -- fitting and plugging in ------------------------------------------------------------------------------------


def test_fit_then_predict_then_plug_into_another(photos: list[Path], tmp_path: Path) -> None:
    from dualres_plugin.train.config import TrainConfig

    config = TrainConfig(backbone="tiny@3", input_size=32, epochs=2, batch=8)
    data, images = small_coco(tmp_path / "set", 6)
    model = DualResWrapper(real_yolo(), high=320)
    model.fit(data, images, views=2, config=config, out=tmp_path / "fit", progress=False)
    results = model.predict(photos, **QUIET)
    assert {r.dualres.route for r in results} <= {"high", "low"} and len(results) == 6
    assert model.router.info["trained_on"][0]["host"] == "ultralytics"
    model.router.save(tmp_path / "router")
    other = DualResWrapper(random_yolo("yolov6n.yaml"), router=tmp_path / "router", high=320)
    again = other.predict(photos, **QUIET)
    assert [r.dualres.score for r in again] == pytest.approx([r.dualres.score for r in results], abs=1e-4)


def test_fit_on_a_data_yaml(tmp_path: Path) -> None:
    from dualres_plugin.train.config import TrainConfig

    config = TrainConfig(backbone="tiny@3", input_size=32, epochs=1, batch=8)
    model = DualResWrapper(real_yolo(), high=320)
    model.fit(data_yaml(tmp_path, 4), split="val", views=1, config=config, progress=False)
    assert len(model.router.quantiles) == 101


def test_a_pair_of_networks(yolo: Any, router: ResolutionRouter, photos: list[Path]) -> None:
    small = random_yolo("yolov8n.yaml")
    with pytest.raises(DualResError, match="must know the same classes"):
        DualResWrapper(yolo, router, low_detector=small)
    small.model.names = yolo.model.names
    pair = DualResWrapper(yolo, router, low_detector=small, target_high_rate=1.0)
    (a,), (b,) = pair.predict(photos[0], **QUIET), yolo.predict(photos[0], **QUIET)
    assert np.array_equal(rows(a), rows(b))
    pair.set_operating_point(target_high_rate=0.0)
    assert len(rows(pair.predict(photos[0], **QUIET)[0])) == 0, "the random small network finds nothing"
    mixed = wrapper(yolo, router, 0.5, low_detector=small).predict(photos, batch=6, **QUIET)
    assert all((len(rows(r)) > 0) <= (r.dualres.route == "high") for r in mixed)


# -- what cannot be done ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"augment": True}, {"embed": [1]}])
def test_options_that_would_bypass_the_routing_are_refused(
    yolo: Any, router: ResolutionRouter, photos: list[Path], options: dict[str, Any]
) -> None:
    model = wrapper(yolo, router, 1.0)
    for _ in range(2):  # also with the predictor that the first call has made
        with pytest.raises(DualResError, match="not available on a routed detector"):
            model.predict(photos[0], **options, **QUIET)
        (a,) = model.predict(photos[0], **QUIET)
    (b,) = yolo.predict(photos[0], **QUIET)
    assert np.array_equal(rows(a), rows(b))


def test_without_a_router(yolo: Any, photos: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    (result,) = DualResWrapper(yolo).predict(photos[0], **QUIET)
    assert result.dualres.route in ("high", "low") and np.isfinite(result.dualres.score)
    assert "no router was named" in caplog.text and "model.fit(" in caplog.text


@pytest.mark.shared
def test_a_rate_is_held_on_real_photos_that_the_calibration_did_not_expect() -> None:
    photos = val_photos(12)
    router = lively_router(photos)
    router.calibrate([q + 1e3 for q in router.quantiles])
    fixed = DualResWrapper(real_yolo(), router, target_high_rate=0.25)
    assert not fixed.decide([read_image(p) for p in photos]).high.any()
    held = DualResWrapper(real_yolo(), router, target_high_rate=0.25, hold_rate=True, high=320)
    results = held.predict([str(photo) for photo in photos * 6], verbose=False, batch=1)
    high = sum(result.dualres.route == "high" for result in results)
    assert high / len(results) == pytest.approx(0.25, abs=0.05) and held.controller is not None
    assert (held.controller.state.images, held.controller.state.high) == (len(results), high)
    held.decide([read_image(p) for p in photos])
    assert held.controller.state.images == len(results) + len(photos), "the same stream goes on"
