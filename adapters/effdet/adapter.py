"""effdet (Ross Wightman's EfficientDet): one network at two sizes, or two networks such as D2 and D1.

The routed bench is called like the host's: a normalised batch and `img_info` in, a (B, 100, 6) tensor of xyxy,
score and class in pixels of the original images out, so the host's loaders and evaluators work unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from dualres_plugin.adapters.effdet import export
from dualres_plugin.adapters.effdet.batch import EffdetBatch, content_of, loss_targets
from dualres_plugin.adapters.effdet.bench import (
    STRIDE,
    Shape,
    at_size,
    build_bench,
    coco_names,
    own_shape,
    predictor,
    with_outputs,
)
from dualres_plugin.adapters.effdet.colours import InputColours
from dualres_plugin.adapters.effdet.routed import RoutedEffdet, RoutedRows
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.flops import gmacs
from dualres_plugin.common.images import in_batches, iter_source
from dualres_plugin.common.resize import axis_ratio, low_size, resize_images
from dualres_plugin.common.types import Decision, Detections, RouterImages, Targets
from dualres_plugin.hosts.contract import Decide, HostAdapter
from dualres_plugin.hosts.export_plan import ExportPlan


class EffdetAdapter(HostAdapter[EffdetBatch]):
    """Drives a `DetBenchPredict`, a `DetBenchTrain` or a bare `EfficientDet`.

    With `low_detector`, the low size is by default the one that network was built for.
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
            self.default_scale = max(own_shape(self._low_base)) / self.default_size
        classes, low_classes = (int(b.num_classes) for b in (self._base, self._low_base))
        if classes != low_classes:
            raise DualResError(f"the high network has {classes} classes, the low one {low_classes}: train both alike.")
        self.class_names = coco_names() if classes == 90 else None
        self.label_ids = sorted(self.class_names) if self.class_names else list(range(1, classes + 1))
        self._colours = InputColours(*(resolve_input_config({}, b.config) for b in (self._base, self._low_base)))
        self._benches: dict[tuple[bool, Shape], Any] = {}
        self._labelers: dict[tuple[bool, Shape], Any] = {}
        self._macs: dict[tuple[Shape, bool], float] = {}

    @classmethod
    def accepts(cls, detector: Any) -> bool:
        own = {"DetBenchPredict", "DetBenchTrain", "EfficientDet"}
        return any(c.__module__.startswith("effdet.") and c.__name__ in own for c in type(detector).__mro__)

    @classmethod
    def from_spec(cls, spec: str, **options: str) -> EffdetAdapter:
        """`name,checkpoint=FILE[,num_classes=N,image_size=N]`."""
        return cls(build_bench(spec, **options))

    # -- a batch through the network -----------------------------------------------------------------------

    def host_batch(self, images: Tensor, img_info: dict[str, Tensor] | None = None) -> EffdetBatch:
        """What the host's bench is called with, as a batch.

        Args:
            images: (B, 3, H, W) normalised.
            img_info: the host's `img_scale` (B,) and `img_size` (B, 2), as its loader's target holds them.
        """
        if img_info is None:
            fill = self._colours.fill(images)
            return EffdetBatch(images, [content_of(image, fill) for image in images])
        scale, size = img_info["img_scale"], img_info["img_size"]
        # The host cuts off fractions; the small addition keeps 256.0 from becoming 255 in float32.
        content = (size.float().cpu() / scale.float().cpu()[:, None] + 1e-3).int().tolist()
        h, w = images.shape[-2:]
        return EffdetBatch(images, [(min(y, h), min(x, w)) for x, y in content], scale, size)

    def router_images(self, batch: EffdetBatch) -> RouterImages:
        mean, std = self._colours.norm(batch.images, low=batch.low)
        return RouterImages(batch.images.float() * std + mean, [(0, 0, w, h) for h, w in batch.content])

    def select(self, batch: EffdetBatch, index: Tensor) -> EffdetBatch:
        return batch.take(index)

    def resize(self, batch: EffdetBatch, index: Tensor, scale: float) -> EffdetBatch:
        part = batch.take(index)
        high: Shape = (int(batch.images.shape[2]), int(batch.images.shape[3]))
        low = self.low_shape(high, scale)
        x, y = axis_ratio(high, low)
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
        bench = self._bench(batch)
        if not len(batch.images):
            return batch.images.new_zeros(0, int(bench.max_det_per_image), 6)
        with torch.no_grad():
            return self._finished(bench(batch.images, batch.info()), batch)

    def _finished(self, raw: Tensor, batch: EffdetBatch) -> Tensor:
        if batch.stretch == 1.0:
            return raw
        return raw * raw.new_tensor([1.0, batch.stretch, 1.0, batch.stretch, 1.0, 1.0])

    def merge(self, parts: Sequence[tuple[Tensor, Tensor, EffdetBatch]], batch: EffdetBatch) -> Tensor:
        rows = max(raw.shape[1] for _, raw, _ in parts)
        merged = parts[0][1].new_zeros(len(batch.images), rows, 6)
        for index, raw, _ in parts:
            merged[index.to(merged.device), : raw.shape[1]] = raw
        return merged

    def losses(self, batch: EffdetBatch) -> Tensor:
        if not len(batch.images):
            return torch.zeros(0)
        with torch.no_grad():
            return self._losses(self._bench(batch).model(batch.images), batch)

    def _losses(self, outputs: tuple[list[Tensor], list[Tensor]], batch: EffdetBatch) -> Tensor:
        """effdet's loss on one-image slices: it divides by the number of matched anchors of a whole batch."""
        from effdet.loss import DetectionLoss

        assert batch.targets is not None, "losses need targets"
        labeler, loss = self._labeler(batch), DetectionLoss(self._bench(batch).config)
        values = []
        for i in range(len(batch.images)):
            boxes, classes = loss_targets(batch, i)
            labels = labeler.batch_label_anchors([boxes], [classes])
            classified, regressed = ([level[i : i + 1] for level in part] for part in outputs)
            values.append(loss(classified, regressed, *labels)[0])
        return torch.stack(values).detach().float().cpu()

    def _bench(self, batch: EffdetBatch) -> Any:
        for net in (self._base, self._low_base):
            if net.training or net.model.training:
                net.eval()
        bench = self._sized((int(batch.images.shape[2]), int(batch.images.shape[3])), batch.low)
        if bench.anchors.boxes.device != batch.images.device:
            bench.anchors.to(batch.images.device)
        return bench

    def _sized(self, shape: Shape, low: bool) -> Any:
        key = (low and self.low_detector is not None, shape)
        if key not in self._benches:
            self._benches[key] = at_size(self._low_base if key[0] else self._base, shape)
        return self._benches[key]

    def _labeler(self, batch: EffdetBatch) -> Any:
        from effdet.anchors import AnchorLabeler

        shape = (int(batch.images.shape[2]), int(batch.images.shape[3]))
        key = (batch.low and self.low_detector is not None, shape)
        if key not in self._labelers:
            bench: Any = self._bench(batch)
            self._labelers[key] = AnchorLabeler(bench.anchors, bench.num_classes, match_threshold=0.5)
        return self._labelers[key]

    # -- inside the host -----------------------------------------------------------------------------------

    def wrap(self, decide: Decide, scale: float, on_decision: Callable[[Decision], None]) -> RoutedEffdet:
        return RoutedEffdet(self, decide, scale, on_decision)

    def size_options(self, size: int) -> dict[str, Any]:
        return {"size": size}

    def predict_source(
        self,
        wrapped: Any,
        source: Any,
        *,
        batch: int = 8,
        size: int | None = None,
        img_info: Any = None,
        stream: bool = False,
        **_: Any,
    ) -> Any:
        """The host's own (B, 3, H, W) batch -> (B, 100, 6); anything else with images -> a list of (100, 6).

        Paths, folders, globs, videos, arrays and (3, H, W) tensors in [0, 1] are preprocessed as the host does it.
        With `stream` they are given one by one, for sources that do not fit in memory.
        """
        if isinstance(source, Tensor) and source.ndim == 4:
            return wrapped(source, img_info)
        results = self._stream(wrapped, source, size or self.default_size, batch)
        return results if stream else list(results)

    def _stream(self, wrapped: Any, source: Any, size: int, batch: int) -> Iterator[RoutedRows]:
        for images in in_batches((image.pixels for image in iter_source(source)), batch):
            found = wrapped.run(self.collate(images, size))
            for rows, route in zip(found.unbind(0), found.dualres):
                yield RoutedRows.of(rows, route, self.class_names)

    # -- profiling -----------------------------------------------------------------------------------------

    def input_shape(self, image_size: tuple[int, int], size: int) -> Shape:
        if size == self.default_size:
            return self.shape
        h, w = (-(-side * size // (self.default_size * STRIDE)) * STRIDE for side in self.shape)
        return h, w

    def low_shape(self, shape: Shape, scale: float) -> Shape:
        if self.low_detector is not None:
            own = own_shape(self._low_base)  # 320 is no multiple of 128, but lite0 was made for it
            if all(abs(side * scale - wanted) < 1 for side, wanted in zip(shape, own)):
                return own
        return low_size(shape, scale, STRIDE)

    def collate(self, images: Sequence[np.ndarray], size: int, targets: Sequence[Targets] | None = None) -> EffdetBatch:
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
        tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().to(device).float()
        mean, std = self._colours.norm(tensor)
        img_scale, img_size = torch.tensor(scales, dtype=torch.float32), torch.tensor(sizes).view(-1, 2)
        info = {"img_scale": img_scale.to(device), "img_size": img_size.to(device)}
        batch = self.host_batch((tensor - mean * 255) / (std * 255), info)
        return replace(batch, targets=list(targets) if targets is not None else None)

    def detections(self, raw: Tensor, batch: EffdetBatch) -> list[Detections]:
        found = []
        for rows in raw.cpu().numpy():
            rows = rows[rows[:, 4] > 0]  # the host fills up with zeros
            found.append(Detections.from_arrays(rows[:, :4], rows[:, 4], rows[:, 5]))
        return found

    def profile_pass(self, batch: EffdetBatch, with_losses: bool) -> tuple[list[Detections], Tensor | None]:
        """One forward serves both."""
        bench = self._bench(batch)
        with torch.no_grad():
            outputs = bench.model(batch.images)
            raw = self._finished(with_outputs(bench, outputs)(batch.images, batch.info()), batch)
            losses = self._losses(outputs, batch) if with_losses else None
        return self.detections(raw, batch), losses

    # -- export --------------------------------------------------------------------------------------------

    def export_plan(self, size: int, scale: float, nms: bool = False) -> ExportPlan:
        return export.export_plan(self._base, self._colours.fill_colour(), scale, self.stride)

    def export_branch(self, shape: Shape, low: bool = False, *, dynamic: bool = False, nms: bool = False) -> nn.Module:
        bench = self._sized(shape, low)
        mean, std = self._colours.norm(bench.anchors.boxes, low)
        return export.EffdetBranch(bench, mean, std).eval()

    def macs(self, shape: Shape, low: bool = False) -> float:
        """All convolutions, both heads on five levels: D0 to D2 come within 2 % of the published figures."""
        if (shape, low) not in self._macs:
            bench = self._sized(shape, low)
            blank = torch.zeros(1, 3, *shape, device=next(bench.parameters()).device)
            self._macs[shape, low] = gmacs(bench.model, blank)
        return self._macs[shape, low]


class EffdetPairAdapter(EffdetAdapter):
    """Two networks for the command line: `effdet-pair:HIGH,LOW,high_checkpoint=…,low_checkpoint=…`."""

    @classmethod
    def accepts(cls, detector: Any) -> bool:
        return False  # a detector in hand is EffdetAdapter's

    @classmethod
    def from_spec(cls, spec: str, **options: str) -> EffdetPairAdapter:
        """`HIGH,LOW`, with `checkpoint` and `image_size` as `high_…` and `low_…`, `num_classes` for both."""
        names = spec.split(",")
        if len(names) != 2:
            raise DualResError(
                "write effdet-pair:HIGH,LOW,high_checkpoint=FILE,low_checkpoint=FILE, such as "
                "effdet-pair:tf_efficientdet_d2,tf_efficientdet_d1,high_checkpoint=d2.pth,low_checkpoint=d1.pth"
            )
        shared = {k: v for k, v in options.items() if not k.startswith(("high_", "low_"))}
        high, low = (
            build_bench(n, **shared, **{k.removeprefix(p): v for k, v in options.items() if k.startswith(p)})
            for n, p in zip(names, ("high_", "low_"))
        )
        return cls(high, low)
