"""The training loss of each image of a batch, through the parts of Ultralytics' own criterion.

The host normalises its loss over the batch, so a per-image loss means one criterion call an image, and that costs a
tenth of a detector pass: the assigner and the losses look at all 8,400 anchors. But an object is assigned to a few
anchors only, and every other anchor adds the same term, a classification loss with target 0. So the host's assigner
and box loss see the few anchors that can be assigned, and the rest is one sum over the batch. The values are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dualres_plugin.adapters.ultralytics.patches import with_loss_settings
from dualres_plugin.common.types import Targets

SPARE = 3  # candidates an object keeps beyond the assigner's top-k, against ties by rounding


class ImageLosses:
    """Per-image losses of one network.

    Args:
        net: an Ultralytics `DetectionModel` in eval mode; its `args` are set.
    """

    def __init__(self, net: nn.Module):
        from ultralytics.utils.loss import v8DetectionLoss

        self.criterion: Any = v8DetectionLoss(with_loss_settings(net))

    @torch.no_grad()
    def __call__(self, raw: Any, targets: Sequence[Targets], sizes: Sequence[tuple[int, int]]) -> Tensor:
        """(B,) losses.

        Args:
            raw: what the network returns in eval mode: decoded boxes, and the head's training output, a dict of
                `boxes` (B, 4 x bins, A), `scores` (B, classes, A) and `feats`.
            targets: ground truth in original pixels.
            sizes: (height, width) of the original images.
        """
        from ultralytics.utils.tal import make_anchors

        criterion = self.criterion
        predictions = raw[1].get("one2one", raw[1])  # fusing an end-to-end head removes the other branch
        distances, logits = predictions["boxes"], predictions["scores"]
        points, strides = make_anchors(predictions["feats"], criterion.stride, 0.5)
        shape = tuple(int(side * criterion.stride[0]) for side in predictions["feats"][0].shape[2:])
        background = self._weighted(F.softplus(logits).sum(dim=2)).sum(dim=1)
        boxes, labels, real = (t.to(logits.device) for t in _padded(targets, sizes, shape))
        if not boxes.shape[1]:  # no objects at all: only the background term is left, over a total of 1
            losses: Tensor = criterion.hyp.cls * background
            return losses.float().cpu()

        keep = self._candidates(
            self._decoded(raw[0], distances, points, strides), logits, points * strides, boxes, labels, real
        )
        points, strides = points[keep], strides[keep]
        distances, logits = distances[:, :, keep].transpose(1, 2), logits[:, :, keep].transpose(1, 2)
        decoded = criterion.bbox_decode(points, distances.contiguous())
        assigned = criterion.assigner(logits.sigmoid(), decoded * strides, points * strides, labels, boxes, real)
        target_scores = assigned[2]
        total = target_scores.sum(dim=(1, 2)).clamp_(min=1)
        # Cross-entropy of a logit x with target t is softplus(x) - x t, and the first term is in `background`.
        classes = (background - self._weighted((logits * target_scores).sum(dim=1)).sum(dim=1)) / total
        boxes_off = self._box_losses(distances, decoded, points, strides, assigned, total, logits.new_tensor(shape))
        losses = criterion.hyp.cls * classes + boxes_off
        return losses.float().cpu()

    def _box_losses(
        self,
        distances: Tensor,
        decoded: Tensor,
        points: Tensor,
        strides: Tensor,
        assigned: tuple[Tensor, ...],
        total: Tensor,
        shape: Tensor,
    ) -> Tensor:
        """(B,) box and distribution losses, image by image: the host sums them over a batch."""
        criterion = self.criterion
        _, target_boxes, target_scores, foreground, _ = assigned
        losses = []
        for i in range(len(total)):
            one = slice(i, i + 1)
            box, distribution = criterion.bbox_loss(
                distances[one], decoded[one], points, target_boxes[one] / strides, target_scores[one], total[i],
                foreground[one], shape, strides,
            )  # fmt: skip
            losses.append(criterion.hyp.box * box + criterion.hyp.dfl * distribution)
        return torch.stack(losses)

    def _decoded(self, y: Tensor, distances: Tensor, points: Tensor, strides: Tensor) -> Tensor:
        """(B, A, 4) xyxy in input pixels of every anchor."""
        if y.shape[-1] == len(points):  # the network decoded them already, as xywh
            centre, half = y[:, :2], y[:, 2:4] / 2
            return torch.cat((centre - half, centre + half), dim=1).transpose(1, 2)
        decoded: Tensor = self.criterion.bbox_decode(points, distances.transpose(1, 2).contiguous()) * strides
        return decoded

    def _candidates(
        self, decoded: Tensor, logits: Tensor, points: Tensor, boxes: Tensor, labels: Tensor, real: Tensor
    ) -> Tensor:
        """Indices of the anchors that the assigner can choose: the best few of each object, by its own measure."""
        from ultralytics.utils.metrics import bbox_iou

        assigner = self.criterion.assigner
        image, nth = real.squeeze(2).nonzero(as_tuple=True)  # objects in one list: padding would cost most here
        objects, classes = boxes[image, nth], labels[image, nth, 0].long()
        inside = assigner.select_candidates_in_gts(points, objects[None], torch.ones_like(objects[None, :, :1]))[0]
        of, at = inside.nonzero(as_tuple=True)
        overlap = bbox_iou(objects[of], decoded[image[of], at], xywh=False, CIoU=True).squeeze(-1).clamp_(min=0)
        score = logits[image[of], classes[of], at].sigmoid()
        fit = logits.new_zeros(inside.shape)
        fit[of, at] = score**assigner.alpha * overlap**assigner.beta
        best: Tensor = fit.topk(min(max(assigner.topk, assigner.topk2) + SPARE, len(points)), dim=1).indices
        chosen: Tensor = best.unique()
        return chosen

    def _weighted(self, per_class: Tensor) -> Tensor:
        weights: Tensor | None = self.criterion.class_weights
        return per_class if weights is None else per_class * weights.flatten()


def _padded(
    targets: Sequence[Targets], sizes: Sequence[tuple[int, int]], shape: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Objects of a batch in pixels of the letterboxed input: (B, N, 4) xyxy, (B, N, 1) labels, (B, N, 1) 1 if real."""
    trainable = [target.trainable for target in targets]
    most = max((len(target) for target in trainable), default=0)
    boxes, labels, real = (torch.zeros(len(targets), most, columns) for columns in (4, 1, 1))
    for i, (target, size) in enumerate(zip(trainable, sizes)):
        gain = min(shape[0] / size[0], shape[1] / size[1])
        pad_x, pad_y = ((side - round(original * gain)) / 2 for side, original in zip(shape[::-1], size[::-1]))
        boxes[i, : len(target)] = torch.from_numpy(target.boxes) * gain + torch.tensor([pad_x, pad_y, pad_x, pad_y])
        labels[i, : len(target), 0] = torch.from_numpy(target.labels)
        real[i, : len(target)] = 1
    return boxes, labels, real
