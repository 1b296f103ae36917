"""effdet: shared weights at two sizes, pairs of networks, the host's own calls and losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("effdet")

from dualres_plugin import DualResWrapper, ResolutionRouter
from dualres_plugin.adapters.effdet.adapter import EffdetAdapter
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.flops import gmacs
from dualres_plugin.common.resize import resize_images
from dualres_plugin.common.types import Targets
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


def test_the_low_network_answers_as_one_built_at_that_size(adapter):
    built = make_bench(128)
    built.model.load_state_dict(adapter.detector.model.state_dict())
    tied = adapter._sized((128, 128), low=True)
    x = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        ours, theirs = tied.model(x), built.model(x)
    for a, b in zip([*ours[0], *ours[1]], [*theirs[0], *theirs[1]]):
        assert torch.equal(a, b)
    assert torch.equal(tied.anchors.boxes, built.anchors.boxes)


def test_two_sizes_take_the_memory_of_one_and_the_low_anchors(adapter):
    high, low = adapter.detector, adapter._sized((128, 128), low=True)

    def storage(*benches):
        tensors = [t for b in benches for t in [*b.parameters(), *b.buffers()]]
        return sum({t.data_ptr(): t.numel() * t.element_size() for t in tensors}.values())

    anchors = low.anchors.boxes
    assert storage(high, low) - storage(high) == anchors.numel() * anchors.element_size()
    shared = dict(high.model.named_parameters())
    assert all(p is shared[name] for name, p in low.model.named_parameters())
    assert {n for n, _ in high.model.named_buffers()} == {n for n, _ in low.model.named_buffers()}


def test_new_weights_and_dtypes_reach_both_sizes():
    adapter = EffdetAdapter(make_bench(256))
    low = adapter._sized((128, 128), low=True)
    with torch.no_grad():
        adapter.detector.model.box_net.predict.conv_pw.bias.fill_(0.25)
    adapter.detector.double()
    assert low.model.box_net.predict.conv_pw.bias.dtype == torch.float64
    assert (low.model.box_net.predict.conv_pw.bias == 0.25).all()
    buffers = dict(low.model.named_buffers())
    assert all(buffers[name].dtype == b.dtype for name, b in adapter.detector.model.named_buffers())


def test_the_detector_stays_as_it_was(adapter):
    before, config = state_of(adapter.detector), dict(adapter.detector.config)
    batch = collated(adapter, *SIZES)
    run_routed(adapter, batch, forced([True, False, False]), 0.5)
    adapter.losses(adapter.resize(batch, torch.arange(3), 0.5))
    after = adapter.detector.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert dict(adapter.detector.config) == config


def test_a_bench_with_fewer_candidates_than_the_host_sorts():
    """One class at 128 pixels gives 3069 candidates; effdet itself asks for the best 5000 and fails."""
    bench = make_bench(128, num_classes=1)
    adapter = EffdetAdapter(bench)
    batch = adapter.collate(photos((100, 128)), 128)
    with pytest.raises(RuntimeError):
        bench(batch.images)
    assert adapter.predict(batch).shape == (1, 100, 6) and bench.max_detection_points == 5000


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
    bench = adapter._sized((256, 128), low=True)
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
        expected = adapter._sized((128, 128), low=True)(low.images)
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


@pytest.mark.parametrize("low", [False, True])
def test_losses_are_the_hosts_own_one_by_one(adapter, low):
    images = photos(*SIZES)
    truth = targets(images)
    batch = adapter.collate(images, 256, truth)
    scale, side = batch.img_scale, 256
    if low:
        batch, scale, side = adapter.resize(batch, torch.arange(3), 0.5), scale * 2, 128
    host = make_bench(side, task="train", bench_labeler=True)
    host.model.load_state_dict(adapter.detector.model.state_dict())
    host.max_detection_points = min(5000, len(host.anchors.boxes) * 2)
    expected = []
    for i, target in enumerate(truth):
        boxes = torch.from_numpy(target.boxes / float(scale[i]))[:, [1, 0, 3, 2]]
        note = {"img_scale": scale[i : i + 1], "img_size": batch.img_size[i : i + 1]}
        labels = {"bbox": [boxes], "cls": [torch.from_numpy(target.labels).float()], **note}
        with torch.no_grad():
            expected.append(float(host(batch.images[i : i + 1], labels)["loss"]))
    losses = adapter.losses(batch)
    assert losses.shape == (3,) and not losses.requires_grad
    assert losses.tolist() == pytest.approx(expected, rel=1e-4)
    assert adapter.profile_pass(batch, True)[1].tolist() == pytest.approx(losses.tolist())


def test_a_profile_pass_finds_what_predict_finds(adapter):
    batch = collated(adapter, *SIZES)
    found, losses = adapter.profile_pass(batch, False)
    assert losses is None
    for a, b in zip(found, adapter.detections(adapter.predict(batch), batch)):
        assert np.array_equal(a.boxes, b.boxes) and np.array_equal(a.labels, b.labels)


def test_boxes_outside_the_photo_or_of_unknown_classes_do_not_count(adapter):
    image = photos((200, 300))
    inside = Targets(np.array([[10, 10, 90, 90]], dtype=np.float32), np.array([1]))
    odd = np.array([[10, 10, 90, 90], [400, 10, 500, 90], [5, 5, 60, 60]], dtype=np.float32)
    more = Targets(odd, np.array([1, 1, -1]))
    one, other = (adapter.losses(adapter.collate(image, 256, [t])) for t in (inside, more))
    assert torch.equal(one, other)


# -- what users hold -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["predict", "train", ""])
def test_every_kind_of_effdet_object_is_accepted(task):
    detector = make_bench(128, task=task)
    found = adapt(detector)
    assert type(found) is EffdetAdapter and found.default_size == 128
    batch = found.collate(photos((100, 128)), 128)
    assert found.predict(batch).shape == (1, 100, 6)


def test_a_training_bench_is_put_into_eval(adapter):
    detector = make_bench(128).train()
    assert not EffdetAdapter(detector).predict(adapter.collate(photos((90, 90)), 128)).requires_grad
    assert not detector.model.training


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


# -- pairs -----------------------------------------------------------------------------------------------------------


def test_a_pair_runs_each_network_at_its_own_size():
    high, low = make_bench(384), make_bench(256, name="tf_efficientdet_d0")
    model = DualResWrapper(high, low_detector=low)
    adapter = model.adapter
    assert model.scale == pytest.approx(256 / 384)
    assert adapter.low_shape((384, 384), model.scale) == (256, 256)
    batch = adapter.collate(photos((300, 384)), 384)
    small = adapter.resize(batch, torch.tensor([0]), model.scale)
    with torch.no_grad():
        plain = low(small.images, {"img_scale": batch.img_scale * 1.5, "img_size": batch.img_size})
    routed = run_routed(adapter, batch, forced([False]), model.scale)
    assert torch.allclose(routed, plain, atol=1e-4)
    assert adapter.macs((256, 256), low=True) == gmacs(low.model, small.images)
    assert adapter.losses(
        adapter.resize(
            adapter.collate(photos((90, 90)), 384, [targets(photos((9, 9)))[0]]), torch.tensor([0]), model.scale
        )
    ).shape == (1,)


def test_a_pair_with_other_normalisation_sees_the_same_photo():
    adapter = EffdetAdapter(make_bench(256), make_bench(128, name="tf_efficientdet_d0"))
    batch = adapter.collate(photos((256, 256)), 256)
    low = adapter.resize(batch, torch.tensor([0]), adapter.default_scale)
    expected = resize_images(adapter.router_images(batch).images, (128, 128))
    assert torch.allclose(adapter.router_images(low).images, expected, atol=1e-5)


def test_a_low_size_that_is_no_multiple_of_128_is_kept_when_the_network_was_built_so():
    adapter = EffdetAdapter(make_bench(384), make_bench(320))
    assert adapter.low_shape((384, 384), adapter.default_scale) == (320, 320)
    assert adapter.low_shape((384, 384), 0.5) == (256, 256)


def test_a_pair_must_know_the_same_classes():
    with pytest.raises(DualResError, match="2 classes, the low one 3"):
        EffdetAdapter(make_bench(256), make_bench(128, num_classes=3))
