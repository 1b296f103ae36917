"""Every family of mmdet that was tried, tiny: it routes, has losses, and trains a router; or it says why not."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet")

from mmengine.config import Config

from dualres_plugin.adapters import mmcv_ext
from dualres_plugin.adapters.mmdet import DualResDetector, MMDetAdapter
from dualres_plugin.adapters.mmdet.batch import boxes_follow
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.types import Targets
from tests.adapters.mmdet.helpers import build, mim_folder, photos, tiny_router
from tests.fakes import forced

R18 = {"model.backbone.depth": 18, "model.backbone.init_cfg": None}
WIDE = {**R18, "model.neck.in_channels": [64, 128, 256, 512]}
TWO_STAGE = {
    **WIDE,
    "model.test_cfg.rcnn.max_per_img": 30,
    "model.test_cfg.rpn.nms_pre": 100,
    "model.test_cfg.rpn.max_per_img": 50,
    "model.train_cfg.rpn_proposal.nms_pre": 100,
    "model.train_cfg.rpn_proposal.max_per_img": 50,
}
QUERIES = {**R18, "model.encoder.num_layers": 1, "model.decoder.num_layers": 2}
# Family -> config of the host, and what makes it small.
ROUTED: dict[str, tuple[str, dict[str, Any]]] = {
    "atss": ("atss/atss_r50_fpn_1x_coco.py", WIDE),
    "autoassign": ("autoassign/autoassign_r50-caffe_fpn_1x_coco.py", WIDE),
    "cascade_rcnn": ("cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py", TWO_STAGE),
    "centernet": ("centernet/centernet-update_r50-caffe_fpn_ms-1x_coco.py", WIDE),
    "conditional_detr": (
        "conditional_detr/conditional-detr_r50_8xb2-50e_coco.py",
        {**QUERIES, "model.neck.in_channels": [512]},
    ),
    "deformable_detr": (
        "deformable_detr/deformable-detr_r50_16xb2-50e_coco.py",
        {**QUERIES, "model.neck.in_channels": [128, 256, 512]},
    ),
    "detr": ("detr/detr_r18_8xb2-500e_coco.py", QUERIES),
    "faster_rcnn": ("faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", TWO_STAGE),
    "fcos": ("fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py", WIDE),
    "foveabox": ("foveabox/fovea_r50_fpn_4xb4-1x_coco.py", WIDE),
    "free_anchor": ("free_anchor/freeanchor_r50_fpn_1x_coco.py", WIDE),
    "gfl": ("gfl/gfl_r50_fpn_1x_coco.py", WIDE),
    "mask_rcnn": ("mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py", TWO_STAGE),
    "retinanet": ("retinanet/retinanet_r50_fpn_1x_coco.py", WIDE),
    "rtmdet": (
        "rtmdet/rtmdet_tiny_8xb32-300e_coco.py",
        {
            "model.backbone.widen_factor": 0.125,
            "model.backbone.init_cfg": None,
            "model.neck.in_channels": [32, 64, 128],
            "model.neck.out_channels": 32,
            "model.bbox_head.in_channels": 32,
            "model.bbox_head.feat_channels": 32,
        },
    ),
    "sparse_rcnn": ("sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py", {**WIDE, "model.rpn_head.num_proposals": 20}),
    "yolof": ("yolof/yolof_r50-c5_8xb8-1x_coco.py", {**R18, "model.neck.in_channels": 512}),
    "yolov3": ("yolo/yolov3_d53_8xb8-320-273e_coco.py", {"model.backbone.init_cfg": None}),
    "yolox": (
        "yolox/yolox_tiny_8xb8-300e_coco.py",
        {
            "model.backbone.widen_factor": 0.125,
            "model.neck.in_channels": [32, 64, 128],
            "model.neck.out_channels": 32,
            "model.bbox_head.in_channels": 32,
            "model.bbox_head.feat_channels": 32,
        },
    ),
}
# They call operations that mmcv-lite lacks and torchvision has not.
COMPILED = {
    "ddod": ("ddod/ddod_r50_fpn_1x_coco.py", WIDE),
    "dyhead": ("dyhead/atss_r50_fpn_dyhead_1x_coco.py", {**R18, "model.neck.0.in_channels": [64, 128, 256, 512]}),
    "tood": ("tood/tood_r50_fpn_1x_coco.py", WIDE),
    "vfnet": ("vfnet/vfnet_r50_fpn_1x_coco.py", WIDE),
}
REFUSED = {
    "ssd300": ("ssd/ssd300_coco.py", "fail in plain mmdet 3.3.0 already: SSDHead has no loss_cls"),
    "ssdlite": ("ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py", "SSDHead has no loss_cls"),
    "centernet (2019)": ("centernet/centernet_r18_8xb16-crop512-140e_coco.py", "no Resize with a scale"),
    "solo": ("solo/solo_r50_fpn_1x_coco.py", "SOLO segments"),
    "condinst": ("condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py", "CondInst segments"),
    "yolact": ("yolact/yolact_r50_1xb8-55e_coco.py", "YOLACT segments"),
    "soft_teacher": (
        "soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py",
        "SoftTeacher trains a student and a teacher",
    ),
}


def config(path: str, options: dict[str, Any]) -> Config:
    """The host's own config, made small."""
    cfg = Config.fromfile(mim_folder() / "configs" / path)
    backbone = cfg.model.get("backbone", {})
    if "init_cfg" in backbone:
        backbone.init_cfg = None  # it would download
    cfg.merge_from_dict(options)
    return cfg


