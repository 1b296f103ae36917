"""Small mmdet detectors of four families, random photos and configs, for the host tests."""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dualres_plugin.adapters import mmdet as plugin
from dualres_plugin.common.types import RouterImages
from dualres_plugin.router.network import ResolutionRouter
from tests.fakes import coco_dict, lively_router

FAMILIES = {
    "yolox": (
        "yolox/yolox_tiny_8xb8-300e_coco.py",
        {
            "model.backbone.widen_factor": 0.125,
            "model.neck.in_channels": [32, 64, 128],
            "model.neck.out_channels": 32,
            "model.bbox_head.in_channels": 32,
            "model.bbox_head.feat_channels": 32,
            "model.test_cfg.score_thr": 0.0,
            "model.test_cfg.max_per_img": 30,
        },
    ),
    "rtmdet": (
        "rtmdet/rtmdet_tiny_8xb32-300e_coco.py",
        {
            "model.backbone.widen_factor": 0.125,
            "model.backbone.init_cfg": None,
            "model.neck.in_channels": [32, 64, 128],
            "model.neck.out_channels": 32,
            "model.bbox_head.in_channels": 32,
            "model.bbox_head.feat_channels": 32,
            "model.test_cfg.score_thr": 0.0,
            "model.test_cfg.max_per_img": 30,
        },
    ),
    "faster_rcnn": (
        "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
        {
            "model.backbone.depth": 18,
            "model.backbone.init_cfg": None,
            "model.neck.in_channels": [64, 128, 256, 512],
            "model.test_cfg.rcnn.score_thr": 0.0,
            "model.test_cfg.rcnn.max_per_img": 30,
            "model.test_cfg.rpn.nms_pre": 100,
            "model.test_cfg.rpn.max_per_img": 50,
        },
    ),
    "detr": (
        "detr/detr_r18_8xb2-500e_coco.py",
        {
            "model.backbone.init_cfg": None,
            "model.num_queries": 20,
            "model.test_cfg.max_per_img": 20,
            "model.encoder.num_layers": 1,
            "model.decoder.num_layers": 2,
        },
    ),
    "deformable_detr": (
        "deformable_detr/deformable-detr_r50_16xb2-50e_coco.py",
        {
            "model.backbone.depth": 18,
            "model.backbone.init_cfg": None,
            "model.neck.in_channels": [128, 256, 512],
            "model.num_queries": 20,
            "model.test_cfg.max_per_img": 20,
            "model.encoder.num_layers": 1,
            "model.decoder.num_layers": 2,
        },
    ),
}


def family_config(name: str) -> Any:
    """The host's own config, made small."""
    from mmengine.config import Config

    path, options = FAMILIES[name]
    cfg = Config.fromfile(mim_folder() / "configs" / path)
    cfg.merge_from_dict(options)
    return cfg


def build(model: Any, seed: int = 0) -> Any:
    """A detector with random weights, in eval."""
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")
    torch.manual_seed(seed)
    detector = MODELS.build(model)
    detector.init_weights()
    detector.eval()
    _settle(detector)
    return detector


def _settle(detector: Any) -> None:
    """Batch-norm statistics of real activations: deep random networks explode without."""
    norms = [module for module in detector.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train().momentum = 1.0
    noise = torch.randn(4, 3, 128, 128)
    with torch.no_grad():
        features = detector.extract_feat(noise * 50 + 100)
        if hasattr(detector, "bbox_head") and hasattr(detector.bbox_head, "prior_generator"):
            detector.bbox_head(features)
    for norm, momentum in zip(norms, momenta):
        norm.eval().momentum = momentum


def family_detector(name: str) -> Any:
    cfg = family_config(name)
    detector = build(cfg.model)
    detector.cfg = cfg
    return detector


def photos(count: int = 4, seed: int = 0) -> list[np.ndarray]:
    """Smooth random pictures of different shapes, RGB uint8."""
    import cv2

    random = np.random.default_rng(seed)
    shapes = [(96, 128), (128, 80), (100, 100), (64, 160), (110, 90)]
    pictures = []
    for i in range(count):
        coarse = random.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        h, w = shapes[i % len(shapes)]
        pictures.append(cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC))
    return pictures


def tiny_router() -> ResolutionRouter:
    return lively_router(photos(5), backbone="mobilenet_v3_small")


def router_input(pictures: list[np.ndarray]) -> RouterImages:
    from dualres_plugin.common.images.photo import router_images_of

    return router_images_of(pictures)


