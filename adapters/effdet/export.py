"""effdet networks for ONNX. Their sizes are built in, so each size is a graph of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dualres_plugin.common.card import Postprocess, Preprocess
from dualres_plugin.hosts.export_plan import ExportPlan

IOU = 0.5  # fixed in the host's `generate_detections`


def export_plan(bench: Any, fill: tuple[int, int, int], scale: float, stride: int) -> ExportPlan:
    """How a network goes into a graph: PIL's bilinear filter, padding at the bottom right, 5000 candidates out.

    Args:
        bench: a `DetBenchPredict`.
        fill: RGB of the padding, 0 to 255.
        scale: low / high ratio.
        stride: sizes are multiples of it, in pixels.
    """
    r, g, b = (value / 255 for value in fill)
    pre = Preprocess(centre=False, fill=(r, g, b), resample="pil", rounding="down", gain="frame")
    post = Postprocess(
        layout="rows", conf=0.0, iou=IOU, max_det=int(bench.max_det_per_image), offset=0.0, clip="content"
    )
    return ExportPlan(pre, post, scale, stride, dynamic=False, antialias=True)


class EffdetBranch(nn.Module):
    """The host's best candidates, decoded, before its NMS.

    Args:
        bench: a `DetBenchPredict` at the size of the graph; its network is shared.
        mean: (1, 3, 1, 1) of RGB in [0, 1].
        std: (1, 3, 1, 1) deviation.
    """

    mean: Tensor
    std: Tensor
    anchors: Tensor

    def __init__(self, bench: Any, mean: Tensor, std: Tensor):
        super().__init__()
        self.net = bench.model
        self.bench = [bench]  # in a list: its anchors are no weights of this module
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.register_buffer("anchors", bench.anchors.boxes.clone())

    def forward(self, images: Tensor) -> Tensor:
        """(1, 3, H, W) RGB in [0, 1] -> (1, candidates, 6) rows of xyxy in input pixels, score and class."""
        from effdet.anchors import decode_box_outputs
        from effdet.bench import _post_process

        (bench,) = self.bench
        classified, regressed = self.net((images - self.mean) / self.std)
        scores, boxes, anchors, classes = _post_process(
            classified, regressed, bench.num_levels, bench.num_classes, bench.max_detection_points
        )
        decoded = decode_box_outputs(boxes[0].float(), self.anchors[anchors[0]], output_xyxy=True)
        labels = classes[0][:, None].to(torch.float32) + 1  # the host counts from one
        return torch.cat([decoded, scores[0].sigmoid(), labels], dim=1)[None]
