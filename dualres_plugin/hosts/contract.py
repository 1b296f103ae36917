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

Batch = TypeVar("Batch")
# Chooses the resolution of a batch: the router with its threshold, or a test that forces one.
Decide = Callable[[RouterImages], Decision]


class HostAdapter(ABC, Generic[Batch]):
    """Runs one host's detector at two sizes.

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

    @classmethod
    @abstractmethod
    def accepts(cls, detector: Any) -> bool:
        """Can this adapter drive the object? Must not import the host when it is not installed.

        Args:
            detector: anything.
        """

    @classmethod
    def from_spec(cls, spec: str, **options: str) -> HostAdapter[Any]:
        """Build the adapter from the command line's `name:spec,key=value,…`.

        Args:
            spec: the part before the first comma.
            **options: the rest.

        Raises:
            DualResError: If the words name no detector of this host.
        """
        raise DualResError(f"the {cls.name} adapter cannot be named on the command line; use it from Python.")

    # -- the five that every host must give --------------------------------------------------------------

    @abstractmethod
    def router_images(self, batch: Batch) -> RouterImages:
        """What the router may see: padding never reaches it.

        Args:
            batch: of B images, at the high size.

        Returns:
            RGB in [0, 1] and the content box of each image.
        """

    @abstractmethod
    def resize(self, batch: Batch, index: Tensor, scale: float) -> Batch:
        """Some images of a high batch at the low size, `low_shape`; metadata is updated, nothing mutated.

        Args:
            batch: at the high size.
            index: (n,) int64, which images.
            scale: low / high ratio.
        """

    @abstractmethod
    def predict(self, batch: Batch) -> Any:
        """Run the detector: no gradients, the host in eval.

        Args:
            batch: at either size.

        Returns:
            The host's raw output.
        """

    @abstractmethod
    def losses(self, batch: Batch) -> Tensor:
        """The detector's own training loss of each image.

        Args:
            batch: of B images with targets, at either size.

        Returns:
            (B,) float, detached.
        """

    @abstractmethod
    def select(self, batch: Batch, index: Tensor) -> Batch:
        """Some images of a batch, at the size they have.

        Args:
            batch: at either size.
            index: (n,) int64, which images.
        """

    # -- routing -------------------------------------------------------------------------------------------

    def merge(self, parts: Sequence[tuple[Tensor, Any, Batch]], batch: Batch) -> Any:
        """Put partial outputs back in order, coordinates as if all images had run at high.

        Args:
            parts: (indices into `batch`, raw output, the sub-batch it came from) per resolution.
            batch: the whole high batch.

        Returns:
            The host's raw output for the whole batch.
        """
        raise DualResError(f"the {self.name} adapter cannot merge batches with mixed routes: use batch size 1.")

    def wrap(self, decide: Decide, scale: float, on_decision: Callable[[Decision], None]) -> Any:
        """The host's own object with routing inside; the given detector stays as it is.

        Args:
            decide: gives the route of each image of a batch.
            scale: low / high ratio.
            on_decision: told of each decision.
        """
        raise DualResError(f"the {self.name} adapter has no wrapped host object; use profile and predict.")

    def predict_source(self, wrapped: Any, source: Any, **kwargs: Any) -> Any:
        """Run the wrapped host on what its own users pass as a source.

        Args:
            wrapped: what `wrap` gave.
            source: image, folder, glob, video, array, or a list; what else the host takes.
            **kwargs: of the host's own predict.

        Returns:
            Results in the host's own types.
        """
        raise DualResError(f"the {self.name} adapter has no predict of its own: call the wrapper on a batch.")

    sized_methods: ClassVar[tuple[str, ...]] = ()  # methods of the wrapped host that take `size_options`

    def size_options(self, size: int) -> dict[str, Any]:
        """Keyword arguments that make the host's own methods run at the high size.

        Args:
            size: high size in pixels.
        """
        return {}

    def for_inference(self) -> HostAdapter[Batch]:
        """An adapter of the network as the host itself runs it, e.g. with batch norms folded."""
        return self

    def to(self, device: str) -> HostAdapter[Batch]:
        """Move the detector, or both of a pair.

        Args:
            device: as torch names it.

        Returns:
            This adapter.
        """
        for detector in (self.detector, self.low_detector):
            if detector is not None:
                detector.to(device)
        return self

    # -- the detector's own features as a router --------------------------------------------------------------

    def router_backbone(self) -> tuple[list[nn.Module], dict[str, Any]]:
        """The detector's first blocks as a router's body: its frozen features may then be the detector's own.

        Returns:
            Copies of the blocks in forward order, and a JSON description that rebuilds them.
        """
        raise DualResError(f"the {self.name} adapter does not offer the detector's backbone: name another backbone.")

    @classmethod
    def build_backbone(cls, description: dict[str, Any]) -> list[nn.Module]:
        """The blocks of `router_backbone` with random weights.

        Args:
            description: what it gave beside them.
        """
        raise DualResError(f"the {cls.name} adapter does not offer the detector's backbone.")

    # -- profiling -----------------------------------------------------------------------------------------

    def input_shape(self, image_size: tuple[int, int], size: int) -> tuple[int, int]:
        """The network input of an image: images that agree share a batch.

        Args:
            image_size: (height, width) of the image in pixels.
            size: high size in pixels.

        Returns:
            (height, width) in pixels.
        """
        return size, size

    def low_shape(self, shape: tuple[int, int], scale: float) -> tuple[int, int]:
        """The low network input that belongs to a high one.

        Args:
            shape: (height, width) at high.
            scale: low / high ratio.

        Returns:
            (height, width) in pixels.
        """
        return low_size(shape, scale, self.stride)

    def collate(self, images: Sequence[np.ndarray], size: int, targets: Sequence[Targets] | None = None) -> Batch:
        """The host's own preprocessing of photos into one high batch.

        Args:
            images: (H, W, 3) RGB uint8 each.
            size: high size in pixels.
            targets: ground truth in original pixels; None when there are no labels.
        """
        raise DualResError(f"the {self.name} adapter cannot preprocess images, so it cannot be profiled.")

    def detections(self, raw: Any, batch: Batch) -> list[Detections]:
        """Boxes after the host's own post-processing.

        Args:
            raw: what `predict` or `merge` gave.
            batch: that it belongs to.

        Returns:
            One per image, in pixels of the original image.
        """
        raise DualResError(f"the {self.name} adapter gives no detections, so it cannot be profiled.")

    def profile_pass(self, batch: Batch, with_losses: bool) -> tuple[list[Detections], Tensor | None]:
        """Detections and losses of a batch. Hosts that get both from one forward override this.

        Args:
            batch: at either size.
            with_losses: are losses wanted? They need targets.

        Returns:
            Detections per image, and (B,) losses or None.
        """
        found = self.detections(self.predict(batch), batch)
        return found, self.losses(batch) if with_losses else None

    def macs(self, shape: tuple[int, int], low: bool = False) -> float:
        """Compute of one image.

        Args:
            shape: (height, width) of the network input.
            low: of the low detector, in a pair.

        Returns:
            GMACs.
        """
        raise DualResError(f"the {self.name} adapter cannot count compute.")

    # -- export --------------------------------------------------------------------------------------------

    def export_plan(self, size: int, scale: float, nms: bool = False) -> ExportPlan:
        """How the detector goes into an ONNX graph: what the runtime does before and after it.

        Args:
            size: high size in pixels.
            scale: low / high ratio.
            nms: the host's NMS is wanted inside the graph.
        """
        raise DualResError(f"the {self.name} adapter cannot export yet.")

    def export_branch(
        self, shape: tuple[int, int], low: bool = False, *, dynamic: bool = False, nms: bool = False
    ) -> nn.Module:
        """A traceable module (1, 3, H, W) RGB in [0, 1] -> decoded boxes, in a layout of `card.Postprocess`.

        Args:
            shape: (height, width) that it will be traced with.
            low: of the low detector, in a pair.
            dynamic: the trace must hold for other sizes too.
            nms: with the host's NMS in it.
        """
        raise DualResError(f"the {self.name} adapter cannot export yet.")

    def export_static(self, shape: tuple[int, int], low: bool, nms: bool, folder: Path) -> Path | None:
        """The detector at one fixed shape by the host's own exporter.

        Args:
            shape: (height, width) of the input.
            low: of the low detector, in a pair.
            nms: with the host's NMS in it.
            folder: where the file goes.

        Returns:
            The ONNX file; None where the host has no exporter, so that `export_branch` is traced.
        """
        return None

    def export_batch(self, image: np.ndarray, size: int, static: bool) -> Batch:
        """What an exported graph gets for a photo, as a batch of the host's, to compare them.

        Args:
            image: (H, W, 3) RGB uint8.
            size: high size in pixels.
            static: padded to the full (size, size), which fixed graphs take.
        """
        return self.collate([image], size)
