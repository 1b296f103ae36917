"""The adapter on four detector families with random weights: what routing must not change."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet")

from dualres_plugin import DualResWrapper
from dualres_plugin.adapters.mmdet import MMDetAdapter, MMDetBatch
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.types import Targets, as_index
from dualres_plugin.hosts.registry import adapt
from dualres_plugin.hosts.routing import run_routed
from tests.adapters.mmdet.helpers import (
    FAMILIES,
    build,
    family_config,
    family_detector,
    mim_folder,
    photos,
    tiny_router,
)
from tests.fakes import forced

SIZE = 128


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def adapter(request: pytest.FixtureRequest) -> MMDetAdapter:
    return MMDetAdapter(family_detector(request.param))


@pytest.fixture(scope="module")
def yolox() -> MMDetAdapter:
    return MMDetAdapter(family_detector("yolox"))


def targets(count: int) -> list[Targets]:
    return [Targets(np.array([[5, 5, 40 + i, 50], [20, 10, 60, 60.0]]), np.array([0, 2])) for i in range(count)]


def same(a, b) -> bool:
    return (
        len(a.pred_instances) == len(b.pred_instances)
        and torch.equal(a.pred_instances.bboxes, b.pred_instances.bboxes)
        and torch.equal(a.pred_instances.scores, b.pred_instances.scores)
        and torch.equal(a.pred_instances.labels, b.pred_instances.labels)
    )


def plain(adapter: MMDetAdapter, batch: MMDetBatch) -> list:
    """The host's own call."""
    with torch.no_grad():
        return adapter.detector.predict(batch.inputs, [s.clone() for s in batch.samples], rescale=batch.rescale)


@pytest.mark.parametrize("rescale", [True, False])
def test_all_high_is_the_plain_host_bit_for_bit(adapter: MMDetAdapter, rescale: bool) -> None:
    batch = MMDetBatch(*parts(adapter), rescale=rescale)
    routed = run_routed(adapter, batch, forced([True] * 4), 0.5)
    expected = plain(adapter, batch)
    assert all(len(sample.pred_instances) for sample in expected)
    assert all(same(a, b) for a, b in zip(routed, expected))


def parts(adapter: MMDetAdapter):
    batch = adapter.collate(photos(), SIZE)
    return batch.inputs, batch.samples


def test_a_low_pass_is_the_host_at_the_low_size(adapter: MMDetAdapter) -> None:
    batch = adapter.collate(photos(), SIZE)
    routed = run_routed(adapter, batch, forced([False] * 4), 0.5)
    small = adapter.resize(batch, torch.arange(4), 0.5)
    assert small.shape[0] < batch.shape[0] and small.inputs.shape[0] == 4
    assert all(same(a, b) for a, b in zip(routed, plain(adapter, small)))


def test_mixed_routes_keep_the_order_and_the_original_frame(adapter: MMDetAdapter) -> None:
    batch = adapter.collate(photos(), SIZE)
    routes = [True, False, False, True]
    routed = run_routed(adapter, batch, forced(routes), 0.5)
    close: list[bool] = []
    for i, high in enumerate(routes):
        index = torch.tensor([i])
        alone = batch.take(index) if high else adapter.resize(batch, index, 0.5)
        single = adapter.predict(replace(alone, rescale=False))[0]
        found = routed[i].pred_instances
        torch.testing.assert_close(found.scores, single.pred_instances.scores, rtol=1e-3, atol=1e-4)
        assert routed[i].img_shape == batch.samples[i].img_shape  # metadata is that of the high sample
        assert routed[i].scale_factor == batch.samples[i].scale_factor
        # From pixels of the input that was run, to those of the photo.
        steps = [batch.shape[axis] / alone.shape[axis] / batch.samples[i].scale_factor[1 - axis] for axis in (1, 0)]
        moved = single.pred_instances.bboxes * torch.tensor(steps * 2)
        close += torch.isclose(found.bboxes, moved, rtol=0.05, atol=2.0).all(dim=1).tolist()
    assert len(close) > 10 and np.mean(close) > 0.9  # a batch of one may break ties differently


