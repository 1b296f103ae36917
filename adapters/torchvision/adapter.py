"""Torchvision detectors: Faster R-CNN, RetinaNet, FCOS, SSD, and any model built around `GeneralizedRCNNTransform`.

That transform rescales whatever it is given, so the resolution is changed on the transform of a shallow copy that
shares every parameter, not on the image.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from dualres_plugin.adapters.torchvision import export
from dualres_plugin.adapters.torchvision.batch import TorchvisionBatch
from dualres_plugin.adapters.torchvision.models import build_model, label_names
from dualres_plugin.adapters.torchvision.patches import loss_mode
from dualres_plugin.adapters.torchvision.routed import RoutedDict, RoutedTorchvision
from dualres_plugin.adapters.torchvision.sizes import (
    RememberedBackbone,
    at_size,
    default_size,
    with_transform,
    working_scale,
)
from dualres_plugin.common.errors import DualResError, check_number
from dualres_plugin.common.flops import gmacs
from dualres_plugin.common.images.photo import SourceImage, check_tensor
from dualres_plugin.common.images.sources import in_batches, iter_source
from dualres_plugin.common.modes import in_eval
from dualres_plugin.common.resize import check_pair
from dualres_plugin.common.types import Decision, Detections, RouterImages, Targets
from dualres_plugin.hosts.contract import Decide, HostAdapter
from dualres_plugin.hosts.export_plan import ExportPlan
from dualres_plugin.hosts.ladder import Ladder
from dualres_plugin.hosts.routing import Routing, in_pixels


class TorchvisionAdapter(HostAdapter[TorchvisionBatch]):
    """Drives a torchvision detection model.

    Args:
        detector: built around `GeneralizedRCNNTransform`.
        low_detector: a second one for the low size, with the same classes; its own size is then the default low size.

    Raises:
        DualResError: If the low one was built for the larger size.
    """

    name: ClassVar[str] = "torchvision"
    requires: ClassVar[tuple[str, ...]] = ("torchvision>=0.19",)

    def __init__(self, detector: Any, low_detector: Any | None = None):
        super().__init__(detector, low_detector)
        transform = detector.transform
        self.stride = int(transform.size_divisible)
        self.default_size = default_size(detector)
        if low_detector is None:
            self.default_scale = working_scale(detector)
        elif default_size(low_detector) != self.default_size:
            check_pair(self.default_size, default_size(low_detector))
            self.default_scale = default_size(low_detector) / self.default_size
        self.class_names, self.label_ids = label_names(detector)
        self._nets: dict[tuple[int | None, float], nn.Module] = {}

    @classmethod
    def accepts(cls, detector: Any) -> bool:
        """Any module with torchvision's detection transform."""
        from torchvision.models.detection.transform import GeneralizedRCNNTransform

        return isinstance(detector, nn.Module) and isinstance(
            getattr(detector, "transform", None), GeneralizedRCNNTransform
        )

    @classmethod
    def from_spec(cls, spec: str, **options: str) -> TorchvisionAdapter:
        """`name[,weights=FILE|DEFAULT,num_classes=N]`.

        Raises:
            DualResError: See `models.build_model`.
        """
        return cls(build_model(spec, **options))

    # -- a batch through the network ------------------------------------------------------------------------

    def router_images(self, batch: TorchvisionBatch) -> RouterImages:
        """The photos themselves, B tensors (3, H_i, W_i): nothing is padded yet."""
        whole = [(0, 0, int(image.shape[2]), int(image.shape[1])) for image in batch.images]
        return RouterImages(batch.images, whole)

    def select(self, batch: TorchvisionBatch, index: Tensor) -> TorchvisionBatch:
        """The images `index`, (K,) int64."""
        return batch.take(index)

    def join(self, batches: Sequence[TorchvisionBatch]) -> TorchvisionBatch:
        """Of one input shape."""
        return TorchvisionBatch.joined(batches)

    def resize(self, batch: TorchvisionBatch, index: Tensor, scale: float) -> TorchvisionBatch:
        """The images `index`, (K,) int64, to be scaled by `scale` more in the detector's own transform."""
        return replace(batch.take(index), scale=scale)

    def predict(self, batch: TorchvisionBatch) -> list[dict[str, Tensor]]:
        """The model's own dicts: `boxes` (N, 4) xyxy in pixels of the original image, `scores`, `labels`, …"""
        if not batch.images:
            return []
        with self._eval(batch), torch.no_grad():
            found: list[dict[str, Tensor]] = self._net(batch)(batch.images)
        return found

    def merge(
        self, parts: Sequence[tuple[Tensor, list[dict[str, Tensor]], TorchvisionBatch]], batch: TorchvisionBatch
    ) -> list[dict[str, Tensor]]:
        """The dicts in the batch's order."""
        merged: list[dict[str, Tensor]] = [{} for _ in batch.images]
        for index, raw, _ in parts:
            for i, found in zip(index.tolist(), raw):
                merged[i] = found  # torchvision already answers in pixels of the original image
        return merged

    def photo_sizes(self, batch: TorchvisionBatch) -> list[tuple[int, int]]:
        """The images are the originals."""
        return [(int(image.shape[1]), int(image.shape[2])) for image in batch.images]

    def recall(self, batch: TorchvisionBatch, index: Tensor, found: Sequence[Detections]) -> list[dict[str, Tensor]]:
        """K dicts of boxes, scores and labels; masks and keypoints are not remembered."""
        made = []
        for image, kept in zip(index.tolist(), found):
            there = in_pixels(kept, (int(batch.images[image].shape[1]), int(batch.images[image].shape[2])))
            arrays = {"boxes": there.boxes, "labels": there.labels, "scores": there.scores}
            made.append({name: torch.from_numpy(a).to(batch.images[image].device) for name, a in arrays.items()})
        return made

    def losses(self, batch: TorchvisionBatch) -> Tensor:
        """(B,) float32: the sum of the model's own losses on each image alone."""
        with self._eval(batch):
            return _stacked([self._loss(self._net(batch), image, t) for image, t in self._pairs(batch)])

    def _pairs(self, batch: TorchvisionBatch) -> list[tuple[Tensor, Targets]]:
        assert batch.targets is not None, "losses need targets"
        return list(zip(batch.images, batch.targets))

    def _loss(self, net: nn.Module, image: Tensor, targets: Targets) -> Tensor:
        """Sum of the model's own losses on one image, with batch norm left in eval."""
        known = targets.trainable
        labelled = {"boxes": torch.from_numpy(known.boxes).float(), "labels": torch.from_numpy(known.labels)}
        with loss_mode(net), torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # two-stage models sample proposals at random
            losses = net([image], [labelled])
        return torch.stack([v.detach().float().cpu() for v in losses.values()]).sum()

    def _net(self, batch: TorchvisionBatch) -> nn.Module:
        key = (batch.size, batch.scale)
        if key not in self._nets:
            if batch.scale < 1.0 and self.low_detector is not None:  # the scale refers to the high network's size
                self._nets[key] = at_size(self.low_detector, batch.size or self.default_size, batch.scale)
            else:
                self._nets[key] = at_size(self.detector, batch.size, batch.scale)
        return self._nets[key]

    def _eval(self, batch: TorchvisionBatch) -> AbstractContextManager[None]:
        """Torchvision hands detectors out in training mode, and their owner may go on training them."""
        return in_eval(self.detector_at(batch.scale < 1.0))

    # -- inside the host ----------------------------------------------------------------------------------------

    def wrap(self, decide: Decide, sizes: float | Ladder, on_decision: Callable[[Decision], None]) -> RoutedTorchvision:
        """Called like the detector, whose weights it shares and whose mode stays as it is."""
        return self.wrap_at(self.default_size, decide, sizes, on_decision)

    def wrap_at(
        self, size: int, decide: Decide, sizes: float | Ladder, on_decision: Callable[[Decision], None]
    ) -> RoutedTorchvision:
        """The same at a high `size`, the short side in pixels: the detector scales what it is given."""
        return RoutedTorchvision(self, Routing(decide, sizes, on_decision), self._not_own(size))

    def high_size(self, batch: TorchvisionBatch) -> int:
        """The short side in pixels."""
        return batch.size or self.default_size

    def size_options(self, size: int) -> dict[str, Any]:
        """`size`: the short side in pixels."""
        return {"size": size}

    def _not_own(self, size: int) -> int | None:
        return None if size == self.default_size else size

    def predict_source(self, wrapped: Any, source: Any, **kwargs: Any) -> Any:
        """The detector's dicts as `RoutedDict`, in order; an iterator of them with `stream`.

        Args:
            wrapped: what `wrap` returned.
            source: tensors (3, H, W) in [0, 1], arrays, paths, a folder, a glob or a video.
            **kwargs: `size`, the high size in pixels of this call; `batch`, images per pass; `stream`, give the dicts
                one by one, for sources that do not fit in memory. With both, images wait for others of their route.

        Raises:
            DualResError: If another argument is given, or a tensor is none of a photo.
        """
        size, batch, stream = kwargs.pop("size", None), kwargs.pop("batch", None), bool(kwargs.pop("stream", False))
        if kwargs:
            raise DualResError(f"torchvision's predict knows batch, size and stream, not {sorted(kwargs)}.")
        check_number("size", size, 1)
        check_number("batch", batch, 1)
        high = wrapped.size if size is None else self._not_own(int(size))
        results = self._stream(wrapped, source, high, 8 if batch is None else int(batch), stream and (batch or 1) > 1)
        return results if stream else list(results)

    def _stream(self, wrapped: Any, source: Any, size: int | None, batch: int, waiting: bool) -> Iterator[RoutedDict]:
        items = source if isinstance(source, (list, tuple)) else [source]
        # Tensors go in as they are; everything else is read as pixels.
        tensors = (
            t
            for item in items
            for t in ([check_tensor(item)] if isinstance(item, Tensor) else map(_tensor, iter_source(item)))
        )
        if waiting:
            yield from wrapped.stream(tensors, size, batch)
            return
        for pending in in_batches(tensors, batch):
            yield from wrapped.run(pending, size)

    # -- profiling ------------------------------------------------------------------------------------------------

    def input_shape(self, image_size: tuple[int, int], size: int) -> tuple[int, int]:
        """(height, width) after the transform: scaled to fit, padded up to its divisor; or its fixed size."""
        transform: Any = at_size(self.detector, size, 1.0).transform
        if transform.fixed_size is not None:
            return transform.fixed_size[1], transform.fixed_size[0]
        scale = min(transform.min_size[-1] / min(image_size), transform.max_size / max(image_size))
        h, w = (-(-int(side * scale) // self.stride) * self.stride for side in image_size)
        return h, w

    def collate(
        self, images: Sequence[np.ndarray], size: int, targets: Sequence[Targets] | None = None
    ) -> TorchvisionBatch:
        """Tensors on the detector's device; B images (H, W, 3) uint8 RGB, scaled later by the transform."""
        device = next(self.detector.parameters()).device
        # As bytes: a quarter of what floats are.
        moved = [torch.from_numpy(np.ascontiguousarray(im)).to(device, non_blocking=True) for im in images]
        tensors = [t.permute(2, 0, 1).float().div_(255) for t in moved]
        known = list(targets) if targets is not None else None
        return TorchvisionBatch(tensors, self._not_own(size), 1.0, known)

    def detections(self, raw: list[dict[str, Tensor]], batch: TorchvisionBatch) -> list[Detections]:
        """The dicts as arrays: the model's NMS has run, its boxes are in original pixels."""
        return [
            Detections.from_arrays(r["boxes"].float().cpu(), r["scores"].float().cpu(), r["labels"].cpu()) for r in raw
        ]

    def profile_pass(self, batch: TorchvisionBatch, with_losses: bool) -> tuple[list[Detections], Tensor | None]:
        """One backbone pass serves both: its features are remembered, and cut per image for the losses."""
        if not with_losses:
            return self.detections(self.predict(batch), batch), None
        net: Any = copy.copy(self._net(batch))
        memory = RememberedBackbone(net.backbone)
        net._modules = {**net._modules, "backbone": memory}
        net.training = memory.training = False
        losses = []
        with self._eval(batch):
            with torch.no_grad():
                found = self.detections(net(batch.images), batch)
            for i, (image, target) in enumerate(self._pairs(batch)):
                memory.image = i
                losses.append(self._loss(net, image, target))
        return found, _stacked(losses)

    def count_macs(self, shape: tuple[int, int], low: bool = False) -> float:
        """GMACs at (height, width), on noise: a two-stage model's second stage costs by the proposals it finds."""
        base = self.detector_at(low)
        net = with_transform(base, min_size=(min(shape),), max_size=max(shape), fixed_size=None)
        noise = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
        images: Any = [noise.to(next(base.parameters()).device)]  # these models take a list of tensors
        return gmacs(net, images)

    # -- export ---------------------------------------------------------------------------------------------------

    def export_plan(self, size: int, scale: float, nms: bool = False) -> ExportPlan:
        """The graph scales the photo, `size` being its short side; the model's own NMS is always inside."""
        return export.export_plan(self._scaled(size, scale), self._scaled(size, 1.0), scale)

    def export_branch(
        self, shape: tuple[int, int], low: bool = False, *, dynamic: bool = False, nms: bool = False
    ) -> nn.Module:
        """The model without its resizing: (1, 3, H, W) -> (1, N, 6) rows."""
        return export.ScaledDetector(self.detector_at(low))

    def _scaled(self, size: int, scale: float) -> nn.Module:
        return at_size(self.detector, self._not_own(size), scale)


def _tensor(image: SourceImage) -> Tensor:
    return image.tensor()


def _stacked(losses: list[Tensor]) -> Tensor:
    return torch.stack(losses) if losses else torch.zeros(0)
