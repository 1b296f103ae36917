"""The routed network inside Ultralytics."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from dualres_plugin.adapters.ultralytics.batch import YoloBatch
from dualres_plugin.common.errors import DualResError
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.routing import Routing, detector_attribute

NOT_ROUTED = ("augment", "embed", "visualize", "compile")  # these run the network by other ways than one plain call
NO_BYPASS = (
    f"{', '.join(NOT_ROUTED[:-1])} and {NOT_ROUTED[-1]} are not available on a routed detector: "
    "use the plain YOLO for them."
)


class RoutedYolo(nn.Module):
    """The network that stands in for `YOLO.model`: routes, runs each resolution, merges.

    Args:
        adapter_class: of the host. The host deep-copies and fuses this module, so each call adapts the copy's own nets.
        detector: the network at high, and at low too unless `low_detector` is given.
        routing: how to route; the copies that the host makes tell the same `on_decision`.
        low_detector: the network at low, of a pair.

    Attributes:
        high_size: `imgsz` of the call that runs, its long side in pixels; None is the long side of the batch.
    """

    def __init__(
        self,
        adapter_class: type[HostAdapter[YoloBatch]],
        detector: nn.Module,
        routing: Routing,
        low_detector: nn.Module | None = None,
    ):
        super().__init__()
        self.adapter_class = adapter_class
        self.detector = detector
        self.low_detector = low_detector
        self.routing = routing
        self.high_size: int | None = None

    def forward(self, images: Tensor, augment: bool = False, embed: Any = None, **_: Any) -> Any:
        """Called by the host in place of the detector.

        Args:
            images: (B, 3, H, W) letterboxed RGB in [0, 1].
            augment: the host's test-time augmentation.
            embed: the host's request for features of some layers.
            **_: what else the host hands over.

        Returns:
            Decoded boxes in pixels of `images`: (B, 4 + classes, N), or (B, N, 6) of an end-to-end head.

        Raises:
            DualResError: If augmentation or features are asked for.
        """
        if augment or embed:
            raise DualResError(NO_BYPASS)
        adapter = self.adapter_class(self.detector, self.low_detector)
        batch = YoloBatch(images, (int(images.shape[2]), int(images.shape[3])), size=self.high_size)
        raw, _decision = self.routing.run(adapter, batch)
        return raw

    def fuse(self, verbose: bool = False) -> RoutedYolo:
        """Fold the batch norms of both networks, which the host does to its own copy before it predicts."""
        for net in self._networks():
            if hasattr(net, "fuse"):
                net.fuse(verbose=verbose)
        return self

    @property
    def end2end(self) -> bool:
        """Whether the head needs no NMS; the host sets it."""
        return bool(getattr(self.detector, "end2end", False))

    @end2end.setter
    def end2end(self, value: bool) -> None:
        for net in self._networks():
            net.end2end = value

    def _networks(self) -> list[Any]:
        return [net for net in (self.low_detector, self.detector) if net is not None]

    def __getattr__(self, name: str) -> Any:  # names, stride, yaml, task, args, … are the detector's
        return detector_attribute(self, name, super().__getattr__)
