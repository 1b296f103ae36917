"""The `HostAdapter` of MMDetection: any built `BaseDetector`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

import numpy as np
import torch
from mmdet.models.detectors import BaseDetector
from mmengine.structures import InstanceData
from torch import Tensor, nn

from dualres_plugin.adapters.mmdet import export
from dualres_plugin.adapters.mmdet.backbone import backbone_of, build
from dualres_plugin.adapters.mmdet.batch import MMDetBatch, as_high_sample, blank_sample, content_box, slice_of
from dualres_plugin.adapters.mmdet.patches import constant, features_given, frozen, loss_mode, without_masks
from dualres_plugin.adapters.mmdet.pipeline import (
    as_rgb,
    ground_truth,
    load_detector,
    prepared,
    refuse_family,
    resize_scale,
    test_pipeline,
    transforms_at,
    warn_if_random,
)
from dualres_plugin.adapters.mmdet.routed import RoutedDetector
from dualres_plugin.common.errors import DualResError, check_number
from dualres_plugin.common.flops import gmacs
from dualres_plugin.common.images.sources import in_batches, iter_source
from dualres_plugin.common.resize import low_size
from dualres_plugin.common.types import Decision, Detections, RouterImages, Targets
from dualres_plugin.hosts.contract import Decide, HostAdapter, Shape
from dualres_plugin.hosts.export_plan import ExportPlan
from dualres_plugin.hosts.ladder import Ladder
from dualres_plugin.hosts.routing import Routing, in_pixels

# As cv2's bilinear filter in mmdet's pipelines, so that all-low is the plain host at the low size: AP .261 against .262
# (YOLOX-Nano at 320 of 640, 164 COCO photos). Averaging, as Ultralytics needs it, would give .268 here.
ANTIALIAS = False


class MMDetAdapter(HostAdapter[MMDetBatch]):
    """Drives a detector built by mmdet.

    Args:
        detector: of `init_detector`, `MODELS.build` or a `Runner`.
        low_detector: a second one for the low size, with the same classes.

    Raises:
        DualResError: If one is routed already, cannot be routed, or its test pipeline has no size.
    """

    name: ClassVar[str] = "mmdet"
    requires: ClassVar[tuple[str, ...]] = (
        "mmdet==3.3.0",
        "mmengine==0.10.7",
        "mmcv-lite==2.1.0 or mmcv==2.1.0",
    )

    def __init__(self, detector: Any, low_detector: Any | None = None):
        super().__init__(detector, low_detector)
        for given in (detector, low_detector):
            if isinstance(given, RoutedDetector):
                raise DualResError("this mmdet detector is routed already: give the plain detector.")
            if given is not None:
                refuse_family(given)
        self.preprocessor = detector.data_preprocessor
        self.stride = max(int(getattr(self.preprocessor, "pad_size_divisor", 1)), 32)
        self.pipeline = test_pipeline(detector)
        self.default_size = min(resize_scale(self.pipeline))
        classes = (getattr(detector, "dataset_meta", None) or {}).get("classes") or ()
        self.class_names = dict(enumerate(classes)) or None
        self.label_ids = list(range(_class_count(detector)))
        self._steps: dict[int, list[Any]] = {}
        self._looked_at = False

    @classmethod
    def accepts(cls, detector: Any) -> bool:
        """Any `BaseDetector`."""
        return isinstance(detector, BaseDetector)

    @classmethod
    def from_spec(cls, spec: str, **options: str) -> MMDetAdapter:
        """`config.py,weights.pth`; options are the host's `--cfg-options`, `model.test_cfg.score_thr=0.1`.

        Raises:
            DualResError: See `pipeline.load_detector`.
        """
        config, _, weights = spec.partition(",")
        return cls(load_detector(config, weights or None, options))

    # -- a batch through the network -------------------------------------------------------------------------

    def router_images(self, batch: MMDetBatch) -> RouterImages:
        """(B, 3, H, W) without the normalisation, turned to RGB; photos lie in the top left corners."""
        images = batch.inputs.float()
        if getattr(self.preprocessor, "_enable_normalize", False):
            images = images * self.preprocessor.std + self.preprocessor.mean
        if not getattr(self.preprocessor, "_channel_conversion", False):
            images = images.flip(1)  # mmdet loads BGR; a preprocessor with bgr_to_rgb has turned it round already
        samples = batch.samples or [None] * len(images)
        return RouterImages(images / 255, [content_box(sample, batch.shape) for sample in samples])

    def select(self, batch: MMDetBatch, index: Tensor) -> MMDetBatch:
        """The images `index`, (K,) int64."""
        return batch.take(index)

    def join(self, batches: Sequence[MMDetBatch]) -> MMDetBatch:
        """Of one input shape."""
        return MMDetBatch.joined(batches)

    def resize(self, batch: MMDetBatch, index: Tensor, scale: float) -> MMDetBatch:
        """The images `index`, (K,) int64, at the low size, in copies of their samples."""
        return batch.take(index).resized(low_size(batch.shape, scale, self.stride), ANTIALIAS)

    def predict(self, batch: MMDetBatch) -> list[Any]:
        """B copies of the samples with the host's predictions."""
        net = self._net(batch)
        with frozen(net):
            samples = [sample.clone() for sample in batch.samples]  # the host writes its results into them
            return list(net.predict(batch.inputs, samples, rescale=batch.rescale)) if samples else []

    def _net(self, batch: MMDetBatch) -> Any:
        if not self._looked_at:  # now, not when it was built: mmengine loads weights into built detectors
            self._looked_at = True
            warn_if_random(self.detector)
        return self.detector_at(batch.low)

    def merge(self, parts: Sequence[tuple[Tensor, Any, MMDetBatch]], batch: MMDetBatch) -> list[Any]:
        """The samples in the batch's order; a low pass's predictions on copies of the high samples."""
        merged: list[Any] = [None] * len(batch.samples)
        for index, raw, part in parts:
            for i, sample in zip(index.tolist(), raw):
                merged[i] = sample if not part.low else as_high_sample(sample, batch.samples[i], part, batch)
        return merged

    def photo_sizes(self, batch: MMDetBatch) -> list[Shape] | None:
        """`ori_shape` of samples whose boxes leave in original pixels."""
        if not batch.rescale or any("ori_shape" not in sample for sample in batch.samples):
            return None
        return [(int(sample.ori_shape[0]), int(sample.ori_shape[1])) for sample in batch.samples]

    def recall(self, batch: MMDetBatch, index: Tensor, found: Sequence[Detections]) -> list[Any]:
        """K copies of the samples with `pred_instances`; masks are not remembered."""
        sizes = self.photo_sizes(batch)
        if sizes is None:
            raise DualResError("skipping frames needs boxes in original pixels: rescale=True, and the ori_shape.")
        made = []
        for image, kept in zip(index.tolist(), found):
            there, sample = in_pixels(kept, sizes[image]), batch.samples[image].clone()
            arrays = {"scores": there.scores, "bboxes": there.boxes, "labels": there.labels}
            on = {name: torch.from_numpy(a).to(batch.inputs.device) for name, a in arrays.items()}
            sample.pred_instances = InstanceData(**on)
            made.append(sample)
        return made

    def losses(self, batch: MMDetBatch) -> Tensor:
        """(B,) float32: the sum of the detector's own losses on each image alone; where it holds no masks, on boxes.

        Raises:
            DualResError: If the detector was built without its `train_cfg`.
        """
        net = self.detector_at(batch.low)
        with frozen(net):
            return self._losses(net, net.extract_feat(batch.inputs), batch)

    def _losses(self, net: Any, features: Any, batch: MMDetBatch) -> Tensor:
        """The host's loss of one-image slices of the batch's features (it normalises over a batch)."""
        values = []
        for i, sample in enumerate(batch.samples):
            # Two-stage samplers draw at random: the same image must always get the same loss.
            with features_given(net, slice_of(features, i)), torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                try:
                    boxes_only = nullcontext() if "masks" in sample.gt_instances else without_masks(net)
                    with loss_mode(net), boxes_only:
                        loss = net.loss(batch.inputs[i : i + 1], [sample.clone()])
                except (AttributeError, TypeError, KeyError, ImportError) as error:
                    raise DualResError(
                        f"the mmdet detector {type(net).__name__} gives no loss ({error}).{_loss_advice(net, sample)}"
                    ) from error
            values.append(net.parse_losses(loss)[0].float())
        return torch.stack(values) if values else torch.zeros(0)

    # -- the routed host -------------------------------------------------------------------------------------

    def wrap(self, decide: Decide, sizes: float | Ladder, on_decision: Callable[[Decision], None]) -> Any:
        """A `BaseDetector` with routing inside; the given detector is shared and stays as it is."""
        return RoutedDetector(self, Routing(decide, sizes, on_decision)).eval()

    def predict_source(self, wrapped: Any, source: Any, **kwargs: Any) -> list[Any] | Iterator[Any]:
        """One `DetDataSample` per image, with `.route`, `.score`, `.dualres` and `.to_supervision()`.

        Args:
            wrapped: what `wrap` returned.
            source: path, folder, glob, video, array (H, W, 3) uint8 BGR, as `inference_detector` takes it, or a list of
                these.
            **kwargs: `size`, the high size in pixels; `batch`, images per pass; `stream`, give the samples one by one,
                for sources that do not fit in memory. With both, images wait for others of their route.

        Raises:
            DualResError: If another argument is given.
        """
        size, count = int(kwargs.pop("size", self.default_size)), kwargs.pop("batch", None)
        stream = bool(kwargs.pop("stream", False))
        if kwargs:
            raise DualResError(f"mmdet's predict knows size, batch and stream, not {sorted(kwargs)}.")
        check_number("batch", count, 1)
        pixels = (image.pixels for image in iter_source(as_rgb(source)))
        if stream and count is not None and count > 1:
            waiting: Iterator[Any] = wrapped.stream((self.collate([image], size) for image in pixels), count)
            return waiting
        samples = self._stream(wrapped, pixels, size, count or 1)
        return samples if stream else list(samples)

    def _stream(self, wrapped: Any, pixels: Iterator[np.ndarray], size: int, count: int) -> Iterator[Any]:
        for images in in_batches(pixels, count):
            batch = self.collate(images, size)
            with frozen(self.detector):
                samples = wrapped.predict(batch.inputs, batch.samples)
            yield from samples

    def high_size(self, batch: MMDetBatch) -> int | None:
        """The short side of the pipeline's scale that the photos were resized to: samples do not name it."""
        short, long = sorted(resize_scale(self.pipeline))
        boxes = [content_box(sample, batch.shape) for sample in batch.samples]
        sides = [sorted((x1 - x0, y1 - y0)) for x0, y0, x1, y1 in boxes]
        # `keep_ratio` fills one side of the scale, and leaves the other short.
        return max((max(shorter, round(longer * short / long)) for shorter, longer in sides), default=None)

    def size_options(self, size: int) -> dict[str, Any]:
        """`size`: the short side of the pipeline's scale, in pixels."""
        return {"size": size}

    def router_backbone(self) -> tuple[list[nn.Module], dict[str, Any]]:
        """The stages of the backbone, see `backbone`.

        Raises:
            DualResError: If the detector has no config, or the stages are not known.
        """
        return backbone_of(self.detector)

    @classmethod
    def build_backbone(cls, description: dict[str, Any]) -> list[nn.Module]:
        """The same stages with random weights."""
        return build(description)

    # -- export ----------------------------------------------------------------------------------------------

    def export_plan(self, size: int, scale: float, nms: bool = False) -> ExportPlan:
        """The test pipeline and the NMS of `test_cfg`.

        Raises:
            DualResError: If the family or the pipeline cannot be exported.
        """
        return export.export_plan(
            self.detector, self.pipeline, self.stride, scale, ANTIALIAS, export.pads_to_size(self.pipeline)
        )

    def export_branch(
        self, shape: tuple[int, int], low: bool = False, *, dynamic: bool = False, nms: bool = False
    ) -> nn.Module:
        """(1, 3, H, W) -> (1, 4 + classes, N) before NMS.

        Raises:
            DualResError: If the family cannot be exported.
        """
        return export.MMDetBranch(self.detector_at(low))

    def export_batch(self, image: np.ndarray, size: int, static: bool) -> MMDetBatch:
        """One (H, W, 3) uint8 RGB photo through the test pipeline, padded to the square that static graphs take."""
        batch = self.collate([image], size)
        return batch.padded((size, size), float(self.preprocessor.pad_value)) if static else batch

    # -- profiling -------------------------------------------------------------------------------------------

    def input_shape(self, image_size: tuple[int, int], size: int) -> tuple[int, int]:
        """(height, width) by running the test pipeline on a blank image, padded up to the preprocessor's divisor."""
        blank = np.zeros((*image_size, 3), np.uint8)
        shape = self._prepare(blank, size)["inputs"].shape[-2:]
        divisor = int(getattr(self.preprocessor, "pad_size_divisor", 1))
        h, w = (-(-int(side) // divisor) * divisor for side in shape)
        return h, w

    def collate(self, images: Sequence[np.ndarray], size: int, targets: Sequence[Targets] | None = None) -> MMDetBatch:
        """The config's own test pipeline at another size, then the model's data preprocessor.

        Args:
            images: B of (H, W, 3) uint8 RGB.
            size: short side of the pipeline's scale, in pixels.
            targets: ground truth in original pixels.
        """
        packed = [self._prepare(image[..., ::-1], size) for image in images]
        data = {"inputs": [p["inputs"] for p in packed], "data_samples": [p["data_samples"] for p in packed]}
        data = self.preprocessor(data, False)
        samples = data["data_samples"]
        for sample, target in zip(samples, targets or []):
            crowds = Targets(target.boxes[target.ignore], target.labels[target.ignore])
            sample.gt_instances = ground_truth(target.trainable, sample.scale_factor, data["inputs"].device)
            sample.ignored_instances = ground_truth(crowds, sample.scale_factor, data["inputs"].device)
        return MMDetBatch(data["inputs"], samples, targets=targets is not None)

    def _prepare(self, bgr: np.ndarray, size: int) -> dict[str, Any]:
        if size not in self._steps:
            self._steps[size] = transforms_at(self.pipeline, size)
        return prepared(self._steps[size], bgr)

    def detections(self, raw: Any, batch: MMDetBatch) -> list[Detections]:
        """The samples' `pred_instances`: the host's NMS has run, its boxes are in original pixels."""
        assert batch.rescale, "detections are wanted in original pixels"
        found = (sample.pred_instances.cpu() for sample in raw)
        return [
            Detections.from_arrays(p.bboxes.float().numpy(), p.scores.float().numpy(), p.labels.numpy()) for p in found
        ]

    def profile_pass(self, batch: MMDetBatch, with_losses: bool) -> tuple[list[Detections], Tensor | None]:
        """One run of backbone and neck serves both."""
        net = self._net(batch)
        with frozen(net):
            features = net.extract_feat(batch.inputs)
            with features_given(net, features):
                raw = net.predict(batch.inputs, [sample.clone() for sample in batch.samples], rescale=True)
            losses = self._losses(net, features, batch).cpu() if with_losses else None
        return self.detections(raw, batch), losses

    def count_macs(self, shape: tuple[int, int], low: bool = False) -> float:
        """GMACs of the network's tensor forward at (height, width), as mmengine's counter has it."""
        net = self.detector_at(low)
        blank = torch.zeros(1, 3, *shape, device=next(net.parameters()).device)
        with frozen(net), constant(net):
            return gmacs(_Plain(net, blank_sample(shape)), blank)


def _loss_advice(net: Any, sample: Any) -> str:
    """What is known to be missing for a loss."""
    if "labels" not in sample.get("gt_instances", ()):
        return " The samples hold no ground truth: give collate the targets."
    parts = [net, *(getattr(net, name, None) for name in ("bbox_head", "roi_head", "rpn_head"))]
    has_settings = any(getattr(part, "train_cfg", None) for part in parts)
    return "" if has_settings else " It needs the train_cfg of its config."


class _Plain(nn.Module):
    """The bare network of a detector, for counting."""

    def __init__(self, detector: Any, sample: Any):
        super().__init__()
        self.detector = detector
        self.sample = sample

    def forward(self, inputs: Tensor) -> Any:
        return self.detector._forward(inputs, [self.sample])


def _class_count(detector: Any) -> int:
    owner = detector if hasattr(detector, "bbox_head") else getattr(detector, "roi_head", None)
    head = getattr(owner, "bbox_head", None)
    head = head[-1] if isinstance(head, nn.ModuleList) else head  # cascades
    return int(getattr(head, "num_classes", 0))
