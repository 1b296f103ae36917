"""Boxes of a low route lie where the photo has them: the probe of a built detector, and CenterNet, which pads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet")

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from dualres_plugin.adapters.mmdet import DualResDetector
from dualres_plugin.adapters.mmdet.batch import blank_sample, boxes_follow, check_boxes_follow, content_box
from dualres_plugin.adapters.mmdet.patches import every_box
from dualres_plugin.common.errors import DualResError
from tests.adapters.mmdet.helpers import FAMILIES, build, family_config, mim_folder, tiny_router


def centernet() -> Any:
    init_default_scope("mmdet")
    cfg = Config.fromfile(mim_folder() / "configs" / "centernet" / "centernet_r18_8xb16-crop512-140e_coco.py")
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    return MODELS.build(cfg.model).eval()


def padded_sample() -> Any:
    """As CenterNet's test pipeline makes it of a photo of 200 x 120 pixels: no scale_factor, but a border."""
    sample = blank_sample((128, 256))
    del sample.scale_factor
    sample.set_metainfo({"ori_shape": (120, 200), "border": np.array([4, 124, 28, 228], np.float32)})
    return sample


@pytest.mark.parametrize("family", FAMILIES)
def test_the_families_of_the_tests_follow(family: str) -> None:
    detector = build(family_config(family).model)
    before = torch.random.get_rng_state()
    assert boxes_follow(detector)
    assert torch.equal(before, torch.random.get_rng_state())  # a training draws what it would have drawn


def test_cornernet_follows_too() -> None:
    """With plain NMS: its own is soft, which needs the compiled mmcv."""
    init_default_scope("mmdet")
    file = "cornernet_hourglass104_8xb6-210e-mstest_coco.py"
    cfg = Config.fromfile(mim_folder() / "configs" / "cornernet" / file)
    cfg.model.test_cfg.nms = {"type": "nms", "iou_threshold": 0.5}
    torch.manual_seed(0)
    assert boxes_follow(MODELS.build(cfg.model).eval())


def test_a_low_route_of_centernet_in_original_pixels() -> None:
    """Against the plain detector on the low input, its boxes moved by hand."""
    detector = centernet()
    router = tiny_router()
    model = DualResDetector(detector, router, low=0.5, threshold=float("inf")).eval()
    inputs = torch.randn(1, 3, 128, 256, generator=torch.Generator().manual_seed(1)) * 50
    with torch.no_grad():
        (routed,) = model.predict(inputs, [padded_sample()])
        low = blank_sample((64, 128))
        low.set_metainfo({"border": np.zeros(4, np.float32)})
        half = torch.nn.functional.interpolate(inputs, (64, 128), mode="bilinear", align_corners=False)
        (plain,) = detector.predict(half, [low], rescale=True)
    assert routed.route == "low" and len(plain.pred_instances) > 10
    expected = plain.pred_instances.bboxes * 2 - torch.tensor([28.0, 4.0, 28.0, 4.0])
    torch.testing.assert_close(routed.pred_instances.bboxes, expected, rtol=1e-4, atol=0.05)


def test_the_router_sees_the_photo_without_its_border() -> None:
    assert content_box(padded_sample(), (128, 256)) == (28, 4, 228, 124)


def test_boxes_that_stay_in_low_pixels_are_refused_when_the_model_is_built() -> None:
    detector = build(family_config("yolox").model)
    predict = detector.predict

    def deaf(inputs: Any, samples: Any, rescale: bool = True) -> Any:
        return predict(inputs, samples, rescale=False)

    detector.predict = deaf
    with pytest.raises(DualResError, match="do not follow an image"):
        check_boxes_follow(detector)
    with pytest.raises(DualResError, match="YOLOX do not follow"):
        DualResDetector(detector, tiny_router())


def test_thresholds_come_back() -> None:
    init_default_scope("mmdet")
    cfg = family_config("faster_rcnn")
    cfg.model.test_cfg.rcnn.score_thr = 0.3
    detector = MODELS.build(cfg.model).eval()
    with every_box(detector):
        assert detector.roi_head.test_cfg.score_thr == 0.0
    assert detector.roi_head.test_cfg.score_thr == 0.3 and detector.rpn_head.test_cfg.nms_pre == 100