@pytest.mark.parametrize("family", ROUTED)
def test_a_family_routes_and_trains_a_router(family: str) -> None:
    cfg = config(*ROUTED[family])
    detector = build(cfg.model)
    detector.cfg = cfg
    assert boxes_follow(detector)
    adapter = MMDetAdapter(detector)
    targets = [Targets(np.array([[8, 8, 60, 60], [20, 30, 70, 80.0]]), np.array([0, 1])) for _ in range(2)]
    batch = adapter.collate(photos(2), 128, targets)
    routed = adapter.wrap(forced([True, False]), 0.5, lambda _: None)
    with torch.no_grad():
        plain = detector.predict(batch.inputs, [s.clone() for s in batch.samples], rescale=True)
        samples = routed.predict(batch.inputs, [s.clone() for s in batch.samples])
    assert [s.route for s in samples] == ["high", "low"]
    _, losses = adapter.profile_pass(batch, True)
    assert losses is not None and torch.isfinite(losses).all() and torch.equal(losses, adapter.losses(batch))
    assert plain[0].pred_instances.bboxes.shape[1:] == samples[1].pred_instances.bboxes.shape[1:] == (4,)
    frozen = {key: value.clone() for key, value in detector.state_dict().items()}
    model = DualResDetector(detector, tiny_router()).train()
    sum(model.loss(batch.inputs, [s.clone() for s in batch.samples]).values()).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.router.parameters())
    assert all(torch.equal(frozen[key], value) for key, value in detector.state_dict().items())


@pytest.mark.skipif(not mmcv_ext.install(), reason="compiled mmcv has these operations")
@pytest.mark.parametrize("family", COMPILED)
def test_what_needs_the_compiled_mmcv_says_so(family: str) -> None:
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    cfg = config(*COMPILED[family])
    init_default_scope("mmdet")
    detector = MODELS.build(cfg.model).eval()
    detector.cfg = cfg
    adapter = MMDetAdapter(detector)
    with pytest.raises(DualResError, match="needs the compiled mmcv"):
        adapter.predict(adapter.collate(photos(1), 128))


def test_a_loss_of_the_host_that_needs_another_package_says_which() -> None:
    if importlib.util.find_spec("sklearn"):
        pytest.skip("scikit-learn is installed: PAA has its loss")
    cfg = config("paa/paa_r50_fpn_1x_coco.py", WIDE)
    detector = build(cfg.model)
    detector.cfg = cfg
    adapter = MMDetAdapter(detector)
    batch = adapter.collate(photos(1), 128, [Targets(np.array([[8, 8, 60, 60.0]]), np.array([0]))])
    assert adapter.predict(batch)
    with pytest.raises(DualResError, match="sklearn"):
        adapter.losses(batch)


@pytest.mark.parametrize("family", REFUSED)
def test_what_cannot_be_routed_is_refused_by_name(family: str) -> None:
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    path, message = REFUSED[family]
    cfg = config(path, {})
    init_default_scope("mmdet")
    detector = MODELS.build(cfg.model)
    detector.cfg = cfg
    with pytest.raises(DualResError, match=message):
        MMDetAdapter(detector)
