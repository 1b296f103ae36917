"""The training loss of each image of a batch: effdet divides by the number of matched anchors of a whole batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dualres_plugin.adapters.effdet.batch import EffdetBatch


class ImageLosses:
    """Per-image losses of one bench.

    Args:
        bench: a `DetBenchPredict` at the size of the batches.
    """

    def __init__(self, bench: Any):
        from effdet.anchors import AnchorLabeler
        from effdet.loss import DetectionLoss

        self._labeler: Any = AnchorLabeler(bench.anchors, bench.num_classes, match_threshold=0.5)
        self._loss: Any = DetectionLoss(bench.config)

    def __call__(self, outputs: tuple[list[Tensor], list[Tensor]], batch: EffdetBatch) -> Tensor:
        """The host's own loss on one-image slices of what the network gave.

        Args:
            outputs: class and box outputs of the whole batch, one (B, C, H, W) per level each.
            batch: with targets.

        Returns:
            (B,) float32, detached, on the CPU.
        """
        values = []
        for i in range(len(batch.images)):
            boxes, classes = loss_targets(batch, i)
            labels = self._labeler.batch_label_anchors([boxes], [classes])
            classified, regressed = ([level[i : i + 1] for level in part] for part in outputs)
            values.append(self._loss(classified, regressed, *labels)[0])
        return torch.stack(values).detach().float().cpu()


def loss_targets(batch: EffdetBatch, i: int) -> tuple[Tensor, Tensor]:
    """What image `i` is labelled with, clipped as the host's loader does it.

    Returns:
        (N, 4) boxes as yxyx in input pixels, and (N,) classes, on the device of the images.
    """
    assert batch.targets is not None, "losses need targets"
    target, (h, w) = batch.targets[i].trainable, batch.content[i]
    device = batch.images.device
    scale = float(batch.img_scale[i]) if batch.img_scale is not None else 1.0
    sides = torch.tensor([scale, scale * batch.stretch] * 2)
    boxes = (torch.from_numpy(target.boxes).float() / sides)[:, [1, 0, 3, 2]]
    boxes = boxes.clamp(min=0).minimum(torch.tensor([h, w, h, w]))
    valid = (boxes[:, :2] < boxes[:, 2:]).all(dim=1)
    return boxes[valid].to(device), torch.from_numpy(target.labels).float()[valid].to(device)
