"""What mmdet feeds its networks, and how a sample changes when its image is resized inside the model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from dualres_plugin.adapters.mmdet.patches import every_box, frozen
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.resize import axis_ratio, resize_images, scale_boxes
from dualres_plugin.hosts.contract import Shape

logger = logging.getLogger("dualres")
SIDES = (128, 256)  # pixels of the probe: DINO and DDQ want more positions than their 900 queries


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
        """The images `index`, (K,) int64, in that order."""
        return replace(self, inputs=self.inputs[index], samples=[self.samples[i] for i in index.tolist()])

    @classmethod
    def joined(cls, batches: Sequence[MMDetBatch]) -> MMDetBatch:
        """High batches of one shape, at least one, as one."""
        samples = [sample for b in batches for sample in b.samples]
        return replace(batches[0], inputs=torch.cat([b.inputs for b in batches]), samples=samples)

    def padded(self, size: Shape, value: float) -> MMDetBatch:
        """The batch padded to a fixed (height, width) with a normalised value, as graphs with fixed shapes take it."""
        h, w = (wanted - side for wanted, side in zip(size, self.shape))
        samples = [sample.clone() for sample in self.samples]
        for sample in samples:
            sample.set_metainfo({"batch_input_shape": size, "pad_shape": size})
        return replace(self, inputs=F.pad(self.inputs, (0, w, 0, h), value=value), samples=samples)

    def resized(self, size: Shape, antialias: bool) -> MMDetBatch:
        """The batch at the low size (height, width), samples updated, nothing mutated."""
        samples = [resized_sample(sample, size, self.shape, self.targets) for sample in self.samples]
        return replace(self, inputs=resize_images(self.inputs, size, antialias), samples=samples, low=True)


def resized_sample(sample: Any, low: Shape, high: Shape, with_targets: bool) -> Any:
    """A copy of a `DetDataSample` whose image went from `high` to `low` (height, width).

    Heads divide their boxes by `scale_factor`, clip them to `img_shape` and build padding masks from
    `batch_input_shape`, so all of them have to follow the image.

    Args:
        sample: stays as it is.
        low: (height, width) of the low input.
        high: (height, width) of the high input.
        with_targets: its ground truth is wanted at the low size too.
    """
    x, y = axis_ratio(low, high)  # factors from high to low
    copy = sample.clone()
    meta: dict[str, Any] = {"batch_input_shape": low}
    for name in ("img_shape", "pad_shape"):
        if name in sample:
            h, w = sample.get(name)[:2]
            meta[name] = (min(round(h * y), low[0]), min(round(w * x), low[1]))
    # CenterNet and CornerNet pad photos to their middle instead of resizing them: no factor, but a border.
    factors = [float(f) for f in sample.get("scale_factor") or (1.0, 1.0)]
    meta["scale_factor"] = tuple(f * (x, y)[i % 2] for i, f in enumerate(factors))
    if "border" in sample:
        meta["border"] = np.asarray(sample.border, np.float32) * np.array([y, y, x, x], np.float32)
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


def as_high_sample(found: Any, original: Any, low: MMDetBatch, high: MMDetBatch) -> Any:
    """A copy of the high sample with a low pass's predictions.

    Args:
        found: the low pass's sample.
        original: the sample of the same image in the high batch.
        low: the batch of the low pass.
        high: the whole high batch.
    """
    sample = original.clone()
    for name, value in predictions(found).items():
        if not high.rescale and isinstance(value, InstanceData):
            value = in_high_pixels(value, low.shape, high.shape)
        setattr(sample, name, value)
    return sample


def in_high_pixels(instances: Any, low: Shape, high: Shape) -> Any:
    """Predicted instances of a low pass with `rescale=False`, moved to pixels of the high input.

    Args:
        instances: mmengine's `InstanceData`, which stays as it is.
        low: (height, width) of the low input.
        high: (height, width) of the high input.
    """
    moved = instances.clone()
    if "bboxes" in moved:
        moved.bboxes = _scaled_boxes(moved.bboxes, axis_ratio(high, low))
    if "masks" in moved and len(moved):
        shape = [round(side * h / lo) for side, h, lo in zip(moved.masks.shape[-2:], high, low)]
        masks = F.interpolate(moved.masks[None].float(), size=shape, mode="nearest")[0]
        moved.masks = masks.to(moved.masks.dtype)
    return moved


def content_box(sample: Any, shape: Shape) -> tuple[int, int, int, int]:
    """Where the photo lies in its padded input: the top left corner, but for pipelines that note a `border`.

    `img_shape` counts the padding of a `Pad` transform as image, so the box comes from the original size;
    samples without that (mosaics, pipelines that pack less) fall back to `img_shape`.

    Args:
        sample: a `DetDataSample`, or None where the host gave none.
        shape: (height, width) of the input.

    Returns:
        (x0, y0, x1, y1) in pixels.
    """
    if sample is not None and "border" in sample:
        top, bottom, left, right = (round(float(side)) for side in sample.border)
        return left, top, right, bottom
    height, width = (sample.get("img_shape") or shape)[:2] if sample is not None else shape
    if sample is not None and "ori_shape" in sample and "scale_factor" in sample:
        x, y = (float(f) for f in sample.scale_factor[:2])
        height = min(height, round(sample.ori_shape[0] * y))
        width = min(width, round(sample.ori_shape[1] * x))
    return 0, 0, max(1, min(width, shape[1])), max(1, min(height, shape[0]))


def slice_of(value: Any, i: int) -> Any:
    """Image `i` of nested tensors (B, …), as (1, …)."""
    if isinstance(value, Tensor):
        return value[i : i + 1]
    if isinstance(value, dict):
        return {k: slice_of(v, i) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(slice_of(v, i) for v in value)
    return value


def blank_sample(shape: Shape) -> Any:
    """A `DetDataSample` for an image that fills its input of (height, width)."""
    meta = dict.fromkeys(("img_shape", "ori_shape", "pad_shape", "batch_input_shape"), shape)
    sample = DetDataSample(metainfo={**meta, "scale_factor": (1.0, 1.0)})
    sample.gt_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    return sample  # Sparse R-CNN asks for ground truth even where it only counts


# -- whether a detector's boxes follow such an image: tried when a config is built ------------------------------


def check_boxes_follow(detector: Any) -> None:
    """Refuse a detector that would leave the boxes of its low route in low pixels.

    Args:
        detector: a built one, with any weights.

    Raises:
        DualResError: If its boxes do not follow, or it needs an operation that is not there.
    """
    if boxes_follow(detector) is False:
        raise DualResError(
            f"the boxes of the mmdet detector {type(detector).__name__} do not follow an image that is resized inside "
            "the model: its head does not use scale_factor, so the low route would put boxes at the wrong place. "
            "Route another family."
        )


def boxes_follow(detector: Any) -> bool | None:
    """Predict one low input twice: told that it is half of a photo, and that it is the whole photo.

    The network sees the same pixels, so the boxes have to be the same at twice the size, whatever the weights are.

    Args:
        detector: a built one, on any device.

    Returns:
        Whether they are; None where there are no finite boxes to tell by, or the detector does not run on noise.
    """
    for side in SIDES:
        try:
            follow = _same_boxes(*_boxes(detector, side))
        except DualResError:
            raise
        except Exception as error:  # a family that wants more than pixels: its own error comes where it is used
            logger.debug("the mmdet %s was not tried on %d px of noise: %s", type(detector).__name__, side, error)
            continue
        if follow is not None:
            return follow
    return None


def _same_boxes(expected: Tensor, found: Tensor) -> bool | None:
    """Whether boxes of the whole photo, (n, 4), are half of those of the photo that was resized, (m, 4)."""
    count = min(len(expected), len(found))
    expected, found = 2 * expected[:count], found[:count]
    usable = torch.isfinite(expected).all(dim=1) & expected.any(dim=1)  # random weights overflow
    expected, found = expected[usable], found[usable]
    if not len(expected):
        return None
    close = torch.isclose(found, expected, rtol=1e-3, atol=0.1).all(dim=1)
    return bool(close.float().mean() > 0.9)  # a few may pass the NMS in one frame only, by rounding


def _noise_sample(shape: Shape) -> Any:
    sample = blank_sample(shape)
    sample.set_metainfo({"border": np.array([0, shape[0], 0, shape[1]], np.float32)})
    return sample


def _boxes(detector: Any, side: int) -> tuple[Tensor, Tensor]:
    """(n, 4) and (m, 4) xyxy of the same noise as a whole photo and as half of one, best first."""
    low, high = (side, side), (2 * side, 2 * side)
    whole, half = _noise_sample(low), resized_sample(_noise_sample(high), low, high, False)
    noise = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 50 + 100
    noise = noise.to(next(detector.parameters()).device)
    found = []
    for sample in (whole, half):
        with frozen(detector), every_box(detector), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found.append(detector.predict(noise, [sample], rescale=True)[0].pred_instances.bboxes.cpu())
    return found[0], found[1]
