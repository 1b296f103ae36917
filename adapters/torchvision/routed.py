"""The module that stands in for the detector, and the host's result dict with its route."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from dualres_plugin.adapters.torchvision.batch import TorchvisionBatch
from dualres_plugin.common.supervision import to_supervision
from dualres_plugin.common.types import Decision, ImageDecision
from dualres_plugin.hosts.contract import Decide, HostAdapter
from dualres_plugin.hosts.routing import run_routed


class RoutedDict(dict[str, Tensor]):
    """The host's result dict, with `.dualres` beside it."""

    dualres: ImageDecision
    names: dict[int, str] | None = None

    def to_supervision(self) -> Any:
        """`supervision.Detections`, with the route of the image in `data`."""
        boxes, scores, labels = (self[key].detach().cpu().numpy() for key in ("boxes", "scores", "labels"))
        masks = self["masks"][:, 0].detach().cpu().numpy() > 0.5 if "masks" in self else None
        return to_supervision(boxes, scores, labels, self.dualres, self.names, masks)


class RoutedTorchvision(nn.Module):
    """Called like the detector: a list of (3, H, W) tensors in, a list of dicts out."""

    def __init__(
        self,
        adapter: HostAdapter[TorchvisionBatch],
        decide: Decide,
        scale: float,
        on_decision: Callable[[Decision], None],
    ):
        super().__init__()
        self.detector = adapter.detector.eval()
        self.adapter = adapter
        self.decide = decide
        self.scale = scale
        self.on_decision = on_decision
        self.size: int | None = None

    def forward(self, images: Sequence[Tensor]) -> list[RoutedDict]:
        batch = TorchvisionBatch(list(images), self.size)
        decisions: list[Decision] = []
        raw = run_routed(self.adapter, batch, self.decide, self.scale, decisions.append)
        self.on_decision(decisions[0])
        results = [RoutedDict(found) for found in raw]
        for i, result in enumerate(results):
            result.dualres, result.names = decisions[0].of(i), self.adapter.class_names
        return results
