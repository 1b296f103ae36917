"""What a routed `DetBenchTrain` answers in a validation loop: the host's losses, each image at its own size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dualres_plugin.adapters.effdet.batch import EffdetBatch
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.resize import axis_ratio

# Bench at the batch's size, class and box outputs per level, detections (B, 100, 6).
Forward = Callable[[EffdetBatch], tuple[Any, tuple[list[Tensor], list[Tensor]], Tensor]]
Parts = Sequence[tuple[Tensor, EffdetBatch]]  # (K,) indices into the batch, and these images at their size


def validated(forward: Forward, parts: Parts, batch: EffdetBatch, target: dict[str, Any]) -> dict[str, Tensor]:
    """`loss`, `class_loss`, `box_loss` and `detections` of a batch, as the host's bench gives them in eval.

    The host divides by the objects of the whole batch, and so do the parts: their losses add up.

    Args:
        forward: one pass of the network.
        parts: the images of either route.
        batch: all of them, at the high size.
        target: of the host's loader: `bbox` (B, N, 4) yxyx in input pixels and `cls` (B, N), -1 where there is none.

    Raises:
        DualResError: If the loader has labelled the anchors, which it does for the high size alone.
    """
    if "bbox" not in target or "cls" not in target:
        raise DualResError(
            "a routed effdet bench labels the anchors itself, for either size: it needs the loader's `bbox` and `cls`. "
            "Make the loader without its anchor labeler."
        )
    passes = [forward(part) for _, part in parts]
    labels = [_labelled(done[0], index, part, batch, target) for done, (index, part) in zip(passes, parts)]
    objects = torch.cat([positives for _, _, positives in labels])
    found, losses = [], []
    for (bench, outputs, detections), (classes, boxes, _) in zip(passes, labels):
        losses.append(torch.stack(_loss_of(bench)(*outputs, classes, boxes, objects)))
        found.append(detections)
    loss, class_loss, box_loss = torch.stack(losses).sum(dim=0)
    rows = found[0].new_zeros(len(batch.images), *found[0].shape[1:])
    for (index, _), detections in zip(parts, found):
        rows[index.to(rows.device)] = detections
    return {"loss": loss, "class_loss": class_loss, "box_loss": box_loss, "detections": rows}


def _labelled(bench: Any, index: Tensor, part: EffdetBatch, batch: EffdetBatch, target: dict[str, Any]) -> Any:
    """Class targets, box targets and the number of positives of each image, from anchors of the part's size."""
    from effdet.anchors import AnchorLabeler

    x, y = axis_ratio(batch.shape, part.shape)
    chosen = index.tolist()
    boxes = [target["bbox"][i] / target["bbox"][i].new_tensor([y, x, y, x]) for i in chosen]
    labeler = AnchorLabeler(bench.anchors, bench.num_classes, match_threshold=0.5)
    return labeler.batch_label_anchors(boxes, [target["cls"][i] for i in chosen])


def _loss_of(bench: Any) -> Any:
    from effdet.loss import DetectionLoss

    return DetectionLoss(bench.config)