def test_low_boxes_with_rescale_false_are_in_high_pixels(adapter: MMDetAdapter) -> None:
    batch = adapter.collate(photos(), SIZE)
    everywhere = forced([False] * 4)
    original = run_routed(adapter, batch, everywhere, 0.5)
    high = run_routed(adapter, MMDetBatch(batch.inputs, batch.samples, rescale=False), everywhere, 0.5)
    for a, b, sample in zip(original, high, batch.samples):
        factor = torch.tensor(sample.scale_factor * 2, dtype=torch.float32)
        moved = a.pred_instances.bboxes * factor
        torch.testing.assert_close(moved, b.pred_instances.bboxes, rtol=1e-3, atol=0.05)


def test_losses_are_those_of_one_image_at_a_time(adapter: MMDetAdapter) -> None:
    batch = adapter.collate(photos(), SIZE, targets(4))
    losses = adapter.losses(batch)
    assert losses.shape == (4,) and losses.isfinite().all() and not losses.requires_grad
    for i in range(4):
        alone = batch.take(torch.tensor([i]))
        with torch.no_grad():
            torch.manual_seed(0)
            adapter.detector.training = True  # its layers stay in eval
            loss = adapter.detector.loss(alone.inputs, [alone.samples[0].clone()])
            adapter.detector.training = False
            loss, _ = adapter.detector.parse_losses(loss)
        torch.testing.assert_close(losses[i], loss, rtol=1e-3, atol=1e-4)
    assert torch.equal(losses, adapter.losses(batch))  # samplers draw the same again


def test_low_losses_see_boxes_at_the_low_size(adapter: MMDetAdapter) -> None:
    batch = adapter.collate(photos(), SIZE, targets(4))
    low = adapter.resize(batch, torch.arange(4), 0.5)
    for small, sample in zip(low.samples, batch.samples):
        ratio = torch.tensor([low.shape[1] / batch.shape[1], low.shape[0] / batch.shape[0]]).repeat(2)
        torch.testing.assert_close(small.gt_instances.bboxes, sample.gt_instances.bboxes * ratio)
    assert adapter.losses(low).isfinite().all()


def test_one_pass_gives_detections_and_losses(adapter: MMDetAdapter) -> None:
    batch = adapter.collate(photos(), SIZE, targets(4))
    found, losses = adapter.profile_pass(batch, True)
    expected = adapter.detections(adapter.predict(batch), batch)
    assert all(np.array_equal(a.boxes, b.boxes) for a, b in zip(found, expected))
    torch.testing.assert_close(losses, adapter.losses(batch))
    assert adapter.profile_pass(batch, False)[1] is None


def test_nothing_is_mutated(adapter: MMDetAdapter) -> None:
    batch = adapter.collate(photos(), SIZE, targets(4))
    inputs, metas = batch.inputs.clone(), [copy.deepcopy(s.metainfo) for s in batch.samples]
    boxes = [s.gt_instances.bboxes.clone() for s in batch.samples]
    weights = {k: v.clone() for k, v in adapter.detector.state_dict().items()}
    run_routed(adapter, batch, forced([True, False, True, False]), 0.5)
    adapter.losses(adapter.resize(batch, torch.arange(4), 0.5))
    assert torch.equal(batch.inputs, inputs)
    assert [s.metainfo for s in batch.samples] == metas
    assert all("pred_instances" not in s for s in batch.samples)
    assert all(torch.equal(s.gt_instances.bboxes, b) for s, b in zip(batch.samples, boxes))
    assert all(torch.equal(v, weights[k]) for k, v in adapter.detector.state_dict().items())
    assert "extract_feat" not in adapter.detector.__dict__


