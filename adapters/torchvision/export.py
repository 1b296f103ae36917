"""Torchvision detectors for ONNX: the graph scales the photo, as the model's own transform does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dualres_plugin.adapters.torchvision.patches import without_resize
from dualres_plugin.common.card import Postprocess, Preprocess
from dualres_plugin.hosts.export_plan import ExportPlan


def export_plan(low: Any, high: Any, scale: float) -> ExportPlan:
    """How a detector goes into a graph: the photo as it is, finished rows out.

    Args:
        low: the detector with its transform at the low size.
        high: the same at the high size.
        scale: low / high ratio.
    """
    pre = Preprocess(kind="original")
    limit = getattr(high, "roi_heads", high).detections_per_img
    post = Postprocess(layout="rows", nms=False, conf=0.0, max_det=int(limit))
    both = (low.transform, high.transform)
    stride = int(high.transform.size_divisible)
    if high.transform.fixed_size is not None:
        (low_w, low_h), (w, h) = (t.fixed_size for t in both)
        # Tracing bakes the size of SSD's default boxes in, so each size is a graph of its own.
        return ExportPlan(pre, post, scale, stride, dynamic=False, stretch=((h, w), (low_h, low_w)))
    small, large = ((int(t.min_size[-1]), int(t.max_size)) for t in both)
    return ExportPlan(pre, post, scale, stride, fit=(large, small))


class ScaledDetector(nn.Module):
    """The detector without its resizing.

    Args:
        detector: whose parameters are shared.
    """

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.net = without_resize(detector)

    def forward(self, images: Tensor) -> Tensor:
        """A scaled photo (1, 3, h, w) in [0, 1] -> (1, N, 6) rows of xyxy in its pixels, score and label."""
        found = self.net([images[0]])[0]
        labels = found["labels"].to(torch.float32)
        return torch.cat([found["boxes"], found["scores"][:, None], labels[:, None]], dim=1)[None]
