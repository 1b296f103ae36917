"""The Ultralytics adapter and its callback form, with random weights where no real ones are needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("ultralytics")

from dualres_plugin import DualResWrapper, ResolutionRouter
from dualres_plugin.adapters.ultralytics import UltralyticsAdapter, attach, detach
from dualres_plugin.adapters.ultralytics.batch import content_box
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images import read_image
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


def test_augment_says_so_as_it_would_bypass_the_routing(router: ResolutionRouter) -> None:
    yolo = attach(random_yolo(), router)
    for options in ({"augment": True}, {"embed": [1]}):
        with pytest.raises(DualResError, match="not available on a routed detector"):
            yolo.predict(PICTURES[0], imgsz=96, **QUIET, **options)
        yolo.predictor = None


# -- loading ------------------------------------------------------------------------------------------------


def test_an_absent_yolov6n_says_where_such_a_file_comes_from() -> None:
    for use in (lambda: load_detector("yolov6n.pt"), lambda: DualResWrapper("ultralytics:runs/yolov6n.pt")):
        with pytest.raises(DualResError, match=r"ships yolov6n\.yaml only.*train_ultralytics\.py.*Meituan"):
            use()


def test_files_that_are_no_detector(tmp_path: Path) -> None:
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(DualResError, match=r"cannot load '.*junk\.pt'"):
        load_detector(str(tmp_path / "junk.pt"))
    with pytest.raises(DualResError, match=r"cannot load .*none\.pt"):
        load_detector(str(tmp_path / "none.pt"))
    with pytest.raises(DualResError, match=r"take no options, got \['classes'\]"):
        load_detector("ultralytics:yolov8n.yaml,classes=3")


@pytest.mark.parametrize("config", ["yolov8n-seg.yaml", "yolov8n-pose.yaml", "yolov8n-cls.yaml"])
def test_other_tasks_are_refused(config: str) -> None:
    from ultralytics import YOLO

    with pytest.raises(DualResError, match="routes object detectors"):
        adapt(YOLO(config))


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


def test_an_exported_model_is_refused() -> None:
    # What `YOLO("m.engine")` looks like; loading a real one needs its runtime.
    exported = type("YOLO", (), {"__module__": "ultralytics.models.yolo.model", "model": "m.engine", "names": {}})()
    with pytest.raises(DualResError, match=r"'m\.engine' is an exported model.*load the \.pt"):
        adapt(exported)


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


def test_batches_are_letterboxed_as_predict_does_it() -> None:
    yolo = random_yolo()
    adapter = UltralyticsAdapter(yolo)
    taken: list[torch.Tensor] = []
    hook = None

    def remember(predictor: Any) -> None:
        nonlocal hook
        model = predictor.model.backend.model
        hook = model.register_forward_pre_hook(lambda module, args: taken.append(args[0].clone()))

    yolo.add_callback("on_predict_start", remember)
    for size in ((90, 120), (120, 90), (33, 200), (64, 64)):
        picture = photo(3, size)
        yolo.predict(picture[..., ::-1].copy(), imgsz=128, **QUIET)
        assert torch.allclose(adapter.collate([picture], 128).images, taken[-1], atol=1e-6)
        assert adapter.input_shape(size, 128) == tuple(taken[-1].shape[2:])


@settings(max_examples=40)
@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([64, 96, 128]), st.booleans(), st.integers(0, 20))
def test_the_border_is_found_whatever_the_shape(h: int, w: int, size: int, square: bool, seed: int) -> None:
    from ultralytics.data.augment import LetterBox

    box = LetterBox(size, auto=not square, stride=32)
    marker = np.full((h, w, 3), 200, np.uint8)
    seen = np.argwhere((box(image=marker) == 200).all(axis=2))
    (y0, x0), (y1, x1) = seen.min(axis=0), seen.max(axis=0) + 1
    picture = np.clip(photo(seed, (h, w)), 130, 255)
    tensor = torch.from_numpy(box(image=picture)).permute(2, 0, 1).float() / 255
    assert content_box(tensor) == (x0, y0, x1, y1)


@pytest.mark.parametrize("edge", ["top", "bottom", "left", "right", "all", "middle"])
def test_photos_with_grey_edges_of_their_own_keep_them(edge: str) -> None:
    """The letterbox pads both sides alike, so grey on one side more than on the other is the photo's."""
    from ultralytics.data.augment import LetterBox

    picture = np.clip(photo(5, (60, 100)), 130, 255)
    grey = {
        "top": np.s_[:20],
        "bottom": np.s_[-20:],
        "left": np.s_[:, :20],
        "right": np.s_[:, -20:],
        "all": np.s_[:],
        "middle": np.s_[20:30],
    }
    picture[grey[edge]] = 114
    tensor = torch.from_numpy(LetterBox(96, auto=False)(image=picture)).permute(2, 0, 1).float() / 255
    x0, y0, x1, y1 = content_box(tensor)
    if edge == "all":
        assert (x0, y0, x1, y1) == (0, 0, 96, 96)
    else:
        assert abs(x0) <= 1 and abs(x1 - 96) <= 1 and abs(y0 - 19) <= 1 and abs(y1 - 77) <= 1


