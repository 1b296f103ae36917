"""The routed network inside Ultralytics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from dualres_plugin.adapters.ultralytics.batch import YoloBatch
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.types import Decision
from dualres_plugin.hosts.contract import Decide, HostAdapter
from dualres_plugin.hosts.routing import run_routed


class RoutedYolo(nn.Module):
    """The network that stands in for `YOLO.model`: routes, runs each resolution, merges.

    Args:
        adapter_class: of the host. The host deep-copies and fuses this module, so each call adapts the copy's own nets.
        detector: the network at high, and at low too unless `low_detector` is given.
        decide: gives the route of each image.
        scale: low / high ratio.
        on_decision: told of each decision.
    """

    def __init__(
        self,
        adapter_class: type[HostAdapter[YoloBatch]],
        detector: nn.Module,
        decide: Decide,
        scale: float,
        on_decision: Callable[[Decision], None] | None = None,
        low_detector: nn.Module | None = None,
    ):
        super().__init__()
        self.adapter_class = adapter_class
        self.detector = detector
        self.low_detector = low_detector
        self.decide = decide
        self.scale = scale
        self.on_decision = on_decision
        self.decision: Decision | None = None

    def forward(self, images: Tensor, augment: bool = False, embed: Any = None, **_: Any) -> Any:
        if augment or embed:
            raise DualResError("augment and embed are not available on a routed detector: use the plain YOLO for them.")
        adapter = self.adapter_class(self.detector, self.low_detector)
        batch = YoloBatch(images, (int(images.shape[2]), int(images.shape[3])))
        return run_routed(adapter, batch, self.decide, self.scale, self._remember)

    def _remember(self, decision: Decision) -> None:
        self.decision = decision
        if self.on_decision:
            self.on_decision(decision)

    def fuse(self, verbose: bool = False) -> RoutedYolo:
        """The host folds batch norms of its own copy before it predicts."""
        for net in (self.detector, self.low_detector):
            if net is not None and hasattr(net, "fuse"):
                net.fuse(verbose=verbose)
        return self

    @property
    def end2end(self) -> bool:
        return bool(getattr(self.detector, "end2end", False))

    @end2end.setter
    def end2end(self, value: bool) -> None:
        for net in (self.detector, self.low_detector):
            if net is not None:
                net.end2end = value

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:  # names, stride, yaml, task, args, … are the detector's
            if name == "detector":
                raise
            return getattr(super().__getattr__("detector"), name)