def test_weights_are_shared_and_modes_kept(adapter: MMDetAdapter) -> None:
    wrapped = adapter.wrap(forced([True] * 4), 0.5, lambda decision: None)
    theirs = {k: v.data_ptr() for k, v in adapter.detector.state_dict().items()}
    ours = {k: v.data_ptr() for k, v in wrapped.detector.state_dict().items()}
    assert ours == theirs
    adapter.detector.train()
    try:
        adapter.predict(adapter.collate(photos(2), SIZE))
        assert adapter.detector.training and adapter.detector.backbone.training
        wrapped.eval()
        assert adapter.detector.training
    finally:
        adapter.detector.eval()


def test_empty_sub_batch(adapter: MMDetAdapter) -> None:
    batch = adapter.collate(photos(), SIZE)
    assert adapter.predict(adapter.select(batch, as_index(torch.zeros(4, dtype=torch.bool)))) == []


def test_compute_falls_with_the_area(adapter: MMDetAdapter) -> None:
    high, low = adapter.macs((256, 256)), adapter.macs((128, 128))
    assert 0.15 < low / high < 0.7  # a quarter, but for the fixed cost of proposals and queries


def test_macs_are_those_of_the_host_tool() -> None:
    # mmengine's counter counts multiply-accumulates, as this package does.
    from mmengine.analysis import get_model_complexity_info

    detector = family_detector("yolox")
    theirs = get_model_complexity_info(detector, (3, 128, 128), show_table=False, show_arch=False)["flops"]
    assert MMDetAdapter(detector).macs((128, 128)) == pytest.approx(theirs / 1e9, rel=0.02)


# -- the router's picture ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_router_sees_the_photo_alone_in_rgb(name: str) -> None:
    """Normalised and BGR or RGB, padded to a square or by the preprocessor: the same picture comes back."""
    adapter = MMDetAdapter(family_detector(name))
    pictures = photos()
    images, content = adapter.router_images(adapter.collate(pictures, SIZE))
    for image, (x0, y0, x1, y1), picture in zip(images, content, pictures):
        assert (x0, y0) == (0, 0)
        assert (x1 / y1) == pytest.approx(picture.shape[1] / picture.shape[0], rel=0.03)
        seen = image[:, y0:y1, x0:x1].mean(dim=(1, 2))
        expected = torch.from_numpy(picture).float().mean(dim=(0, 1)) / 255
        torch.testing.assert_close(seen, expected, atol=0.01, rtol=0)


@pytest.mark.parametrize("meta_keys", [("img_id",), ("img_shape", "scale_factor"), ("ori_shape", "img_shape")])
def test_pipelines_that_pack_less(yolox: MMDetAdapter, meta_keys: tuple[str, ...]) -> None:
    """Without `scale_factor` the host can only answer in input pixels; routing asks for no more than that."""
    batch = yolox.collate(photos(), SIZE)
    keep = {*meta_keys, "batch_input_shape", "pad_shape"}
    samples = []
    for sample in batch.samples:
        lean = type(sample)(metainfo={k: v for k, v in sample.metainfo.items() if k in keep})
        samples.append(lean)
    lean_batch = MMDetBatch(batch.inputs, samples, rescale="scale_factor" in keep)
    routed = run_routed(yolox, lean_batch, forced([True, False, True, False]), 0.5)
    assert len(routed) == 4 and all(len(sample.pred_instances) for sample in routed)
    assert all(("scale_factor" in sample) == ("scale_factor" in keep) for sample in routed)


def test_instance_masks_come_back_in_place() -> None:
    from mmengine.config import Config

    model = Config.fromfile(mim_folder() / "configs/mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py").model
    small = family_config("faster_rcnn").model
    model.merge({"backbone": small.backbone, "neck": small.neck})
    model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
    adapter = MMDetAdapter(build(model))
    batch = adapter.collate(photos(2), SIZE)
    for rescale in (True, False):
        given = MMDetBatch(batch.inputs, batch.samples, rescale)
        high, low = (s.pred_instances.masks for s in run_routed(adapter, given, forced([True, False]), 0.5))
        first, second = (s.ori_shape if rescale else s.img_shape for s in batch.samples)
        assert tuple(high.shape[-2:]) == tuple(first) and low.dtype == high.dtype
        assert np.allclose(low.shape[-2:], second, atol=0 if rescale else 2)