def test_the_loss_is_the_hosts_own() -> None:
    """Against `DetectionModel.loss` on a batch that the host's own transforms made."""
    from ultralytics.data.augment import LetterBox
    from ultralytics.utils import DEFAULT_CFG
    from ultralytics.utils.instance import Instances

    yolo = random_yolo()
    adapter = UltralyticsAdapter(yolo)
    net = yolo.model.eval()
    net.args = DEFAULT_CFG
    for size in ((90, 120), (128, 70), (128, 128)):
        picture = photo(1, size)
        boxes = np.array([[5, 6, 50, 60], [30, 20, size[1], size[0]]], np.float32)
        target = Targets(boxes, np.array([3, 7]))
        mine = float(adapter.losses(adapter.collate([picture], 128, [target]))[0])
        labels = {
            "img": picture,
            "instances": Instances(
                boxes.copy(), np.zeros((0, 1000, 2), np.float32), bbox_format="xyxy", normalized=False
            ),
            "cls": target.labels,
        }
        made = LetterBox(128, auto=True)(labels)
        made["instances"].convert_bbox("xywh")
        h, w = made["img"].shape[:2]
        batch = {
            "img": torch.from_numpy(made["img"]).permute(2, 0, 1)[None].float() / 255,
            "batch_idx": torch.zeros(2),
            "cls": torch.tensor([3.0, 7.0]),
            "bboxes": torch.from_numpy(made["instances"].bboxes / [w, h, w, h]).float(),
        }
        with torch.no_grad():
            theirs = float(net.loss(batch)[0].sum())
        assert mine == pytest.approx(theirs, rel=2e-3)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_the_loss_of_an_image_does_not_depend_on_its_batch(count: int) -> None:
    """Real predictions, crowded and empty images side by side, tiny and overlapping objects."""
    adapter = UltralyticsAdapter(real_yolo())
    rng = np.random.default_rng(count)
    targets = []
    for n in (count, 0, 3 * count):
        corners = rng.uniform(0, 90, (n, 2))
        boxes = np.concatenate((corners, corners + rng.uniform(0.5, 60, (n, 2))), axis=1).astype(np.float32)
        targets.append(Targets(boxes, rng.integers(0, 80, n)))
    pictures = [photo(i, (128, 160)) for i in range(3)]
    together = adapter.losses(adapter.collate(pictures, 160, targets))
    alone = [float(adapter.losses(adapter.collate([p], 160, [t]))[0]) for p, t in zip(pictures, targets)]
    assert together.tolist() == pytest.approx(alone, rel=1e-3)


def test_the_low_loss_of_a_labelled_batch_uses_the_same_labels() -> None:
    adapter = UltralyticsAdapter(random_yolo())
    target = Targets(np.array([[10, 10, 70, 80]], np.float32), np.array([2]))
    picture = [photo(2, (200, 200))]
    small = adapter.resize(adapter.collate(picture, 128, [target]), torch.arange(1), 0.5)
    direct = adapter.collate(picture, 64, [target])
    assert small.images.shape == direct.images.shape
    assert float(adapter.losses(small)[0]) == pytest.approx(float(adapter.losses(direct)[0]), rel=0.05)


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
