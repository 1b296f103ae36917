"""effdet: shared weights at two sizes, pairs of networks, the host's own calls and losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("effdet")

from dualres_plugin import DualResWrapper, ResolutionRouter
from dualres_plugin.adapters.effdet.adapter import EffdetAdapter
from dualres_plugin.common.errors import DualResError
from dualres_plugin.hosts.registry import adapt
from dualres_plugin.hosts.routing import run_routed
from tests.adapters.effdet.helpers import make_bench, photos, state_of, targets
from tests.fakes import forced


@pytest.fixture(scope="module")
def adapter() -> EffdetAdapter:
    return EffdetAdapter(make_bench(256))


def collated(adapter: EffdetAdapter, *sizes: tuple[int, int]):
    images = photos(*sizes)
    return adapter.collate(images, adapter.default_size, targets(images))


SIZES = ((200, 300), (180, 120), (256, 256))


# -- one network at two sizes --------------------------------------------------------------------------------


def test_the_detector_stays_as_it_was(adapter):
    before, config = state_of(adapter.detector), dict(adapter.detector.config)
    batch = collated(adapter, *SIZES)
    run_routed(adapter, batch, forced([True, False, False]), 0.5)
    adapter.losses(adapter.resize(batch, torch.arange(3), 0.5))
    after = adapter.detector.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert dict(adapter.detector.config) == config


# -- routing ---------------------------------------------------------------------------------------------------


def test_all_high_is_the_hosts_own_call(adapter):
    batch = collated(adapter, *SIZES)
    with torch.no_grad():
        plain = adapter.detector(batch.images, batch.info())
    assert torch.equal(run_routed(adapter, batch, forced([True] * 3), 0.5), plain)


def test_all_low_is_the_host_built_at_the_low_size(adapter):
    built = make_bench(128)
    built.model.load_state_dict(adapter.detector.model.state_dict())
    built.max_detection_points = len(built.anchors.boxes) * 2  # the host itself fails with its default 5000 here
    batch = collated(adapter, *SIZES)
    low = adapter.resize(batch, torch.arange(3), 0.5)
    with torch.no_grad():
        plain = built(low.images, {"img_scale": batch.img_scale * 2, "img_size": batch.img_size})
    assert torch.equal(run_routed(adapter, batch, forced([False] * 3), 0.5), plain)


def test_mixed_routes_keep_order_and_original_pixels(adapter):
    batch = collated(adapter, *SIZES)
    high = run_routed(adapter, batch, forced([True] * 3), 0.5)
    low = run_routed(adapter, batch, forced([False] * 3), 0.5)
    mixed = run_routed(adapter, batch, forced([False, True, False]), 0.5)
    assert mixed.shape == (3, 100, 6)
    for i, expected in enumerate((low, high, low)):
        assert torch.allclose(mixed[i], expected[i], atol=1e-3)
    for found, (h, w) in zip(adapter.detections(mixed, batch), SIZES):
        assert len(found) and found.boxes.min() >= 0
        assert found.boxes[:, [0, 2]].max() <= w + 1e-3 and found.boxes[:, [1, 3]].max() <= h + 1e-3


def test_a_low_size_of_another_shape_scales_each_axis():
    """384 x 256 at 0.4 is 256 x 128: the axes shrink by 1.5 and 2."""
    adapter = EffdetAdapter(make_bench((384, 256)))
    image = photos((384, 256))
    batch = adapter.collate(image, adapter.default_size)
    low = adapter.resize(batch, torch.tensor([0]), 0.4)
    assert low.images.shape[-2:] == (256, 128)
    bench = adapter.bench_at((256, 128), low=True)
    with torch.no_grad():  # in input pixels, neither clipped nor scaled by the host
        expected = bench(low.images)[0, :, :4] * torch.tensor([2.0, 1.5, 2.0, 1.5])
    limit = torch.tensor([256.0, 384.0, 256.0, 384.0])
    inside = (expected >= 0).all(1) & (expected <= limit).all(1)
    found = adapter.predict(low)[0, :, :4]
    assert inside.any() and found.min() >= 0 and (found <= limit + 1e-3).all()
    nearest = torch.cdist(expected[inside], found).min(dim=1).values
    assert (nearest < 0.5).float().mean() > 0.7  # clipping before NMS may change which box wins


def test_called_without_img_info_boxes_are_in_high_input_pixels(adapter):
    x = collated(adapter, *SIZES).images
    with torch.no_grad():
        assert torch.equal(run_routed(adapter, adapter.host_batch(x), forced([True] * 3), 0.5), adapter.detector(x))
        low = adapter.resize(adapter.host_batch(x), torch.arange(3), 0.5)
        expected = adapter.bench_at((128, 128), low=True)(low.images)
    expected[..., :4] *= 2
    assert torch.allclose(run_routed(adapter, adapter.host_batch(x), forced([False] * 3), 0.5), expected, atol=1e-3)


def test_an_empty_batch(adapter):
    batch = adapter.collate([], 256)
    assert run_routed(adapter, batch, forced([]), 0.5).shape == (0, 100, 6)
    assert adapter.losses(batch).shape == (0,)


@pytest.mark.parametrize("size", [(200, 300), (256, 256), (333, 100), (77, 256)])
def test_the_router_sees_the_photo_and_no_padding(adapter, size):
    image = photos(size)[0]
    batch = adapter.collate([image], 256)
    for made in (batch, adapter.host_batch(batch.images)):  # with the host's img_info, and from pixels alone
        seen = adapter.router_images(made)
        scale = 256 / max(size)
        assert seen.content == [(0, 0, int(size[1] * scale), int(size[0] * scale))]
    assert float(seen.images.min()) >= 0 and float(seen.images.max()) <= 1
    if size == (256, 256):
        assert torch.allclose(seen.images[0] * 255, torch.from_numpy(image).permute(2, 0, 1).float(), atol=1e-3)


# -- losses -------------------------------------------------------------------------------------------------------


def test_a_profile_pass_finds_what_predict_finds(adapter):
    batch = collated(adapter, *SIZES)
    found, losses = adapter.profile_pass(batch, False)
    assert losses is None
    for a, b in zip(found, adapter.detections(adapter.predict(batch), batch)):
        assert np.array_equal(a.boxes, b.boxes) and np.array_equal(a.labels, b.labels)


# -- what users hold -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["predict", "train", ""])
def test_every_kind_of_effdet_object_is_accepted(task):
    detector = make_bench(128, task=task)
    found = adapt(detector)
    assert type(found) is EffdetAdapter and found.default_size == 128
    batch = found.collate(photos((100, 128)), 128)
    assert found.predict(batch).shape == (1, 100, 6)


def test_a_training_bench_answers_as_in_eval_and_goes_on_training(adapter):
    detector = make_bench(128)
    batch = adapter.collate(photos((90, 90)), 128)
    expected = EffdetAdapter(detector).predict(batch)
    found = EffdetAdapter(detector.train()).predict(batch)
    assert torch.equal(found, expected) and not found.requires_grad
    assert all(part.training for part in detector.modules())


def test_what_the_bench_cannot_read_is_refused(adapter):
    model = DualResWrapper(adapter, ResolutionRouter(backbone="tiny", input_size=32), threshold=0.0)
    whole = torch.zeros(1, 3, 128, 128, dtype=torch.uint8)
    with pytest.raises(DualResError, match="floating and normalised"):
        model.host(whole)
    with pytest.raises(DualResError, match=r"must have the shape \(H, W, 3\)"):
        model.predict([np.zeros((3, 90, 120), np.uint8)])
    with pytest.raises(DualResError, match="must be floating"):
        model.predict([torch.zeros(3, 90, 120, dtype=torch.uint8)])
    with pytest.raises(DualResError, match=r"knows batch, size, img_info and stream, not \['conf'\]"):
        model.predict(photos((90, 120)), conf=0.5)


def test_a_low_size_in_pixels_is_that_size_at_any_high_size():
    model = DualResWrapper(
        make_bench(256), ResolutionRouter(backbone="tiny", input_size=32), low=128, threshold=float("inf")
    )
    model.predict(photos((90, 120)))  # the wrapper tries its own sizes before the first image
    model.predict(photos((90, 120)), size=512)
    assert {shape for _, shape in model.adapter._benches} == {(256, 256), (128, 128)}, "half of 512 would be 256"
    model.predict(photos((90, 120)), size=640)
    assert {shape for _, shape in model.adapter._benches} == {(256, 256), (128, 128)}, "and of 640 another"


def test_a_swapped_pair_is_refused():
    with pytest.raises(DualResError, match="swap the two"):
        DualResWrapper(make_bench(128), low_detector=make_bench(256))


def test_a_training_bench_in_a_validation_loop():
    """All high is the host's own dict; a mixed batch adds up each route's losses, normalised as the host does."""
    from effdet import DetBenchTrain

    bench = DetBenchTrain(make_bench(256).model, create_labeler=True).eval()
    images = photos(*SIZES)
    batch = EffdetAdapter(bench).collate(images, 256)
    boxes = torch.tensor([[[10.0, 10.0, 120.0, 90.0], [0, 0, 0, 0]]] * 3)
    target = {"bbox": boxes, "cls": torch.tensor([[1.0, -1.0]] * 3), **batch.info()}
    with torch.no_grad():
        plain = bench(batch.images, dict(target))
    router = ResolutionRouter(backbone="tiny", input_size=32)
    high = DualResWrapper(bench, router, threshold=float("-inf")).host(batch.images, dict(target))
    assert set(high) == set(plain) and torch.equal(high["detections"], plain["detections"])
    for name in ("loss", "class_loss", "box_loss"):
        torch.testing.assert_close(high[name], plain[name])
    low = DualResWrapper(bench, router, threshold=float("inf")).host(batch.images, dict(target))
    assert torch.isfinite(low["loss"]) and low["detections"].shape == plain["detections"].shape
    assert [route.route for route in low["detections"].dualres] == ["low"] * 3


def test_the_wrapper_is_called_like_the_host():
    bench = make_bench(256)
    router = ResolutionRouter(backbone="tiny", input_size=32)
    model = DualResWrapper(bench, router, threshold=0.0)
    batch = model.adapter.collate(photos(*SIZES), 256)
    router.score(model.adapter.router_images(batch))
    info = {"img_scale": batch.img_scale, "img_size": batch.img_size}
    scores = model.gate.router.score(model.adapter.router_images(batch))
    model.set_operating_point(threshold=float(scores.median()))
    raw = model.host(batch.images, img_info=info)
    assert raw.shape == (3, 100, 6) and [d.route for d in raw.dualres].count("high") == 1
    assert torch.equal(model.predict(batch.images, img_info=info), raw)
    results = model.predict(photos(*SIZES), batch=2)
    assert [r.dualres.route for r in results] == [d.route for d in raw.dualres]
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(results, raw))
    assert model.config.image_size == bench.config.image_size


def test_another_high_size_is_allowed():
    model = DualResWrapper(
        make_bench(256), ResolutionRouter(backbone="tiny", input_size=32), high=384, low=256, threshold=0
    )
    assert model.adapter.collate(photos((90, 70)), 384).images.shape[-2:] == (384, 384)
    assert model.predict(photos((90, 70)))[0].shape == (100, 6)


def test_coco_networks_know_their_classes():
    found = EffdetAdapter(make_bench(128, num_classes=None))
    assert len(found.class_names) == 80 and found.class_names[90] == "toothbrush" and 12 not in found.class_names


# -- compute ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "published"), [("d0", 2.54), ("d1", 6.10), ("d2", 11.0)])
def test_macs_agree_with_the_published_multiply_adds(name, published):
    """Tan et al., EfficientDet (CVPR 2020), Table 2: multiply-adds in billions."""
    from effdet import create_model

    adapter = EffdetAdapter(create_model(f"tf_efficientdet_{name}", bench_task="predict", pretrained_backbone=False))
    counted = adapter.macs(adapter.input_shape((480, 640), adapter.default_size))
    assert counted == pytest.approx(published, rel=0.03)
    assert counted < published  # convolutions alone; the paper counts a little more
