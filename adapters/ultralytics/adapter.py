"""Ultralytics (AGPL-3.0) detectors: YOLO v3 to v12 and YOLO26, anything behind `ultralytics.YOLO`; not RT-DETR.

The routed network is a plain `nn.Module` that the host accepts as `YOLO.model`, so `Results`, `val`, tracking and
plots are the host's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from dualres_plugin.adapters.ultralytics import description, export
from dualres_plugin.adapters.ultralytics.batch import YoloBatch, content_box, decoded, letterboxed
from dualres_plugin.adapters.ultralytics.loss import ImageLosses
from dualres_plugin.adapters.ultralytics.methods import route_methods
from dualres_plugin.adapters.ultralytics.models import load_yolo, network_of, own_size
from dualres_plugin.adapters.ultralytics.routed import RoutedYolo
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.flops import gmacs
from dualres_plugin.common.resize import axis_ratio, low_size, resize_images, scale_boxes
from dualres_plugin.common.types import Decision, Detections, RouterImages, Targets
from dualres_plugin.hosts.contract import Decide, HostAdapter
from dualres_plugin.hosts.export_plan import ExportPlan
from dualres_plugin.hosts.half import in_32_bits, in_full
from dualres_plugin.hosts.ladder import Ladder
from dualres_plugin.hosts.memory_format import as_in
from dualres_plugin.hosts.routing import Routing

CONF, IOU, MAX_DET = 0.001, 0.7, 300  # what `YOLO.val` and pycocotools users run with
# Down to half size two taps an axis see every pixel, and cost less than antialiasing (YOLO11n, 320 from 640, 164 COCO
# val images: AP 31.75 antialiased, 31.86 not, 31.65 by the host's own 320). Below that pixels would be dropped.
PLAIN_DOWN_TO = 0.5
LEAST_ANCHORS = 8  # of what a skipped frame gives; those without a box have score 0, which NMS drops


class UltralyticsAdapter(HostAdapter[YoloBatch]):
    """Drives a `YOLO` (or its bare `DetectionModel`).

    Args:
        detector: of any family but RT-DETR.
        low_detector: a second one for the low size, with the same classes and the same kind of head.

    Raises:
        DualResError: If one is no PyTorch detector, or the two do not go together.
    """

    name: ClassVar[str] = "ultralytics"
    requires: ClassVar[tuple[str, ...]] = ("ultralytics>=8.4,<8.5",)
    sized_methods: ClassVar[tuple[str, ...]] = ("val", "track")

    def __init__(self, detector: Any, low_detector: Any | None = None):
        super().__init__(detector, low_detector)
        self.net: nn.Module = network_of(detector)
        self.low_net: nn.Module = network_of(low_detector) if low_detector is not None else self.net
        nets: tuple[Any, Any] = (self.low_net, self.net)
        self.stride = max(32, *(int(net.stride.max()) for net in nets))
        if len({bool(getattr(net, "end2end", False)) for net in nets}) == 2:
            raise DualResError("a pair must be both end-to-end (NMS-free) or neither: their outputs do not mix.")
        self.default_size = own_size(detector, self.net)
        if low_detector is not None and own_size(low_detector, self.low_net) < self.default_size:
            self.default_scale = own_size(low_detector, self.low_net) / self.default_size
        names: Any = self.net.names
        self.class_names = dict(names) if isinstance(names, dict) else dict(enumerate(names))
        self._ready: dict[bool, nn.Module] = {}
        self._criteria: dict[bool, ImageLosses] = {}

    @classmethod
    def accepts(cls, detector: Any) -> bool:
        """Anything of Ultralytics that knows its classes."""
        if not any(c.__module__.startswith("ultralytics.") for c in type(detector).__mro__):
            return False
        return hasattr(type(detector), "names") or hasattr(detector, "names")  # of a YOLO it is a property

    @classmethod
    def from_spec(cls, spec: str, **options: str) -> UltralyticsAdapter:
        """`path.pt` or `name.yaml` (random weights).

        Raises:
            DualResError: If the file cannot be loaded, or an option is given.
        """
        if options:
            raise DualResError(f"ultralytics detectors take no options, got {sorted(options)}: give just the .pt file.")
        return cls(load_yolo(spec))

    # -- a batch through the network ----------------------------------------------------------------------

    def router_images(self, batch: YoloBatch) -> RouterImages:
        """The letterboxed images as they are, (B, 3, H, W), with the boxes inside the grey."""
        return RouterImages(batch.images, [content_box(image) for image in batch.images])

    def select(self, batch: YoloBatch, index: Tensor) -> YoloBatch:
        """The images `index`, (K,) int64."""
        return batch.take(index)

    def join(self, batches: Sequence[YoloBatch]) -> YoloBatch:
        """Of one input shape."""
        return YoloBatch.joined(batches)

    def resize(self, batch: YoloBatch, index: Tensor, scale: float) -> YoloBatch:
        """The images `index`, (K,) int64, at `scale`; averaged below half size, sampled above."""
        part = batch.take(index)
        size = low_size(batch.high, scale, self.stride)
        return replace(part, images=resize_images(part.images, size, antialias=scale < PLAIN_DOWN_TO), low=True)

    def predict(self, batch: YoloBatch) -> Any:
        """The network's own output: decoded boxes in input pixels, and its training part beside them."""
        net = self.low_net if batch.low else self.net
        if not len(batch.images):  # the host's head cannot reshape nothing
            return batch.images.new_zeros((0, 0, 6) if self._end2end else (0, 4 + len(self.class_names or {}), 0))
        if net.training:  # as `YOLO("x.yaml")` hands it out
            net.eval()
        with torch.no_grad():
            return net(batch.images)

    def merge(self, parts: Sequence[tuple[Tensor, Any, YoloBatch]], batch: YoloBatch) -> Tensor:
        """(B, 4 + nc, N) xywh or (B, N, 6) xyxy in high pixels.

        A low pass has fewer anchors; its rows are filled up with zeros, whose score the host's NMS drops.
        """
        outputs = [(index, self._in_high_pixels(decoded(raw), part)) for index, raw, part in parts]
        anchors_last = not self._end2end
        count = max(y.shape[2 if anchors_last else 1] for _, y in outputs)
        first = outputs[0][1]
        shape = (
            (len(batch.images), first.shape[1], count) if anchors_last else (len(batch.images), count, first.shape[2])
        )
        merged = first.new_zeros(shape)
        for index, y in outputs:
            if anchors_last:
                merged[index, :, : y.shape[2]] = y
            else:
                merged[index, : y.shape[1]] = y
        return merged

    def photo_sizes(self, batch: YoloBatch) -> list[tuple[int, int]] | None:
        """Of batches made by `collate`; the host's own do not know, and its results are observed instead."""
        return batch.sizes

    def recall(self, batch: YoloBatch, index: Tensor, found: Sequence[Detections]) -> Tensor:
        """Decoded boxes that the host's NMS lets through: (K, 4 + nc, N) or, end to end, (K, N, 6)."""
        # The host takes six anchors for six columns of an end-to-end head.
        count, classes = max(LEAST_ANCHORS, *map(len, found)), len(self.class_names or {})
        raw = batch.images.new_zeros(len(found), count, 6 if self._end2end else 4 + classes)
        for row, image, kept in zip(raw, index.tolist(), found):
            x0, y0, x1, y1 = content_box(batch.images[image])
            size = torch.tensor([x1 - x0, y1 - y0] * 2, dtype=torch.float32)
            boxes = torch.from_numpy(kept.boxes) * size + torch.tensor([x0, y0] * 2)
            scores, labels = torch.from_numpy(kept.scores), torch.from_numpy(kept.labels)
            n = len(kept)
            if self._end2end:
                row[:n] = torch.cat([boxes, scores[:, None], labels[:, None]], dim=1).to(row)
                continue
            row[:n, :4] = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], dim=1).to(row)
            row[torch.arange(n), 4 + labels] = scores.to(row)
        return raw if self._end2end else raw.transpose(1, 2)

    @property
    def _end2end(self) -> bool:
        return bool(getattr(self.net, "end2end", False))

    def _in_high_pixels(self, y: Tensor, batch: YoloBatch) -> Tensor:
        if not batch.low:
            return y
        ratio = axis_ratio(batch.high, batch.images.shape[-2:])
        if self._end2end:
            return torch.cat((scale_boxes(y[..., :4], ratio), y[..., 4:]), dim=2)
        boxes = scale_boxes(y[:, :4].transpose(1, 2), ratio).transpose(1, 2)
        return torch.cat((boxes, y[:, 4:]), dim=1)

    def losses(self, batch: YoloBatch) -> Tensor:
        """(B,) float32 of the host's own criterion, see `loss`."""
        if not len(batch.images):
            return torch.zeros(0)
        return self._losses(self._forward_ready(batch), batch)

    # -- inside the host --------------------------------------------------------------------------------------

    def high_size(self, batch: YoloBatch) -> int:
        """`imgsz` in pixels, its long side; of a batch that does not know it, its own long side."""
        return batch.size or max(batch.high)

    def wrap(self, decide: Decide, sizes: float | Ladder, on_decision: Callable[[Decision], None]) -> Any:
        """A copy of the `YOLO` object whose network is routed; weights are shared, the original is untouched."""
        low_net = self.low_net if self.low_detector is not None else None
        routed = RoutedYolo(type(self), self.net, Routing(decide, sizes, on_decision), low_net)
        yolo = self.detector
        if isinstance(yolo, nn.Module) and yolo is self.net:
            return routed
        host: Any = object.__new__(type(yolo))
        host.__dict__ = dict(yolo.__dict__)
        host._modules = dict(yolo._modules)
        host.callbacks = {event: list(functions) for event, functions in yolo.callbacks.items()}
        host.overrides = dict(yolo.overrides)
        host.predictor = None
        host.model = routed
        route_methods(host)
        return host

    def predict_source(self, wrapped: Any, source: Any, **kwargs: Any) -> Any:
        """`YOLO.predict` with its own arguments: a list of `RoutedResults`, or a generator with `stream=True`.

        Raises:
            DualResError: If a bare network was wrapped.
        """
        if isinstance(wrapped, RoutedYolo):
            raise DualResError("a bare network has no predict: wrap the YOLO object instead of its .model.")
        return wrapped.predict(source, **kwargs)

    def size_options(self, size: int) -> dict[str, Any]:
        """`imgsz` in pixels; nothing for the host's own, which may be (height, width)."""
        return {} if size == self.default_size else {"imgsz": size}

    def for_inference(self) -> UltralyticsAdapter:
        """Of fused copies, in the memory format that the host runs them in."""
        low_net = self._ready_net(True) if self.low_detector is not None else None
        adapter = UltralyticsAdapter(self._ready_net(False), low_net)
        adapter.default_size, adapter.default_scale = self.default_size, self.default_scale
        return adapter

    def router_backbone(self) -> tuple[list[nn.Module], dict[str, Any]]:
        """Copies of the layers that the model's YAML lists as its backbone."""
        net: Any = self.net
        made = description.describe(net.yaml)
        return [deepcopy(block).float() for block in list(net.model)[: made["layers"]]], made

    @classmethod
    def build_backbone(cls, stored: dict[str, Any]) -> list[nn.Module]:
        """The layers of a description with random weights; one that comes from a file is not trusted."""
        return description.build(stored)

    # -- profiling ----------------------------------------------------------------------------------------------

    def host_size(self, size: int) -> int:
        """Up to the stride, as the host's `check_imgsz` does it."""
        return -(-size // self.stride) * self.stride

    def input_shape(self, image_size: tuple[int, int], size: int) -> tuple[int, int]:
        """The host's minimal rectangle: scaled to `size`, padded up to the stride."""
        size = self.host_size(size)
        h, w = letterboxed(image_size, size)
        return h + (size - h) % self.stride, w + (size - w) % self.stride

    def collate(self, images: Sequence[np.ndarray], size: int, targets: Sequence[Targets] | None = None) -> YoloBatch:
        """Letterboxed as `predict` does it: B images (H, W, 3) uint8 RGB of one input shape, `size` in pixels."""
        return self._letterboxed(images, size, targets, auto=True)

    def _letterboxed(
        self, images: Sequence[np.ndarray], size: int, targets: Sequence[Targets] | None, auto: bool
    ) -> YoloBatch:
        from ultralytics.data.augment import LetterBox

        letterbox = LetterBox(self.host_size(size), auto=auto, stride=self.stride)
        padded = np.stack([np.asarray(letterbox(image=np.ascontiguousarray(image))) for image in images])
        device = next(self.net.parameters()).device
        tensor = torch.from_numpy(padded).to(device, non_blocking=True)  # as bytes: a quarter of what floats are
        tensor = tensor.permute(0, 3, 1, 2).contiguous().float().div_(255)
        return YoloBatch(
            tensor,
            (int(tensor.shape[2]), int(tensor.shape[3])),
            [(int(im.shape[0]), int(im.shape[1])) for im in images],
            list(targets) if targets is not None else None,
            size=self.host_size(size),
        )

    def detections(self, raw: Any, batch: YoloBatch) -> list[Detections]:
        """After the host's NMS at the settings of `YOLO.val`."""
        import torchvision  # noqa: F401 - the host's NMS is much faster where it finds torchvision imported
        from ultralytics.utils.nms import non_max_suppression
        from ultralytics.utils.ops import scale_boxes as to_original

        assert batch.sizes is not None, "only batches made by collate know their original sizes"
        # The host gives up on NMS after two seconds; a profile must not depend on how busy the machine is.
        boxes = in_32_bits(decoded(raw))
        rows = non_max_suppression(boxes, CONF, IOU, max_det=MAX_DET, max_time_img=3600.0, end2end=self._end2end)
        ratio = axis_ratio(batch.high, batch.images.shape[-2:])  # NMS does not depend on the scale: only survivors
        found = []
        for row, size in zip(rows, batch.sizes):
            placed: Any = to_original(batch.high, scale_boxes(row[:, :4], ratio), size)
            found.append(Detections.from_arrays(placed.cpu().numpy(), row[:, 4].cpu().numpy(), row[:, 5].cpu().numpy()))
        return found

    def profile_pass(self, batch: YoloBatch, with_losses: bool) -> tuple[list[Detections], Tensor | None]:
        """One forward of the fused copy serves both."""
        raw = in_32_bits(self._forward_ready(batch))
        with in_full():  # the host's loss does not run in half
            return self.detections(raw, batch), self._losses(raw, batch) if with_losses else None

    def count_macs(self, shape: tuple[int, int], low: bool = False) -> float:
        """GMACs of the fused network for (height, width); the host prints FLOPs, twice as many."""
        net = self._ready_net(low)
        return gmacs(net, torch.zeros(1, 3, *shape, device=next(net.parameters()).device))

    # -- export -------------------------------------------------------------------------------------------------

    def export_plan(self, size: int, scale: float, nms: bool = False) -> ExportPlan:
        """The host's letterbox and its boxes; any `size`."""
        return export.export_plan(self.net, scale, self.stride, scale < PLAIN_DOWN_TO, nms)

    def export_branch(
        self, shape: tuple[int, int], low: bool = False, *, dynamic: bool = False, nms: bool = False
    ) -> nn.Module:
        """A fused copy in export mode: (1, 3, H, W) -> (1, 4 + classes, N), or (1, 300, 6) with NMS."""
        return export.export_branch(self.low_net if low else self.net, dynamic, nms, shape)

    def export_static(self, shape: tuple[int, int], low: bool, nms: bool, folder: Path) -> Path:
        """By the host's own exporter, at one (height, width).

        Raises:
            DualResError: If that fails.
        """
        return export.export_static(self.low_net if low else self.net, shape, nms, folder)

    def export_batch(self, image: np.ndarray, size: int, static: bool) -> YoloBatch:
        """One (H, W, 3) uint8 RGB photo, letterboxed to its rectangle, or to the square that static graphs take."""
        return self._letterboxed([image], size, None, auto=not static)

    def _ready_net(self, low: bool) -> nn.Module:
        """The network as the host itself runs it: a fused copy in the host's memory format."""
        low = low and self.low_detector is not None
        if low not in self._ready:
            from ultralytics.nn.autobackend import AutoBackend

            net = self.low_net if low else self.net
            backend = AutoBackend(deepcopy(net), device=next(net.parameters()).device, fuse=True, verbose=False)
            self._ready[low] = as_in(net, backend.backend.model.eval())
        return self._ready[low]

    def _forward_ready(self, batch: YoloBatch) -> Any:
        with torch.no_grad():
            return self._ready_net(batch.low)(batch.images)

    def _losses(self, raw: Any, batch: YoloBatch) -> Tensor:
        assert batch.targets is not None and batch.sizes is not None, "losses need targets"
        low = batch.low and self.low_detector is not None
        if low not in self._criteria:
            self._criteria[low] = ImageLosses(self._ready_net(low))
        return self._criteria[low](raw, batch.targets, batch.sizes)
