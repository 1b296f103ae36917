"""mmdet's YOLOX and RTMDet for ONNX: their tensor forward and the decoding of their heads."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dualres_plugin.common.card import Postprocess, Preprocess
from dualres_plugin.common.errors import DualResError
from dualres_plugin.hosts.export_plan import ExportPlan

FAMILIES = ("YOLOXHead", "RTMDetHead", "RTMDetSepBNHead")


def head_of(detector: Any) -> Any:
    """The head, if its family can be exported.

    Raises:
        DualResError: If it is another family.
    """
    head = getattr(detector, "bbox_head", None)
    if type(head).__name__ not in FAMILIES:
        raise DualResError(
            f"export knows mmdet's YOLOX and RTMDet, not {type(detector).__name__} with {type(head).__name__}. "
            "Deploy it with MMDeploy at each size."
        )
    return head


def export_plan(
    detector: Any, pipeline: Sequence[Any], stride: int, scale: float, antialias: bool, fixed: bool
) -> ExportPlan:
    """How a detector goes into a graph: its test pipeline and its `test_cfg`.

    Args:
        detector: of a family that can be exported.
        pipeline: configs of its test transforms.
        stride: sizes are multiples of it, in pixels.
        scale: low / high ratio.
        antialias: the low input is averaged, not sampled.
        fixed: the preprocessing pads to the full square anyway.

    Raises:
        DualResError: If it is another family, or its pipeline does not keep the photo's proportions.
    """
    head, preprocessor = head_of(detector), detector.data_preprocessor
    resizes = [step for step in pipeline if "Resize" in str(step["type"])]
    if not resizes or not resizes[0].get("keep_ratio", False):
        raise DualResError("export needs a test pipeline whose Resize has keep_ratio=True.")
    cfg = head.test_cfg
    yolox = type(head).__name__ == "YOLOXHead"
    pre = Preprocess(
        centre=False, fill=_padding(pipeline, preprocessor), multiple=0 if fixed else stride, rounding="up"
    )
    least = float(cfg.get("score_thr", 0.0))
    post = Postprocess(
        boxes="xyxy", conf=least, floor=least, iou=float(cfg.nms.iou_threshold),
        max_det=int(cfg.get("max_per_img", 2**31 - 1)), multi_label=not yolox, offset=0.0,
        clip="none" if yolox else "frame", drop_empty=cfg.get("min_bbox_size", -1) >= 0,
    )  # fmt: skip
    return ExportPlan(pre, post, scale, stride, antialias=antialias)


def pads_to_size(pipeline: Sequence[Any]) -> bool:
    """Whether the test pipeline pads every photo to one square."""
    pads = [step for step in pipeline if "Pad" in str(step["type"])]
    return any(step.get("size") or step.get("pad_to_square") for step in pads)


def _padding(pipeline: Sequence[Any], preprocessor: Any) -> tuple[float, float, float]:
    """The padding colour, as RGB in [0, 1] of the photo."""
    for step in pipeline:
        if "Pad" in str(step["type"]):
            value = step.get("pad_val", 0)
            value = value.get("img", 0) if isinstance(value, dict) else value
            b, g, r = (float(v) / 255 for v in (value if isinstance(value, (tuple, list)) else [value] * 3))
            return r, g, b
    # The preprocessor pads after normalisation: back to what the photo would have to be.
    mean, std = torch.zeros(3), torch.ones(3)
    if getattr(preprocessor, "_enable_normalize", False):
        mean, std = preprocessor.mean.flatten().cpu(), preprocessor.std.flatten().cpu()
    padded = (mean + std * float(getattr(preprocessor, "pad_value", 0))) / 255
    rgb = padded if getattr(preprocessor, "_channel_conversion", False) else padded.flip(0)
    r, g, b = (float(v) for v in rgb)
    return r, g, b


class MMDetBranch(nn.Module):
    """A copy of the detector up to its decoded boxes, before NMS.

    Args:
        detector: of a family that can be exported.

    Raises:
        DualResError: If it is another family.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, detector: Any):
        super().__init__()
        head_of(detector)
        self.net = copy.deepcopy(detector).eval().requires_grad_(False)
        preprocessor = self.net.data_preprocessor
        self.bgr = not getattr(preprocessor, "_channel_conversion", False)
        mean, std = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
        if getattr(preprocessor, "_enable_normalize", False):
            mean, std = preprocessor.mean.view(1, 3, 1, 1), preprocessor.std.view(1, 3, 1, 1)
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())

    def forward(self, images: Tensor) -> Tensor:
        """(1, 3, H, W) RGB in [0, 1] -> (1, 4 + classes, N) xyxy boxes in input pixels, and scores."""
        pixels = (images.flip(1) if self.bgr else images) * 255
        outputs = self.net._forward((pixels - self.mean) / self.std)
        head = self.net.bbox_head
        priors = head.prior_generator.grid_priors(
            [level.shape[2:] for level in outputs[0]], dtype=images.dtype, device=images.device, with_stride=True
        )
        scores, boxes = (torch.cat([level.flatten(2) for level in part], dim=2) for part in outputs[:2])
        scores = scores.sigmoid()
        if type(head).__name__ == "YOLOXHead":
            scores = scores * torch.cat([level.flatten(2) for level in outputs[2]], dim=2).sigmoid()
        points = torch.cat(priors).T[None]  # (1, 4, N): x, y, stride, stride
        return torch.cat([_decoded(boxes, points, type(head).__name__ == "YOLOXHead"), scores], dim=1)


def _decoded(boxes: Tensor, points: Tensor, yolox: bool) -> Tensor:
    centre = points[:, :2]
    if not yolox:  # distances to the four sides, in pixels
        return torch.cat([centre - boxes[:, :2], centre + boxes[:, 2:]], dim=1)
    centre = centre + boxes[:, :2] * points[:, 2:]
    half = boxes[:, 2:].exp() * points[:, 2:] / 2
    return torch.cat([centre - half, centre + half], dim=1)
