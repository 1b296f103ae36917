"""The module that stands in for the detector, and the host's result dict with its route."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from dualres_plugin.adapters.torchvision.batch import TorchvisionBatch
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.supervision import to_supervision
from dualres_plugin.common.types import ImageDecision
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.routing import Routing, detector_attribute


class RoutedDict(dict[str, Tensor]):
    """The host's result dict, with the route of the image beside it.

    Attributes:
        dualres: route, score and threshold.
        names: label -> class name, where the adapter knows them.
    """

    dualres: ImageDecision
    names: dict[int, str] | None = None

    def to_supervision(self) -> Any:
        """`supervision.Detections`, with the route of the image in `data`.

        Raises:
            DualResError: If supervision is not installed.
        """
        boxes, scores, labels = (self[key].detach().cpu().numpy() for key in ("boxes", "scores", "labels"))
        masks = self["masks"][:, 0].detach().cpu().numpy() > 0.5 if "masks" in self else None
        return to_supervision(boxes, scores, labels, self.dualres, self.names, masks)


class RoutedTorchvision(nn.Module):
    """Called like the detector in eval, whose weights it shares; the detector's own mode stays as it is.

    Args:
        adapter: of the detector.
        routing: how to route.
        size: the high short side in pixels; None is the detector's own.
    """

    def __init__(self, adapter: HostAdapter[TorchvisionBatch], routing: Routing, size: int | None = None):
        super().__init__()
        self.detector: nn.Module = adapter.detector
        self.adapter = adapter
        self.routing = routing
        self.size = size
        self.training = False

    def forward(self, images: Sequence[Tensor], targets: Any = None) -> list[RoutedDict]:
        """The host's own call.

        Args:
            images: B tensors (3, H_i, W_i), RGB in [0, 1].
            targets: not looked at, as by the host in eval.

        Returns:
            The host's B dicts, boxes in pixels of the images.

        Raises:
            DualResError: In training mode.
        """
        if self.training:
            raise DualResError("a routed torchvision detector only predicts: call .eval(), and train the plain one.")
        return self.run(images, self.size)

    def run(self, images: Sequence[Tensor], size: int | None) -> list[RoutedDict]:
        """As `forward`, at a high size of this call alone; None is the detector's own."""
        raw, decision = self.routing.run(self.adapter, TorchvisionBatch(list(images), size))
        return [self._noted(found, decision.of(i)) for i, found in enumerate(raw)]

    def stream(self, images: Iterable[Tensor], size: int | None, batch: int) -> Iterator[RoutedDict]:
        """As `run`, of any number of images in passes of one route and shape, `batch` images each."""
        high = size or self.adapter.default_size
        alone = (
            (TorchvisionBatch([image], size), self.adapter.input_shape((image.shape[1], image.shape[2]), high))
            for image in images
        )
        for found, _, route in self.routing.stream(self.adapter, alone, batch):
            yield self._noted(found, route)

    def _noted(self, found: dict[str, Tensor], route: ImageDecision) -> RoutedDict:
        result = RoutedDict(found)
        result.dualres, result.names = route, self.adapter.class_names
        return result

    def train(self, mode: bool = True) -> RoutedTorchvision:
        """Of this object alone: detector and router stay as they are."""
        self.training = mode
        return self

    def __getattr__(self, name: str) -> Any:  # transform, backbone, roi_heads, … are the detector's
        return detector_attribute(self, name, super().__getattr__)
