"""mmcv's own `nms` and `roi_align`, whichever operations are behind them, against those of the stand-in.

With mmcv-lite this shows that mmcv's Python code drives the stand-in; with compiled mmcv the two
implementations are independent and have to agree.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dualres_plugin.adapters import mmcv_ext as stand_in
from dualres_plugin.common.errors import DualResError
from tests.shared import require_shared

pytest.importorskip("mmcv")
IS_STAND_IN = stand_in.install()


@pytest.mark.skipif("DUALRES_TEST_COMPILED" not in os.environ, reason="only `make test-mmcv` asks for compiled mmcv")
def test_compiled_operations_win_over_the_stand_in() -> None:
    import mmcv._ext

    assert not IS_STAND_IN
    assert Path(mmcv._ext.__file__).suffix == ".so"


def random_boxes(count: int, seed: int, whole_pixels: bool) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=random) * 500
    boxes = torch.cat([corner, corner + torch.rand(count, 2, generator=random) * 120 + 1], dim=1)
    # All different: which of two equal scores comes first is nobody's promise (mmcv sorts unstably).
    return (boxes.round() if whole_pixels else boxes), torch.randperm(count, generator=random) / count


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("whole_pixels", [True, False])
@pytest.mark.parametrize("offset", [0, 1])
def test_nms_on_random_boxes(seed: int, whole_pixels: bool, offset: int) -> None:
    from mmcv.ops import nms

    boxes, scores = random_boxes(800, seed, whole_pixels)
    _, kept = nms(boxes, scores, 0.5, offset=offset)
    assert 50 < len(kept) < 750  # neither everything nor nothing was suppressed
    assert kept.tolist() == stand_in.nms(boxes, scores, 0.5, offset).tolist()


def test_nms_keeps_the_first_of_equal_scores() -> None:
    from mmcv.ops import nms

    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 60, 60], [0, 0, 11, 10]], dtype=torch.float32)
    _, kept = nms(boxes, torch.full((4,), 0.5), 0.5)
    assert kept.tolist() == stand_in.nms(boxes, torch.full((4,), 0.5), 0.5).tolist() == [0, 2]


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_roi_align_on_random_features(aligned: bool, sampling_ratio: int) -> None:
    features = torch.randn(2, 5, 40, 60, generator=torch.Generator().manual_seed(0))
    boxes, _ = random_boxes(60, 1, whole_pixels=False)
    rois = torch.cat([(torch.arange(60) % 2)[:, None].float(), boxes], dim=1)
    check_roi_align(features, rois, 0.125, sampling_ratio, aligned)


def check_roi_align(features: Tensor, rois: Tensor, scale: float, sampling_ratio: int, aligned: bool) -> None:
    from mmcv.ops import roi_align

    theirs = features.clone().requires_grad_()
    pooled = roi_align(theirs, rois, 7, scale, sampling_ratio, "avg", aligned)
    weight = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(2))
    pooled.backward(weight)

    out, grad, none = torch.zeros_like(pooled), torch.zeros_like(features), torch.zeros(0)
    stand_in.roi_align_forward(features, rois, out, none, none, 7, 7, scale, sampling_ratio, 1, aligned)
    stand_in.roi_align_backward(weight, rois, none, none, grad, 7, 7, scale, sampling_ratio, 1, aligned)
    assert out.abs().sum() > 0
    torch.testing.assert_close(pooled.detach(), out, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(theirs.grad, grad, rtol=1e-4, atol=1e-5)


@pytest.mark.shared
@pytest.mark.parametrize("photo", range(4))
def test_operations_on_a_real_photo(photo: int) -> None:
    """Features and boxes of a pretrained YOLOX on a photo, before its own NMS, at each of its levels."""
    from mmcv.ops import nms

    detector = real_yolox()
    image = real_photo(photo)
    with torch.no_grad():
        features = detector.extract_feat(image)
        classes, offsets, objectness = detector.bbox_head(features)
    for level, stride in enumerate((8, 16, 32)):
        scores = (classes[level].sigmoid().amax(1) * objectness[level].sigmoid()[:, 0]).flatten()
        boxes = yolox_boxes(offsets[level][0], stride)
        best = scores.argsort(descending=True)[:1000]
        _, kept = nms(boxes[best], scores[best], 0.65)
        assert kept.tolist() == stand_in.nms(boxes[best], scores[best], 0.65).tolist()
        assert 1 < len(kept) < len(best)
        rois = torch.cat([torch.zeros(100, 1), boxes[best[:100]]], dim=1)
        check_roi_align(features[level], rois, 1 / stride, 0, True)


def real_yolox() -> torch.nn.Module:
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    weights = torch.load(require_shared("weights", "yolox_nano.pth"), map_location="cpu", weights_only=True)
    register_all_modules()
    detector = MODELS.build(Config.fromfile(require_shared("weights", "yolox_nano_cfg.py")).model).eval()
    detector.load_state_dict(weights.get("state_dict", weights))
    return detector


def real_photo(number: int) -> Tensor:
    """(1, 3, 416, 416) BGR 0-255."""
    import cv2

    path = sorted(require_shared("data", "coco_mini", "images", "val2017").glob("*.jpg"))[number]
    photo = cv2.resize(cv2.imread(str(path)), (416, 416))
    return torch.from_numpy(np.ascontiguousarray(photo.transpose(2, 0, 1))[None]).float()


def yolox_boxes(raw: Tensor, stride: int) -> Tensor:
    """(4, H, W) offsets and log sizes -> (H*W, 4) xyxy."""
    rows, columns = raw.shape[1:]
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    centre = (raw[:2] + torch.stack([x, y])) * stride
    half = raw[2:].exp() * stride / 2
    return torch.cat([centre - half, centre + half]).flatten(1).T.contiguous()


@pytest.mark.skipif(not IS_STAND_IN, reason="compiled mmcv has these operations")
def test_other_operations_say_what_to_do() -> None:
    from mmcv.ops import ModulatedDeformConv2dPack, soft_nms

    with pytest.raises(DualResError, match=r"softnms.*make mmcv"):
        soft_nms(*random_boxes(5, 0, True))
    with pytest.raises(DualResError, match="make mmcv"):
        ModulatedDeformConv2dPack(3, 4, 3)(torch.rand(1, 3, 8, 8))
