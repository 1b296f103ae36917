"""What a detector ecosystem must offer to be routed.

`registry` finds an adapter by its entry point, so a third party adds a host without touching this package.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
from torch import Tensor, nn

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.resize import low_size
from dualres_plugin.common.types import Decision, Detections, RouterImages, Targets

if TYPE_CHECKING:
    from dualres_plugin.hosts.export_plan import ExportPlan
    from dualres_plugin.hosts.ladder import Ladder

Batch = TypeVar("Batch")
Shape = tuple[int, int]  # height, width
# Chooses the resolution of a batch: the router with its threshold, or a test that forces one.
Decide = Callable[[RouterImages], Decision]


class HostAdapter(ABC, Generic[Batch]):
    """Runs one host's detector at two sizes or more.

    `Batch` is whatever the host's own pipeline feeds its network; the core never looks inside. A batch made by
    `collate` or by the host is at the high size; `resize` gives the low one.

    Args:
        detector: the host's own object, already built.
        low_detector: a second network for the low size (pair mode), or None to share one set of weights.
    """

    name: ClassVar[str]
    requires: ClassVar[tuple[str, ...]]
    stride: int = 32
    default_size: int = 640
    default_scale: float = 0.5  # low / high ratio when none is given; a pair of networks has one of its own
    class_names: dict[int, str] | None = None  # label -> name, where the host knows it
    label_ids: list[int] | None = None  # labels in class order, where names are unknown

    def __init__(self, detector: Any, low_detector: Any | None = None):
        self.detector = detector
        self.low_detector = low_detector
        self.working_sizes: set[tuple[int, float]] = set()  # (high size, scale) that `probe.check_sizes` has seen run
        self._macs: dict[tuple[Shape, bool], float] = {}

    @classmethod
    @abstractmethod
    def accepts(cls, detector: Any) -> bool:
        """Whether this adapter can drive the object. Must not import the host when it is not installed."""

    @classmethod
    def from_spec(cls, spec: str, **options: str) -> HostAdapter[Any]:
        """Build from the command line's `name:spec,key=value,…`.

        Args:
            spec: the part before the first `key=value`.
            **options: the rest, as text.

        Raises:
            DualResError: If the detector cannot be built, or this host cannot be named on the command line.
        """
        raise DualResError(f"the {cls.name} adapter cannot be named on the command line; use it from Python.")

    # -- the five that every host must give --------------------------------------------------------------

    @abstractmethod
    def router_images(self, batch: Batch) -> RouterImages:
        """What the router sees of a batch; padding lies outside the content boxes and never reaches it.

        Returns:
            (B, 3, H, W) or B of (3, H_i, W_i), RGB in [0, 1], and one (x0, y0, x1, y1) in pixels each.
        """

    @abstractmethod
    def resize(self, batch: Batch, index: Tensor, scale: float) -> Batch:
        """The images `index` of a high batch at the low size, metadata updated, nothing mutated.

        Args:
            batch: at the high size.
            index: (K,) int64, which images.
            scale: low / high ratio; the low input is `low_size(…, scale)`.
        """

    @abstractmethod
    def predict(self, batch: Batch) -> Any:
        """The host's raw output for a batch: no gradients, the host in eval."""

    @abstractmethod
    def losses(self, batch: Batch) -> Tensor:
        """The detector's own training loss of each image.

        Args:
            batch: one with targets, at either size.

        Returns:
            (B,) float32, detached.
        """

    @abstractmethod
    def select(self, batch: Batch, index: Tensor) -> Batch:
        """The images `index`, (K,) int64, of a batch, at the size they have."""

    def join(self, batches: Sequence[Batch]) -> Batch | None:
        """High batches of one input shape as one, in their order, nothing mutated; the reverse of `select`.

        Args:
            batches: at least one.

        Returns:
            The batch; None of a host that does not join: its photos are collated again.
        """
        return None

    # -- routing -------------------------------------------------------------------------------------------

    def detector_at(self, low: bool) -> Any:
        """The detector that runs at the low or at the high size: of a pair, the one built for it."""
        return self.low_detector if low and self.low_detector is not None else self.detector

    def merge(self, parts: Sequence[tuple[Tensor, Any, Batch]], batch: Batch) -> Any:
        """Put partial outputs back in order, coordinates as if all images had run at high.

        Args:
            parts: ((K,) indices into `batch`, raw output, the sub-batch it came from) per resolution.
            batch: the whole high batch.

        Returns:
            The raw output, as the host gives it for the whole batch.

        Raises:
            DualResError: If this host cannot merge.
        """
        raise DualResError(f"the {self.name} adapter cannot merge batches with mixed routes: use batch size 1.")

    def photo_sizes(self, batch: Batch) -> list[Shape] | None:
        """(height, width) of each original image: what makes shares of its boxes. None where a batch does not know."""
        return None

    def recall(self, batch: Batch, index: Tensor, found: Sequence[Detections]) -> Any:
        """The raw output of frames that are skipped: what was found before, as if this batch had shown it.

        Args:
            batch: at the high size.
            index: (K,) int64, which images.
            found: of each of them; boxes as shares of the photo.

        Returns:
            As `predict` gives it for `select(batch, index)`.

        Raises:
            DualResError: If this host cannot skip.
        """
        raise DualResError(f"the {self.name} adapter cannot skip frames: leave skip at 0.")

    def high_size(self, batch: Batch) -> int | None:
        """The high size in pixels that a batch was made for, in the host's own meaning of size; a low size in pixels
        is set against it. None is the detector's own.
        """
        return None

    def wrap(self, decide: Decide, sizes: float | Ladder, on_decision: Callable[[Decision], None]) -> Any:
        """The host's own object with routing inside; the given detector stays as it is.

        Args:
            decide: gives the route of each image.
            sizes: low / high ratio, or a `Ladder`: hand it on to `Routing`.
            on_decision: told of each decision.

        Raises:
            DualResError: If this host has no such object.
        """
        raise DualResError(f"the {self.name} adapter has no wrapped host object; use profile and predict.")

    def wrap_at(self, size: int, decide: Decide, sizes: float | Ladder, on_decision: Callable[[Decision], None]) -> Any:
        """`wrap` for a high `size` in pixels. A host whose detector scales what it is given overrides this.

        Args:
            size: the high size.
            decide, sizes, on_decision: as of `wrap`.

        Raises:
            DualResError: As `wrap`.
        """
        return self.wrap(decide, sizes, on_decision)

    def predict_source(self, wrapped: Any, source: Any, **kwargs: Any) -> Any:
        """Run the wrapped host on what its own users pass as a source.

        Args:
            wrapped: what `wrap` returned.
            source: image, folder, glob, video, array, or a list; what else the host takes.
            **kwargs: of the host's own predict.

        Returns:
            Results in the host's own types, each with `.dualres` where the type allows it.

        Raises:
            DualResError: If this host has no predict, or an argument is unknown.
        """
        raise DualResError(f"the {self.name} adapter has no predict of its own: call the wrapper on a batch.")

    sized_methods: ClassVar[tuple[str, ...]] = ()  # methods of the wrapped host that take `size_options`

    def size_options(self, size: int) -> dict[str, Any]:
        """Keyword arguments that make the host's own methods run at the high `size`, in pixels."""
        return {}

    def for_inference(self) -> HostAdapter[Batch]:
        """An adapter of the network as the host itself runs it, e.g. with batch norms folded."""
        return self

    def to(self, device: str) -> HostAdapter[Batch]:
        """Move the detectors to a device, such as "cuda:0", and return this adapter."""
        for detector in (self.detector, self.low_detector):
            if detector is not None:
                detector.to(device)
        return self

    # -- the detector's own features as a router --------------------------------------------------------------

    def router_backbone(self) -> tuple[list[nn.Module], dict[str, Any]]:
        """The detector's first blocks, for a router whose frozen features are the detector's own, at thumbnail size.

        Returns:
            Copies of the blocks in forward order, and a JSON description from which `build_backbone` makes them.

        Raises:
            DualResError: If the host or this detector does not offer them.
        """
        raise DualResError(f"the {self.name} adapter does not offer the detector's backbone: name another backbone.")

    @classmethod
    def build_backbone(cls, description: dict[str, Any]) -> list[nn.Module]:
        """The blocks of `router_backbone` with random weights.

        Args:
            description: comes from a router folder, perhaps a stranger's: it is data. Check every name and value
                against a list, and hand nothing of it to a parser or registry of the host.

        Raises:
            DualResError: If the host does not offer them, or the description asks for anything else.
        """
        raise DualResError(f"the {cls.name} adapter does not offer the detector's backbone.")

    # -- profiling -----------------------------------------------------------------------------------------

    def host_size(self, size: int) -> int:
        """The size that the host runs at when it is asked for `size`, both in pixels: some round up to the stride."""
        return size

    def input_shape(self, image_size: Shape, size: int) -> Shape:
        """(height, width) of the network input: images that agree share a batch.

        Args:
            image_size: (height, width) of the original image.
            size: the high size in pixels.
        """
        return size, size

    def low_shape(self, shape: Shape, scale: float) -> Shape:
        """(height, width) of the low network input that belongs to a high one, at a low / high ratio."""
        return low_size(shape, scale, self.stride)

    def collate(self, images: Sequence[np.ndarray], size: int, targets: Sequence[Targets] | None = None) -> Batch:
        """The host's own preprocessing of images into one high batch.

        Args:
            images: B of (H, W, 3) uint8 RGB.
            size: the high size in pixels.
            targets: ground truth in original pixels; None when there are no labels.

        Raises:
            DualResError: If this host cannot preprocess.
        """
        raise DualResError(f"the {self.name} adapter cannot preprocess images, so it cannot be profiled.")

    def detections(self, raw: Any, batch: Batch) -> list[Detections]:
        """Boxes in pixels of the original images, after the host's own post-processing.

        Args:
            raw: what `predict` or `merge` returned.
            batch: the batch it belongs to, made by `collate`.

        Raises:
            DualResError: If this host gives none.
        """
        raise DualResError(f"the {self.name} adapter gives no detections, so it cannot be profiled.")

    def profile_pass(self, batch: Batch, with_losses: bool) -> tuple[list[Detections], Tensor | None]:
        """Detections and, if asked, the (B,) per-image losses. Hosts that get both from one forward override this."""
        found = self.detections(self.predict(batch), batch)
        return found, self.losses(batch) if with_losses else None

    def macs(self, shape: Shape, low: bool = False) -> float:
        """GMACs of one image, counted once for each shape.

        Args:
            shape: (height, width) of the network input.
            low: of the low network, where there are two.

        Raises:
            DualResError: If this host cannot count compute.
        """
        key = (shape, low)
        if key not in self._macs:
            self._macs[key] = self.count_macs(shape, low)
        return self._macs[key]

    def count_macs(self, shape: Shape, low: bool = False) -> float:
        """The count that `macs` remembers, by one forward pass. Hosts override this; arguments as there.

        Raises:
            DualResError: If this host cannot count compute.
        """
        raise DualResError(f"the {self.name} adapter cannot count compute.")

    # -- export --------------------------------------------------------------------------------------------

    def export_plan(self, size: int, scale: float, nms: bool = False) -> ExportPlan:
        """How the detector goes into an ONNX graph: what the runtime does before and after it.

        Args:
            size: the high size in pixels.
            scale: low / high ratio.
            nms: the host's NMS is wanted inside the graph.

        Raises:
            DualResError: If this host or this detector cannot be exported.
        """
        raise DualResError(f"the {self.name} adapter cannot export yet.")

    def export_branch(self, shape: Shape, low: bool = False, *, dynamic: bool = False, nms: bool = False) -> nn.Module:
        """A traceable module (1, 3, H, W) RGB in [0, 1] -> decoded boxes, in a layout of `common.card.Postprocess`.

        Args:
            shape: (height, width) that it will be traced with.
            low: of the low network, where there are two.
            dynamic: the trace must hold for other sizes too.
            nms: with the host's NMS inside.

        Raises:
            DualResError: If this host or this detector cannot be exported.
        """
        raise DualResError(f"the {self.name} adapter cannot export yet.")

    def export_static(self, shape: Shape, low: bool, nms: bool, folder: Path) -> Path | None:
        """The same at one fixed shape as an ONNX file in `folder`; None where the host has no exporter of its own."""
        return None

    def export_batch(self, image: np.ndarray, size: int, static: bool) -> Batch:
        """What an exported graph gets for a photo, as a batch of the host's, to compare them.

        Args:
            image: (H, W, 3) uint8 RGB.
            size: the high size in pixels.
            static: padded to the full (size, size), which fixed graphs take.
        """
        return self.collate([image], size)