# -- finding and refusing -----------------------------------------------------------------------------------------


def test_found_by_type_and_refused_when_routed(yolox: MMDetAdapter) -> None:
    assert isinstance(adapt(yolox.detector), MMDetAdapter)
    wrapped = yolox.wrap(forced([True]), 0.5, lambda decision: None)
    with pytest.raises(DualResError, match="routed already"):
        adapt(wrapped)


def test_a_loss_without_train_cfg_says_so() -> None:
    cfg = family_config("faster_rcnn")
    cfg.model.train_cfg = None
    adapter = MMDetAdapter(build(cfg.model))
    with pytest.raises(DualResError, match="train_cfg"):
        adapter.losses(adapter.collate(photos(2), SIZE, targets(2)))


def test_a_pipeline_without_a_size_says_so(yolox: MMDetAdapter) -> None:
    detector = copy.copy(yolox.detector)
    detector.cfg = copy.deepcopy(yolox.detector.cfg)
    pipeline = detector.cfg.test_dataloader.dataset.pipeline
    detector.cfg.test_dataloader.dataset.pipeline = [s for s in pipeline if s.type != "Resize"]
    with pytest.raises(DualResError, match="no Resize"):
        MMDetAdapter(detector)


@pytest.mark.parametrize("scale", [(1333, 800), (640, 640), (512, 320)])
@pytest.mark.parametrize("shape", [(480, 640), (640, 480), (90, 900), (300, 300)])
def test_the_high_size_of_a_batch_is_that_of_its_pipeline(scale: tuple[int, int], shape: tuple[int, int]) -> None:
    adapter = MMDetAdapter(family_detector("yolox"))
    adapter.pipeline = [{**step, "scale": scale} if step["type"] == "Resize" else step for step in adapter.pipeline]
    size = min(scale)
    for wanted in (size, size // 2):
        photo = np.zeros((*shape, 3), np.uint8)
        assert adapter.high_size(adapter.collate([photo], wanted)) == pytest.approx(wanted, abs=1)
    assert adapter.high_size(adapter.collate([photo, photo], size).take(torch.arange(0))) is None


def test_a_low_size_in_pixels_is_that_size_at_any_high_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wrapper's high is 192; the test pipeline of the host's own loops is another."""
    from mmdet.apis import inference_detector

    detector = family_detector("yolox")
    model = DualResWrapper(detector, tiny_router(), high=192, low=96, threshold=float("inf"))
    host, seen = model.host, []
    monkeypatch.setattr(MMDetBatch, "resized", _noted(MMDetBatch.resized, seen))
    for size in (256, 384):
        host.cfg = _config_at(detector.cfg, size)
        inference_detector(host, photos(1)[0][..., ::-1].copy())
        model.predict(photos(1)[0], size=size)
    assert seen == [(96, 96)] * 4, "half of 256 would be 128"
    host.cfg = _config_at(detector.cfg, 96)
    with pytest.raises(DualResError, match="smaller than the high size, which is 96 pixels"):
        inference_detector(host, photos(1)[0][..., ::-1].copy())


def _noted(resized, seen: list):
    def noted(self, size, antialias):
        seen.append(size)
        return resized(self, size, antialias)

    return noted


def _config_at(cfg, size: int):
    changed = copy.deepcopy(cfg)
    for step in changed.test_dataloader.dataset.pipeline:
        if step.type == "Resize":
            step.scale = (size, size)
        elif step.type == "Pad":
            step.update(pad_to_square=True)
            step.pop("size", None)
    return changed