# A user's config: their detector and data in a base file, three lines for the routing.
BASE = """
_base_ = ['mmdet::yolox/yolox_tiny_8xb8-300e_coco.py']
model = dict(
    backbone=dict(widen_factor=0.125),
    neck=dict(in_channels=[32, 64, 128], out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32, num_classes=3),
    test_cfg=dict(score_thr=0.0, max_per_img=20))
pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='Resize', scale=(128, 128), keep_ratio=True),
    dict(type='Pad', pad_to_square=True, pad_val=dict(img=(114.0, 114.0, 114.0))),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(128, 128), keep_ratio=True),
    dict(type='Pad', pad_to_square=True, pad_val=dict(img=(114.0, 114.0, 114.0))),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
data = dict(
    type='CocoDataset', data_root=r'{root}', ann_file='annotations.json', data_prefix=dict(img='images/'),
    metainfo=dict(classes=('person', 'bicycle', 'car')))
train_dataloader = dict(
    _delete_=True, batch_size={batch}, num_workers=0, persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True), dataset=dict(**data, pipeline=train_pipeline))
val_dataloader = dict(
    _delete_=True, batch_size=3, num_workers=0, persistent_workers=False, drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False), dataset=dict(**data, test_mode=True, pipeline=pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True, type='CocoMetric', ann_file=r'{root}/annotations.json', metric='bbox')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs={epochs}, val_interval=1, dynamic_intervals=None)
custom_hooks = []
param_scheduler = [dict(type='ConstantLR', factor=1.0)]
optim_wrapper = dict(
    _delete_=True, type='OptimWrapper', optimizer=dict(type='SGD', lr=2e-4, momentum=0.8, nesterov=True))
auto_scale_lr = dict(enable=False, base_batch_size=8)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1, max_keep_ckpts=5))
randomness = dict(seed=3)
"""

ROUTED = """
_base_ = ['{base}']
custom_imports = dict(imports=['dualres_plugin.adapters.mmdet'], allow_failed_imports=False)
dualres = dict({settings})
"""


def write_coco(folder: Path, pictures: list[np.ndarray]) -> Path:
    """A COCO set of the pictures with some boxes; returns the annotation file."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    paths = [folder / "images" / f"{i:03d}.png" for i in range(len(pictures))]
    for path, picture in zip(paths, pictures):
        Image.fromarray(picture).save(path)
    file = folder / "annotations.json"
    categories = {1: "person", 2: "bicycle", 3: "car"}
    file.write_text(json.dumps(coco_dict(folder / "images", paths, categories=categories)))
    return file


class Project:
    """A user's folder: photos, a base config, a router, and the weights of a plain detector."""

    def __init__(self, folder: Path, batch: int = 4, epochs: int = 2):
        self.folder = folder
        self.pictures = photos(8)
        write_coco(folder, self.pictures)
        self.base = folder / "base.py"
        text = BASE.replace("{root}", str(folder)).replace("{batch}", str(batch))
        self.base.write_text(text.replace("{epochs}", str(epochs)))
        self.router = tiny_router().save(folder / "router")
        self.plain = folder / "plain.pth"
        from mmengine.config import Config

        self.detector = build(Config.fromfile(self.base).model)
        meta = {"dataset_meta": {"classes": ("person", "bicycle", "car")}}
        torch.save({"meta": meta, "state_dict": self.detector.state_dict()}, self.plain)

    def config(self, name: str = "routed.py", **settings: Any) -> Path:
        settings = {"router": str(self.router), **settings}
        written = ", ".join(f"{key}={value!r}" for key, value in settings.items())
        path = self.folder / name
        path.write_text(ROUTED.format(base=self.base.name, settings=written))
        return path


def mim_folder() -> Path:
    """Where mmdet's wheel keeps its configs and tools."""
    import mmdet

    return Path(mmdet.__file__).parent / ".mim"


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}


def run_tool(tool: str, *arguments: object, cwd: Path) -> str:
    """Run one of mmdet's own scripts as a user does; returns what it printed."""
    return run_python(mim_folder() / "tools" / tool, *arguments, cwd=cwd)


def run_tool_here(tool: str, *arguments: object, cwd: Path) -> str:
    """The same in this process, which has mmdet imported already: no proof that a config finds the plugin by itself."""
    script = mim_folder() / "tools" / tool
    printed = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        patch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        patch.chdir(cwd)
        runpy.run_path(str(script), run_name="__main__")
    return printed.getvalue()


def run_python(*arguments: object, cwd: Path) -> str:
    """Run Python as a user does; returns what it printed."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


assert plugin is not None  # importing it is what makes mmdet importable on mmcv-lite
