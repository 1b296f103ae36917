"""Torchvision's detectors through the wrapper: their dicts, their sizes, their losses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dualres_plugin import DualResWrapper, ResolutionRouter
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.photo import router_images_of
from dualres_plugin.common.types import Targets
from dualres_plugin.hosts.registry import adapt
from tests.contract.hosts import demo_model, torchvision_model
from tests.fakes import forced, lively_router, photo, write_coco

PICTURES = [photo(i, ((90, 120), (120, 90), (64, 160))[i % 3]) for i in range(6)]
TENSORS = [torch.from_numpy(p.copy()).permute(2, 0, 1).float() / 255 for p in PICTURES]
FEW = {"rpn_pre_nms_top_n_test": 60, "rpn_post_nms_top_n_test": 30}

# Each builds the same network at its own default size, or at a low one: (build, high, low) in the host's own words.
FAMILIES: dict[str, tuple[Callable[..., nn.Module], dict[str, Any], dict[str, Any]]] = {
    "fasterrcnn": (
        lambda **o: torchvision_model("fasterrcnn_mobilenet_v3_large_320_fpn", box_score_thresh=0.0, **FEW, **o),
        {"min_size": 128, "max_size": 256},
        {"min_size": 64, "max_size": 128},
    ),
    "retinanet": (
        lambda **o: torchvision_model("retinanet_resnet50_fpn", score_thresh=0.0, topk_candidates=40, **o),
        {"min_size": 128, "max_size": 256},
        {"min_size": 64, "max_size": 128},
    ),
}


@pytest.fixture(scope="module")
def router() -> ResolutionRouter:
    return lively_router(PICTURES)


@pytest.fixture(scope="module")
def rcnn() -> nn.Module:
    build, high, _ = FAMILIES["fasterrcnn"]
    return build(**high)


def identical(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# -- sizes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_all_low_is_exactly_the_host_built_at_the_low_size(family: str, router: ResolutionRouter) -> None:
    build, high, low = FAMILIES[family]
    detector = build(**high).eval()
    small = build(**low).eval()
    small.load_state_dict(detector.state_dict())
    routed = DualResWrapper(detector, router, low=0.5, target_high_rate=0.0).predict(TENSORS[:3])
    with torch.no_grad():
        expected = small(TENSORS[:3])
    assert all(identical(dict(a), b) and len(b["boxes"]) for a, b in zip(routed, expected, strict=True))


def test_all_low_of_a_fixed_size_is_the_host_at_that_size(router: ResolutionRouter) -> None:
    detector = torchvision_model("ssdlite320_mobilenet_v3_large", score_thresh=0.0, topk_candidates=40).eval()
    small = copy.deepcopy(detector)
    small.transform.fixed_size = (160, 160)
    routed = DualResWrapper(detector, router, low=160, target_high_rate=0.0).predict(TENSORS[:3])
    with torch.no_grad():
        expected = small(TENSORS[:3])
    assert all(identical(dict(a), b) for a, b in zip(routed, expected, strict=True))
    assert detector.transform.fixed_size == (320, 320)


def test_a_high_size_of_its_own(rcnn: nn.Module, router: ResolutionRouter) -> None:
    build, _, _ = FAMILIES["fasterrcnn"]
    larger = build(min_size=160, max_size=320).eval()
    larger.load_state_dict(rcnn.state_dict())
    routed = DualResWrapper(rcnn, router, high=160, low=80, target_high_rate=1.0).predict(TENSORS[:2])
    with torch.no_grad():
        assert all(identical(dict(a), b) for a, b in zip(routed, larger(TENSORS[:2]), strict=True))
    assert adapt(rcnn).default_size == 128 and rcnn.transform.min_size == (128,)


@pytest.mark.parametrize("size", [64, 128, 200])
def test_the_input_shape_is_what_the_network_gets(size: int, rcnn: nn.Module) -> None:
    adapter = adapt(rcnn)
    for picture in PICTURES[:3]:
        seen: list[tuple[int, ...]] = []
        batch = adapter.collate([picture], size)
        net = adapter._net(batch)  # type: ignore[attr-defined]
        hook = net.backbone.register_forward_pre_hook(lambda m, args, seen=seen: seen.append(tuple(args[0].shape[2:])))
        adapter.predict(batch)
        hook.remove()
        assert seen[0] == adapter.input_shape(picture.shape[:2], size)


# -- calling ----------------------------------------------------------------------------------------------------


def test_the_wrapped_detector_is_called_like_the_plain_one(rcnn: nn.Module, router: ResolutionRouter) -> None:
    rcnn.eval()
    with torch.no_grad():
        expected = rcnn(TENSORS)
    routed = DualResWrapper(rcnn, router, target_high_rate=1.0)
    found = routed.host(TENSORS)
    assert isinstance(found, list) and isinstance(found[0], dict)
    assert all(identical(dict(a), b) for a, b in zip(found, expected, strict=True))
    assert all(r.dualres.route == "high" for r in found)
    assert routed.host([]) == []


def test_sources_of_every_kind(rcnn: nn.Module, router: ResolutionRouter, tmp_path: Path) -> None:
    from PIL import Image

    for i, picture in enumerate(PICTURES[:3]):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    routed = DualResWrapper(rcnn, router, target_high_rate=1.0)
    expected = routed.predict(TENSORS[:3], batch=1)
    for source in (PICTURES[:3], tmp_path, str(tmp_path / "*.png"), [tmp_path / f"{i}.png" for i in range(3)]):
        found = routed.predict(source, batch=1)
        assert all(identical(dict(a), dict(b)) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("batch", [1, 4, 8])
def test_mixed_routes_come_back_in_order(batch: int, rcnn: nn.Module, router: ResolutionRouter) -> None:
    alike = [photo(i, (90, 120)) for i in range(6)]  # others are padded to the largest of their batch by the host
    found = DualResWrapper(rcnn, router).predict(alike, batch=batch)
    assert {r.dualres.route for r in found} == {"high", "low"}
    for picture, result in zip(alike, found, strict=True):
        rate = 1.0 if result.dualres.route == "high" else 0.0
        (alone,) = DualResWrapper(rcnn, router, target_high_rate=rate).predict(picture)
        assert result["boxes"].shape == alone["boxes"].shape
        assert torch.allclose(result["scores"], alone["scores"], atol=1e-3)
        assert torch.allclose(result["boxes"], alone["boxes"], atol=0.1)


def test_tensors_go_in_as_they_are(rcnn: nn.Module, router: ResolutionRouter) -> None:
    """Not through eight bits a channel, as files do."""
    torch.manual_seed(3)
    fine = torch.rand(3, 90, 120)
    rcnn.eval()
    with torch.no_grad():
        expected = rcnn([fine])
    for source in (fine, [fine]):
        found = DualResWrapper(rcnn, router, target_high_rate=1.0).predict(source)
        assert identical(dict(found[0]), expected[0])


def test_unknown_options_are_named(rcnn: nn.Module, router: ResolutionRouter) -> None:
    with pytest.raises(DualResError, match=r"torchvision's predict knows batch, size and stream, not \['conf'\]"):
        DualResWrapper(rcnn, router).predict(TENSORS, conf=0.5)


def test_a_pair_of_networks(rcnn: nn.Module, router: ResolutionRouter) -> None:
    build, _, low = FAMILIES["fasterrcnn"]
    torch.manual_seed(5)
    other = build(**low).eval()
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.01 * torch.randn_like(p))
        expected = other(TENSORS[:2])
    pair = DualResWrapper(rcnn, router, low_detector=other, low=0.5, target_high_rate=0.0)
    assert all(identical(dict(a), b) for a, b in zip(pair.predict(TENSORS[:2]), expected, strict=True))


# -- fitting ------------------------------------------------------------------------------------------------------


def test_fit_on_a_detector_fresh_from_the_library(tmp_path: Path) -> None:
    from dualres_plugin.train.config import TrainConfig

    build, high, _ = FAMILIES["fasterrcnn"]
    detector = build(**high)
    assert detector.training, "that is how torchvision hands it out"
    before = {k: v.clone() for k, v in detector.state_dict().items()}
    names = {1: "square", 2: "disc", 3: "star"}
    data, images = write_coco(tmp_path, 10, [(90, 120), (120, 90)], categories=names)
    config = TrainConfig(backbone="tiny@3", input_size=32, epochs=1, batch=8, gain="loss")
    model = DualResWrapper(detector).fit(data, images, views=2, config=config, progress=False)
    assert len(model.predict(TENSORS[:2])) == 2
    assert all(torch.equal(v, before[k]) for k, v in detector.state_dict().items())
    assert model.router.info["trained_on"][0]["host"] == "torchvision"


def test_a_router_of_another_host_plugs_in(rcnn: nn.Module, router: ResolutionRouter, tmp_path: Path) -> None:
    """The score depends on the photo alone, so a router made with one host serves another."""
    router.save(tmp_path / "router")
    model = DualResWrapper(rcnn, tmp_path / "router")
    found = model.predict(PICTURES)
    expected = router.score(router_images_of(PICTURES))
    assert torch.allclose(torch.tensor([r.dualres.score for r in found]), expected, atol=1e-3)


# -- losses -------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_sum_of_the_hosts_own() -> None:
    detector = demo_model()
    adapter = adapt(detector)
    boxes = np.array([[10, 10, 60, 70], [30, 20, 110, 80]], np.float32)
    target = Targets(boxes, np.array([2, 5]))
    (mine,) = adapter.losses(adapter.collate([PICTURES[0]], adapter.default_size, [target])).tolist()
    net = copy.deepcopy(detector).train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    net.transform.training = False
    labels = [{"boxes": torch.from_numpy(boxes), "labels": torch.tensor([2, 5])}]
    with torch.no_grad():
        theirs = float(sum(net([TENSORS[0]], labels).values()))
    assert mine == pytest.approx(theirs, rel=1e-4)


def test_boxes_that_vanish_at_the_low_size_do_not_stop_a_profile(rcnn: nn.Module) -> None:
    adapter = adapt(rcnn)
    target = Targets(
        np.array([[10, 10, 10.5, 10.5], [-20, -20, -5, -5], [5, 5, 50, 50]], np.float32), np.array([1, 2, 3])
    )
    batch = adapter.collate([PICTURES[0]], 128, [target])
    small = adapter.resize(batch, torch.arange(1), 0.1)
    assert torch.isfinite(adapter.losses(small)).all()


# -- the embedded default ----------------------------------------------------------------------------------------------


def test_the_demo_detector_finds_what_the_scenes_show(tmp_path: Path) -> None:
    from dualres_plugin.demo.detector import HIGH_SIZE, LOW_SIZE
    from dualres_plugin.demo.scenes import write_coco as write_scenes
    from dualres_plugin.profile.build import ProfileSettings, build_profile
    from dualres_plugin.profile.coco_ap import MixedAP
    from dualres_plugin.profile.data.dataset import load_dataset

    annotations, images = write_scenes(tmp_path / "scenes", "val", 16, seed=11)
    settings = ProfileSettings(HIGH_SIZE, LOW_SIZE / HIGH_SIZE)
    dataset = load_dataset(annotations, images)
    profile = build_profile(adapt(demo_model(True)), dataset, tmp_path / "p", settings, progress=False)
    low, high = MixedAP(profile).ends()
    assert high > low + 0.05 and high > 0.3


def test_forced_routes_reach_the_raw_module(rcnn: nn.Module) -> None:
    told: list[float] = []
    routed = adapt(rcnn).wrap(forced([True, False]), 0.5, lambda decision: told.append(decision.rate))
    found = routed(TENSORS[:2])
    assert [r.dualres.route for r in found] == ["high", "low"] and told == [0.5]


# -- what strangers tripped over --------------------------------------------------------------------------------


def test_the_wrapped_model_knows_its_high_size_from_the_start(rcnn: nn.Module, router: ResolutionRouter) -> None:
    model = DualResWrapper(rcnn, router, high=160, threshold=float("-inf"))
    first = model.host(TENSORS[:1])[0]
    model.predict(TENSORS[:1], size=128)  # of this call alone
    assert identical(first, model.host(TENSORS[:1])[0]) and identical(first, model.predict(TENSORS[:1])[0])
    build, _, _ = FAMILIES["fasterrcnn"]
    plain = build(min_size=160, max_size=320)
    plain.load_state_dict(rcnn.state_dict())
    with torch.no_grad():
        assert identical(first, plain.eval()(TENSORS[:1])[0])


def test_ssd_runs_at_its_default_low_size(router: ResolutionRouter) -> None:
    ssd = torchvision_model("ssd300_vgg16", score_thresh=0.0, topk_candidates=20)
    model = DualResWrapper(ssd, router, threshold=float("inf"))
    assert model.scale > 0.5 and len(model.predict(PICTURES[0])[0]["boxes"])
    with pytest.raises(DualResError, match=r"fails at the low size, 150 px \(high is 300 px\), on any photo"):
        DualResWrapper(ssd, router, low=150, threshold=float("inf")).predict(PICTURES[0])


def test_a_model_in_training_mode_goes_on_training(router: ResolutionRouter) -> None:
    build, high, _ = FAMILIES["fasterrcnn"]
    rcnn = build(**high)
    expected = DualResWrapper(rcnn.eval(), router, threshold=0.0).predict(PICTURES)
    found = DualResWrapper(rcnn.train(), router, threshold=0.0).predict(PICTURES)
    assert all(identical(a, b) for a, b in zip(expected, found))
    assert rcnn.training and rcnn.backbone.training


def test_whole_numbers_and_swapped_axes_are_refused(rcnn: nn.Module, router: ResolutionRouter) -> None:
    model = DualResWrapper(rcnn, router, threshold=0.0)
    for wrong in (np.zeros((3, 90, 120), np.uint8), torch.zeros(3, 90, 120, dtype=torch.uint8), 255 * TENSORS[0]):
        with pytest.raises(DualResError, match="must"):
            model.predict([wrong])


def test_the_size_of_a_call_is_of_that_call_alone(rcnn: nn.Module, router: ResolutionRouter) -> None:
    """Two streams at sizes of their own, read in turn, as two threads may do."""
    model = DualResWrapper(rcnn, router, threshold=float("-inf"))
    alone = {size: list(model.predict(PICTURES[:3], size=size, batch=1)) for size in (128, 160)}
    both = {size: model.predict(PICTURES[:3], size=size, batch=1, stream=True) for size in alone}
    for small, large, first, second in zip(both[128], both[160], alone[128], alone[160], strict=True):
        assert identical(small, first) and identical(large, second)
    with pytest.raises(DualResError, match="size=0 must be at least 1"):
        model.predict(PICTURES[0], size=0)


@pytest.mark.parametrize("name", ["maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn"])
def test_masks_and_keypoints_come_along(name: str, router: ResolutionRouter) -> None:
    """The model pastes them into the photo itself, at either size."""
    key = "masks" if name.startswith("mask") else "keypoints"
    net = torchvision_model(name, box_score_thresh=0.0, box_detections_per_img=5, **FEW, min_size=128, max_size=256)
    net.eval()
    with torch.no_grad():
        (expected,) = net(TENSORS[:1])
    high, low = (DualResWrapper(net, router, threshold=t).predict(PICTURES[0])[0] for t in (-1e9, 1e9))
    assert identical(high, expected) and len(low[key])
    if key == "masks":
        assert low[key].shape[2:] == TENSORS[0].shape[1:]
    else:
        points = low[key][..., :2]
        assert float(points.min()) >= 0 and float(points[..., 0].max()) <= 120 and float(points[..., 1].max()) <= 90


def test_a_routed_model_in_training_mode_says_what_to_do(rcnn: nn.Module, router: ResolutionRouter) -> None:
    rcnn.eval()
    host = DualResWrapper(rcnn, router, threshold=0.0).host
    with pytest.raises(DualResError, match="only predicts"):
        host.train()(TENSORS[:1], [{}])
    assert not rcnn.training and len(host.eval()(TENSORS[:1], [{}])) == 1


def test_a_swapped_pair_is_refused(rcnn: nn.Module) -> None:
    build, _, low = FAMILIES["fasterrcnn"]
    with pytest.raises(DualResError, match="built for 128 px, the high one for 64 px: swap"):
        DualResWrapper(build(**low), low_detector=rcnn)


def test_a_low_size_in_pixels_is_that_size_at_any_high_size(
    rcnn: nn.Module, router: ResolutionRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = DualResWrapper(rcnn, router, low=96, threshold=float("inf"))
    scales: list[float] = []
    resize = type(model.adapter).resize
    monkeypatch.setattr(
        type(model.adapter), "resize", lambda self, b, i, scale: scales.append(scale) or resize(self, b, i, scale)
    )
    for size in (128, 160, 192):
        model.predict(TENSORS[:1], size=size)
    assert [round(size * scale) for size, scale in zip((128, 160, 192), scales[-3:])] == [96, 96, 96]
    with pytest.raises(DualResError, match="which is 96 pixels here"):
        model.predict(TENSORS[:1], size=96)
