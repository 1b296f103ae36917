"""The bench that stands in for effdet's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dualres_plugin.adapters.effdet.batch import EffdetBatch
from dualres_plugin.common.supervision import to_supervision
from dualres_plugin.common.types import Decision, ImageDecision
from dualres_plugin.hosts.contract import Decide, HostAdapter
from dualres_plugin.hosts.routing import run_routed


class RoutedRows(Tensor):
    """(100, 6) xyxy, score and class of one image, as the host gives them; `.dualres` is its route."""

    dualres: ImageDecision
    names: dict[int, str] | None
    __torch_function__ = torch._C._disabled_torch_function_impl  # what is computed from them are plain tensors

    @classmethod
    def of(cls, rows: Tensor, route: ImageDecision, names: dict[int, str] | None) -> RoutedRows:
        made = rows.as_subclass(cls)
        made.dualres, made.names = route, names
        return made

    def to_supervision(self) -> Any:
        """`supervision.Detections`, with the route of the image in `data`; the host's empty rows are left out."""
        rows = self.detach().cpu().numpy()
        rows = rows[rows[:, 4] > 0]
        return to_supervision(rows[:, :4], rows[:, 4], rows[:, 5], self.dualres, self.names)


class RoutedEffdet(nn.Module):
    """Called like a `DetBenchPredict`: a batch and `img_info` in, (B, 100, 6) out, with `.dualres` on it."""

    def __init__(
        self, adapter: HostAdapter[EffdetBatch], decide: Decide, scale: float, on_decision: Callable[[Decision], None]
    ):
        super().__init__()
        self.detector = adapter.detector.eval()
        self.adapter = adapter
        self.decide = decide
        self.scale = scale
        self.on_decision = on_decision

    def forward(self, x: Tensor, img_info: dict[str, Tensor] | None = None) -> Tensor:
        return self.run(self.adapter.host_batch(x, img_info))

    def run(self, batch: EffdetBatch) -> Tensor:
        """Route one of the adapter's own batches."""
        decisions: list[Decision] = []
        raw: Any = run_routed(self.adapter, batch, self.decide, self.scale, decisions.append)
        self.on_decision(decisions[0])
        raw.dualres = [decisions[0].of(i) for i in range(len(batch.images))]
        return raw  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:  # config, num_classes, anchors, … are the detector's
            if name == "detector":
                raise
            return getattr(super().__getattr__("detector"), name)
