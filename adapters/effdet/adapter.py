"""effdet (Ross Wightman's EfficientDet): one network at two sizes, or two networks such as D2 and D1.

The routed bench is called like the host's: a normalised batch and `img_info` in, a (B, 100, 6) tensor of xyxy,
score and class in pixels of the original images out, so the host's loaders and evaluators work unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from dualres_plugin.adapters.effdet import export
from dualres_plugin.adapters.effdet.batch import EffdetBatch, content_of
from dualres_plugin.adapters.effdet.bench import STRIDE, at_size, own_shape, predictor, with_outputs
from dualres_plugin.adapters.effdet.colours import InputColours
from dualres_plugin.adapters.effdet.loss import ImageLosses
from dualres_plugin.adapters.effdet.models import build_bench, coco_names
from dualres_plugin.adapters.effdet.routed import RoutedEffdet, RoutedRows
from dualres_plugin.common.errors import DualResError, check_number
from dualres_plugin.common.flops import gmacs
from dualres_plugin.common.images.sources import in_batches, iter_source
from dualres_plugin.common.modes import in_eval
from dualres_plugin.common.resize import axis_ratio, check_pair, low_size, resize_images
from dualres_plugin.common.types import Decision, Detections, RouterImages, Targets
from dualres_plugin.hosts.contract import Decide, HostAdapter, Shape
from dualres_plugin.hosts.export_plan import ExportPlan
from dualres_plugin.hosts.ladder import Ladder
from dualres_plugin.hosts.routing import Routing, in_pixels


class EffdetAdapter(HostAdapter[EffdetBatch]):
    """Drives a `DetBenchPredict`, a `DetBenchTrain` or a bare `EfficientDet`.

    Args:
        detector: one of these.
        low_detector: a second one with as many classes; the low size is then by default the one it was built for.

    Raises:
        DualResError: If the two have different numbers of classes, or the low one was built for the larger size.
    """

    name: ClassVar[str] = "effdet"
    requires: ClassVar[tuple[str, ...]] = ("effdet>=0.4.1,<0.5", "timm>=1.0")

    def __init__(self, detector: Any, low_detector: Any | None = None):
        super().__init__(detector, low_detector)
        from effdet.data.input_config import resolve_input_config

        self._base = predictor(detector)
        self._low_base = predictor(low_detector) if low_detector is not None else self._base
        self.stride = STRIDE
        self.shape: Shape = own_shape(self._base)
        self.default_size = max(self.shape)
        if low_detector is not None:
            built_for = max(own_shape(self._low_base))
            check_pair(self.default_size, built_for)
            self.default_scale = built_for / self.default_size
        low_classes, classes = (int(b.num_classes) for b in (self._low_base, self._base))
        if classes != low_classes:
            raise DualResError(f"the high network has {classes} classes, the low one {low_classes}: train both alike.")
        self.class_names = coco_names() if classes == 90 else None
        self.label_ids = sorted(self.class_names) if self.class_names else list(range(1, classes + 1))
        self._colours = InputColours(*(resolve_input_config({}, b.config) for b in (self._low_base, self._base)))
        self._benches: dict[tuple[bool, Shape], Any] = {}
        self._image_losses: dict[tuple[bool, Shape], ImageLosses] = {}

    @classmethod
    def accepts(cls, detector: Any) -> bool:
        """A bench or a network of effdet, or of a subclass."""
        own = {"DetBenchPredict", "DetBenchTrain", "EfficientDet"}
        return any(c.__module__.startswith("effdet.") and c.__name__ in own for c in type(detector).__mro__)

    @classmethod
    def from_spec(cls, spec: str, **options: str) -> EffdetAdapter:
        """`name,checkpoint=FILE[,num_classes=N,image_size=N]`.

        Raises:
            DualResError: See `models.build_bench`.
        """
        return cls(build_bench(spec, **options))

    # -- a batch through the network -----------------------------------------------------------------------

    def host_batch(self, images: Tensor, img_info: dict[str, Tensor] | None = None) -> EffdetBatch:
        """What the host's bench is called with, as a batch.

        Args:
            images: (B, 3, H, W) normalised.
            img_info: the host's `img_scale` (B,) and `img_size` (B, 2), as its loader's target holds them; without it
                the photos are found by the padding's colour.

        Raises:
            DualResError: If the images are no floating (B, 3, H, W).
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise DualResError(
                "an effdet bench takes the loader's batch, (B, 3, H, W) floating and normalised; got "
                f"{tuple(images.shape)} of {images.dtype}. `predict` takes uint8 arrays (H, W, 3)."
            )
        if img_info is None:
            fill = self._colours.fill(images)
            return EffdetBatch(images, [content_of(image, fill) for image in images])
        scale, size = img_info["img_scale"], img_info["img_size"]
        # The host cuts off fractions; the small addition keeps 256.0 from becoming 255 in float32.
        content = (size.float().cpu() / scale.float().cpu()[:, None] + 1e-3).int().tolist()
        h, w = images.shape[-2:]
        return EffdetBatch(images, [(min(y, h), min(x, w)) for x, y in content], scale, size)

    def router_images(self, batch: EffdetBatch) -> RouterImages:
        """(B, 3, H, W) without the normalisation; photos lie in the top left corners."""
        mean, std = self._colours.norm(batch.images, low=batch.low)
        return RouterImages(batch.images.float() * std + mean, [(0, 0, w, h) for h, w in batch.content])

    def select(self, batch: EffdetBatch, index: Tensor) -> EffdetBatch:
        """The images `index`, (K,) int64."""
        return batch.take(index)

    def join(self, batches: Sequence[EffdetBatch]) -> EffdetBatch:
        """Of one input shape."""
        return EffdetBatch.joined(batches)

    def resize(self, batch: EffdetBatch, index: Tensor, scale: float) -> EffdetBatch:
        """The images `index`, (K,) int64, averaged down to the low shape; `img_scale` leads back from there."""
        part = batch.take(index)
        low = self.low_shape(batch.shape, scale)
        x, y = axis_ratio(batch.shape, low)
        img_scale = part.img_scale
        if img_scale is None:
            img_scale = torch.ones(len(part.images), device=part.images.device)
        return replace(
            part,
            images=self._colours.renormalised(resize_images(part.images, low)),
            content=[(min(low[0], -int(-h // y)), min(low[1], -int(-w // x))) for h, w in part.content],
            img_scale=img_scale * x,
            stretch=y / x,
            low=True,
        )

    def predict(self, batch: EffdetBatch) -> Tensor:
        """(B, 100, 6) xyxy in pixels of the originals, score and class, filled up with zeros."""
        bench = self._bench(batch)
        if not len(batch.images):
            return batch.images.new_zeros(0, int(bench.max_det_per_image), 6)
        with self._eval(batch), torch.no_grad():
            return self._finished(bench(batch.images, batch.info()), batch)

    def _finished(self, raw: Tensor, batch: EffdetBatch) -> Tensor:
        if batch.stretch == 1.0:
            return raw
        return raw * raw.new_tensor([1.0, batch.stretch, 1.0, batch.stretch, 1.0, 1.0])

    def merge(self, parts: Sequence[tuple[Tensor, Tensor, EffdetBatch]], batch: EffdetBatch) -> Tensor:
        """(B, 100, 6) in the batch's order."""
        rows = max(raw.shape[1] for _, raw, _ in parts)
        merged = parts[0][1].new_zeros(len(batch.images), rows, 6)
        for index, raw, _ in parts:
            merged[index.to(merged.device), : raw.shape[1]] = raw
        return merged

    def photo_sizes(self, batch: EffdetBatch) -> list[Shape] | None:
        """Of batches that come with the host's `img_info`."""
        if batch.img_size is None:
            return None
        return [(int(height), int(width)) for width, height in batch.img_size.tolist()]

    def recall(self, batch: EffdetBatch, index: Tensor, found: Sequence[Detections]) -> Tensor:
        """(K, 100, 6) xyxy, score and class, the rest zeros as by the host."""
        sizes = self.photo_sizes(batch) or batch.content
        raw = batch.images.new_zeros(len(found), max(100, *map(len, found)), 6)
        for row, image, kept in zip(raw, index.tolist(), found):
            there = in_pixels(kept, sizes[image])
            rows = np.concatenate([there.boxes, there.scores[:, None], there.labels[:, None]], axis=1)
            row[: len(kept)] = torch.from_numpy(rows).to(row)
        return raw

    def losses(self, batch: EffdetBatch) -> Tensor:
        """(B,) float32 of the host's own loss, see `loss`."""
        if not len(batch.images):
            return torch.zeros(0)
        with self._eval(batch), torch.no_grad():
            return self._losses(self._bench(batch).model(batch.images), batch)

    def _forward(self, batch: EffdetBatch) -> tuple[Any, tuple[list[Tensor], list[Tensor]], Tensor]:
        """One pass: the bench, its network's class and box outputs per level, and what `predict` gives."""
        bench = self._bench(batch)
        with self._eval(batch), torch.no_grad():
            outputs = bench.model(batch.images)
            raw = self._finished(with_outputs(bench, outputs)(batch.images, batch.info()), batch)
        return bench, outputs, raw

    def _losses(self, outputs: tuple[list[Tensor], list[Tensor]], batch: EffdetBatch) -> Tensor:
        bench, key = self._bench(batch), self._key(batch.shape, batch.low)
        if key not in self._image_losses:
            self._image_losses[key] = ImageLosses(bench)
        return self._image_losses[key](outputs, batch)

    def _eval(self, batch: EffdetBatch) -> AbstractContextManager[None]:
        """effdet hands benches out in training mode, and their owner may go on training them."""
        return in_eval(self._low_base if batch.low else self._base)

    def _bench(self, batch: EffdetBatch) -> Any:
        bench = self.bench_at(batch.shape, batch.low)
        if bench.anchors.boxes.device != batch.images.device:
            bench.anchors.to(batch.images.device)
        return bench

    def _key(self, shape: Shape, low: bool) -> tuple[bool, Shape]:
        return low and self.low_detector is not None, shape

    def bench_at(self, shape: Shape, low: bool) -> Any:
        """The `DetBenchPredict` for inputs of (height, width), of the low network where there are two."""
        key = self._key(shape, low)
        if key not in self._benches:
            base = self._low_base if key[0] else self._base
            with in_eval(base):  # which its copied parts then stay in
                self._benches[key] = at_size(base, shape)
        return self._benches[key]

    # -- inside the host -----------------------------------------------------------------------------------

    def wrap(self, decide: Decide, sizes: float | Ladder, on_decision: Callable[[Decision], None]) -> RoutedEffdet:
        """Called like a `DetBenchPredict`; weights are shared with the detector, whose mode stays as it is."""
        gives_losses = hasattr(self.detector, "loss_fn")  # a `DetBenchTrain`
        routing = Routing(decide, sizes, on_decision)
        return RoutedEffdet(self, routing, self.host_batch, self._forward if gives_losses else None)

    def high_size(self, batch: EffdetBatch) -> int:
        """The longer side in pixels."""
        return max(batch.shape)

    def size_options(self, size: int) -> dict[str, Any]:
        """`size`: the longer side in pixels."""
        return {"size": size}

    def predict_source(
        self,
        wrapped: Any,
        source: Any,
        *,
        batch: int | None = None,
        size: int | None = None,
        img_info: Any = None,
        stream: bool = False,
        **unknown: Any,
    ) -> Any:
        """The host's own (B, 3, H, W) batch -> (B, 100, 6); anything else with images -> a list of (100, 6).

        Args:
            wrapped: what `wrap` returned.
            source: such a batch; or paths, folders, globs, videos, arrays and (3, H, W) tensors in [0, 1], which are
                preprocessed as the host does it.
            batch: images per pass, 8 if none is given.
            size: the high size in pixels.
            img_info: goes with the host's own batch.
            stream: give the rows one by one, for sources that do not fit in memory. With a `batch`, images wait for
                others of their route.
            **unknown: anything else is refused.

        Raises:
            DualResError: If another argument is given.
        """
        if unknown:
            raise DualResError(f"effdet's predict knows batch, size, img_info and stream, not {sorted(unknown)}.")
        check_number("size", size, 1)
        check_number("batch", batch, 1)
        if isinstance(source, Tensor) and source.ndim == 4:
            return wrapped(source, img_info)
        pixels = (image.pixels for image in iter_source(source))
        high = size or self.default_size
        if stream and batch is not None and batch > 1:
            return self._waiting(wrapped, pixels, high, batch)
        results = self._stream(wrapped, pixels, high, batch or 8)
        return results if stream else list(results)

    def _waiting(self, wrapped: Any, pixels: Iterator[np.ndarray], size: int, batch: int) -> Iterator[RoutedRows]:
        alone = (self.collate([image], size) for image in pixels)
        for rows, _, route in wrapped.routing.stream(self, ((one, one.shape) for one in alone), batch):
            yield RoutedRows.of(rows, route, self.class_names)

    def _stream(self, wrapped: Any, pixels: Iterator[np.ndarray], size: int, batch: int) -> Iterator[RoutedRows]:
        for images in in_batches(pixels, batch):
            found = wrapped.run(self.collate(images, size))
            for rows, route in zip(found.unbind(0), found.dualres):
                yield RoutedRows.of(rows, route, self.class_names)

    # -- profiling -----------------------------------------------------------------------------------------

    def input_shape(self, image_size: Shape, size: int) -> Shape:
        """(height, width) of the network's own input scaled to `size`, whatever the image."""
        if size == self.default_size:
            return self.shape
        h, w = (-(-side * size // (self.default_size * STRIDE)) * STRIDE for side in self.shape)
        return h, w

    def low_shape(self, shape: Shape, scale: float) -> Shape:
        """(height, width) in multiples of 128, or what the low network was built for."""
        if self.low_detector is not None:
            own = own_shape(self._low_base)  # 320 is no multiple of 128, but lite0 was made for it
            if all(abs(side * scale - wanted) < 1 for side, wanted in zip(shape, own)):
                return own
        return low_size(shape, scale, STRIDE)

    def collate(self, images: Sequence[np.ndarray], size: int, targets: Sequence[Targets] | None = None) -> EffdetBatch:
        """As the host's loader: B images (H, W, 3) uint8 RGB scaled to fit, padded at the bottom right, normalised."""
        from effdet.data.transforms import ResizePad
        from PIL import Image

        shape = self.input_shape((1, 1), size)
        pad = ResizePad(shape, interpolation="bilinear", fill_color=self._colours.fill_colour())
        pixels = np.zeros((len(images), *shape, 3), dtype=np.uint8)
        scales, sizes = [], []
        for i, image in enumerate(images):
            padded, note = pad(Image.fromarray(np.ascontiguousarray(image)), {})
            pixels[i] = np.asarray(padded)
            scales.append(note["img_scale"])
            sizes.append((image.shape[1], image.shape[0]))
        device = next(self._base.parameters()).device
        tensor = torch.from_numpy(pixels).to(device, non_blocking=True).permute(0, 3, 1, 2).contiguous().float()
        mean, std = self._colours.norm(tensor)
        img_scale, img_size = torch.tensor(scales, dtype=torch.float32), torch.tensor(sizes).view(-1, 2)
        info = {"img_scale": img_scale.to(device), "img_size": img_size.to(device)}
        batch = self.host_batch((tensor - mean * 255) / (std * 255), info)
        return replace(batch, targets=list(targets) if targets is not None else None)

    def detections(self, raw: Tensor, batch: EffdetBatch) -> list[Detections]:
        """The rows of (B, 100, 6) that hold something."""
        found = []
        for rows in raw.cpu().float().numpy():
            rows = rows[rows[:, 4] > 0]  # the host fills up with zeros
            found.append(Detections.from_arrays(rows[:, :4], rows[:, 4], rows[:, 5]))
        return found

    def profile_pass(self, batch: EffdetBatch, with_losses: bool) -> tuple[list[Detections], Tensor | None]:
        """One forward serves both."""
        _, outputs, raw = self._forward(batch)
        with torch.no_grad():
            losses = self._losses(outputs, batch) if with_losses else None
        return self.detections(raw, batch), losses

    # -- export --------------------------------------------------------------------------------------------

    def export_plan(self, size: int, scale: float, nms: bool = False) -> ExportPlan:
        """The host's preprocessing; one graph per size, without NMS."""
        return export.export_plan(self._base, self._colours.fill_colour(), scale, self.stride)

    def export_branch(self, shape: Shape, low: bool = False, *, dynamic: bool = False, nms: bool = False) -> nn.Module:
        """(1, 3, H, W) -> (1, candidates, 6) before NMS, at this (height, width) only."""
        bench = self.bench_at(shape, low)
        mean, std = self._colours.norm(bench.anchors.boxes, low)
        return export.EffdetBranch(bench, mean, std)

    def count_macs(self, shape: Shape, low: bool = False) -> float:
        """All convolutions, both heads on five levels: D0 to D2 come within 2 % of the published figures."""
        bench = self.bench_at(shape, low)
        return gmacs(bench.model, torch.zeros(1, 3, *shape, device=next(bench.parameters()).device))
