"""Torchvision detectors for ONNX: the graph scales the photo, as the model's own transform does."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from dualres_plugin.common.card import Postprocess, Preprocess
from dualres_plugin.hosts.export_plan import ExportPlan


def export_plan(high: Any, low: Any, scale: float) -> ExportPlan:
    """How a detector goes into a graph: the photo as it is, finished rows out.

    Args:
        high, low: the detector with its transform at each size.
    """
    pre = Preprocess(kind="original")
    limit = getattr(high, "roi_heads", high).detections_per_img
    post = Postprocess(layout="rows", nms=False, conf=0.0, max_det=int(limit))
    both = (high.transform, low.transform)
    stride = int(high.transform.size_divisible)
    if high.transform.fixed_size is not None:
        (w, h), (low_w, low_h) = (t.fixed_size for t in both)
        # Tracing bakes the size of SSD's default boxes in, so each size is a graph of its own.
        return ExportPlan(pre, post, scale, stride, dynamic=False, stretch=((h, w), (low_h, low_w)))
    first, second = ((int(t.min_size[-1]), int(t.max_size)) for t in both)
    return ExportPlan(pre, post, scale, stride, fit=(first, second))


class ScaledDetector(nn.Module):
    """The detector without its resizing: a scaled photo (1, 3, h, w) in [0, 1] -> (1, N, 6) rows in its pixels."""

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.net = copy.copy(detector)
        self.net._modules = dict(detector._modules)
        transform: Any = copy.copy(detector.transform)
        transform.resize = lambda image, target=None: (image, target)  # the graph has done it
        self.net._modules["transform"] = transform
        self.net.eval()

    def forward(self, images: Tensor) -> Tensor:
        found = self.net([images[0]])[0]
        labels = found["labels"].to(torch.float32)
        return torch.cat([found["boxes"], found["scores"][:, None], labels[:, None]], dim=1)[None]
