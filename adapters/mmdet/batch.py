"""What mmdet feeds its networks, and how a sample changes when its image is resized inside the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from dualres_plugin.common.resize import axis_ratio, resize_images, scale_boxes

Shape = tuple[int, int]


@dataclass(frozen=True)
class MMDetBatch:
    """One batch as it leaves the host's data preprocessor.

    Attributes:
        inputs: (B, 3, H, W), normalised and padded at the bottom right.
        samples: B `DetDataSample`.
        rescale: boxes leave in original pixels (the host's default) or in pixels of the high input.
        low: made by `resize`.
        targets: the samples' ground truth belongs to `inputs` and is wanted for a loss.
    """

    inputs: Tensor
    samples: Sequence[Any]
    rescale: bool = True
    low: bool = False
    targets: bool = False

    @property
    def shape(self) -> Shape:
        """(height, width) of the network input."""
        return int(self.inputs.shape[2]), int(self.inputs.shape[3])

    def take(self, index: Tensor) -> MMDetBatch:
        return replace(self, inputs=self.inputs[index], samples=[self.samples[i] for i in index.tolist()])

    def padded(self, size: Shape, value: float) -> MMDetBatch:
        """The batch padded to a fixed (height, width), as exported graphs with fixed shapes take it."""
        h, w = (wanted - side for wanted, side in zip(size, self.shape))
        samples = [sample.clone() for sample in self.samples]
        for sample in samples:
            sample.set_metainfo({"batch_input_shape": size, "pad_shape": size})
        return replace(self, inputs=F.pad(self.inputs, (0, w, 0, h), value=value), samples=samples)

    def resized(self, size: Shape, antialias: bool) -> MMDetBatch:
        """The batch at the low size (height, width), samples updated, nothing mutated."""
        samples = [resized_sample(sample, self.shape, size, self.targets) for sample in self.samples]
        return replace(self, inputs=resize_images(self.inputs, size, antialias), samples=samples, low=True)


def resized_sample(sample: Any, high: Shape, low: Shape, with_targets: bool) -> Any:
    """A copy of a `DetDataSample` whose image went from `high` to `low` (height, width).

    Heads divide their boxes by `scale_factor`, clip them to `img_shape` and build padding masks from
    `batch_input_shape`, so all of them have to follow the image.
    """
    x, y = axis_ratio(low, high)  # factors from high to low
    copy = sample.clone()
    meta: dict[str, Any] = {"batch_input_shape": low}
    for name in ("img_shape", "pad_shape"):
        if name in sample:
            h, w = sample.get(name)[:2]
            meta[name] = (min(round(h * y), low[0]), min(round(w * x), low[1]))
    if "scale_factor" in sample:
        factors = [float(f) for f in sample.scale_factor]
        meta["scale_factor"] = tuple(f * (x, y)[i % 2] for i, f in enumerate(factors))
    copy.set_metainfo(meta)
    if with_targets:
        for name in ("gt_instances", "ignored_instances", "proposals"):
            if name in sample:
                setattr(copy, name, _resized_instances(sample.get(name), (x, y)))
    return copy


def _resized_instances(instances: Any, ratio: tuple[float, float]) -> Any:
    copy = instances.clone()
    if "bboxes" in copy:
        copy.bboxes = _scaled_boxes(copy.bboxes, ratio)
    if "masks" in copy:
        masks = copy.masks
        copy.masks = masks.resize((round(masks.height * ratio[1]), round(masks.width * ratio[0])))
    return copy


def _scaled_boxes(boxes: Any, ratio: tuple[float, float]) -> Any:
    if isinstance(boxes, Tensor):
        return scale_boxes(boxes, ratio)
    boxes = boxes.clone()  # mmdet's HorizontalBoxes
    boxes.rescale_(ratio)
    return boxes


def predictions(sample: Any) -> dict[str, Any]:
    """What a detector added to a sample: `pred_instances` and, for some families, masks and segmentations."""
    return {name: value for name, value in sample.items() if name.startswith("pred")}


def in_high_pixels(instances: Any, high: Shape, low: Shape) -> Any:
    """Predicted instances of a low pass with `rescale=False`, moved to pixels of the high input."""
    moved = instances.clone()
    if "bboxes" in moved:
        moved.bboxes = _scaled_boxes(moved.bboxes, axis_ratio(high, low))
    if "masks" in moved and len(moved):
        shape = [round(side * h / lo) for side, h, lo in zip(moved.masks.shape[-2:], high, low)]
        masks = F.interpolate(moved.masks[None].float(), size=shape, mode="nearest")[0]
        moved.masks = masks.to(moved.masks.dtype)
    return moved


def content_box(sample: Any, shape: Shape) -> tuple[int, int, int, int]:
    """Where the photo lies in its padded input: always the top left corner in mmdet.

    `img_shape` counts the padding of a `Pad` transform as image, so the box comes from the original size;
    samples without that (mosaics, pipelines that pack less) fall back to `img_shape`.
    """
    height, width = (sample.get("img_shape") or shape)[:2] if sample is not None else shape
    if sample is not None and "ori_shape" in sample and "scale_factor" in sample:
        x, y = (float(f) for f in sample.scale_factor[:2])
        height = min(height, round(sample.ori_shape[0] * y))
        width = min(width, round(sample.ori_shape[1] * x))
    return 0, 0, max(1, min(width, shape[1])), max(1, min(height, shape[0]))


def slice_of(value: Any, i: int) -> Any:
    """Image `i` of nested tensors whose first axis is the batch."""
    if isinstance(value, Tensor):
        return value[i : i + 1]
    if isinstance(value, dict):
        return {k: slice_of(v, i) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(slice_of(v, i) for v in value)
    return value


@contextmanager
def frozen(detector: nn.Module) -> Iterator[None]:
    """Run a detector in eval and without gradients; its modes are restored afterwards."""
    modes = [(module, module.training) for module in detector.modules() if module.training]
    detector.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def loss_mode(detector: nn.Module) -> Iterator[None]:
    """Tell a detector in eval, but not its layers, that it trains.

    Query-based families build what their loss needs only then; dropout and batch norms have to stay in eval.
    Many heads average their normaliser over all processes: the loss of one image must not depend on the images of
    the others (nor wait for them, where counts differ), so for the moment there is only this process.
    """
    is_initialized = torch.distributed.is_initialized
    torch.distributed.is_initialized = lambda: False
    detector.training = True
    try:
        yield
    finally:
        detector.training = False
        torch.distributed.is_initialized = is_initialized


@contextmanager
def constant(detector: nn.Module) -> Iterator[None]:
    """No parameter asks for gradients: torch's counter stumbles over queries that are bare parameters."""
    flags = [(parameter, parameter.requires_grad) for parameter in detector.parameters()]
    detector.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def features_given(detector: nn.Module, features: Any) -> Iterator[None]:
    """Within the block `detector.extract_feat` returns `features`, so that a head runs without its backbone.

    Every mmdet family calls `self.extract_feat(inputs)` first; one that does not is only slower, not wrong.
    """
    detector.__dict__["extract_feat"] = lambda *args, **kwargs: features
    try:
        yield
    finally:
        del detector.__dict__["extract_feat"]


def blank_sample(shape: tuple[int, int]) -> Any:
    """A `DetDataSample` for an image that fills its input."""
    meta = dict.fromkeys(("img_shape", "ori_shape", "pad_shape", "batch_input_shape"), shape)
    return DetDataSample(metainfo={**meta, "scale_factor": (1.0, 1.0)})
