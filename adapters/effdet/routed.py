"""The bench that stands in for effdet's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dualres_plugin.adapters.effdet.batch import EffdetBatch
from dualres_plugin.common.supervision import to_supervision
from dualres_plugin.common.types import ImageDecision
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.routing import Routing, detector_attribute

ImgInfo = dict[str, Tensor] | None  # the host's `img_scale` (B,) and `img_size` (B, 2)


class RoutedRows(Tensor):
    """(100, 6) xyxy, score and class of one image, as the host gives them.

    Attributes:
        dualres: route, score and threshold.
        names: label -> class name, where the adapter knows them.
    """

    dualres: ImageDecision
    names: dict[int, str] | None
    # What is computed from them are plain tensors. Torch types it as a method; its own subclasses assign this function.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def of(cls, rows: Tensor, route: ImageDecision, names: dict[int, str] | None) -> RoutedRows:
        """The same rows, (100, 6), with their route."""
        made = rows.as_subclass(cls)
        made.dualres, made.names = route, names
        return made

    def to_supervision(self) -> Any:
        """`supervision.Detections`, with the route of the image in `data`; the host's empty rows are left out.

        Raises:
            DualResError: If supervision is not installed.
        """
        rows = self.detach().cpu().numpy()
        rows = rows[rows[:, 4] > 0]
        return to_supervision(rows[:, :4], rows[:, 4], rows[:, 5], self.dualres, self.names)


class RoutedEffdet(nn.Module):
    """Called like a `DetBenchPredict`, whose weights it shares.

    Args:
        adapter: of the detector.
        routing: how to route.
        to_batch: makes the adapter's batch of what the host's bench is called with.
    """

    def __init__(
        self,
        adapter: HostAdapter[EffdetBatch],
        routing: Routing,
        to_batch: Callable[[Tensor, ImgInfo], EffdetBatch],
    ):
        super().__init__()
        self.detector = adapter.detector.eval()
        self.adapter = adapter
        self.routing = routing
        self.to_batch = to_batch

    def forward(self, x: Tensor, img_info: ImgInfo = None) -> Tensor:
        """The host's own call.

        Args:
            x: (B, 3, H, W) normalised.
            img_info: the host's `img_scale` (B,) and `img_size` (B, 2).

        Returns:
            (B, 100, 6) xyxy, score and class, with the routes of the B images as `.dualres`.
        """
        return self.run(self.to_batch(x, img_info))

    def run(self, batch: EffdetBatch) -> Tensor:
        """Route one of the adapter's own batches; returns as `forward`."""
        raw, decision = self.routing.run(self.adapter, batch)
        raw.dualres = [decision.of(i) for i in range(len(batch.images))]
        rows: Tensor = raw
        return rows

    def __getattr__(self, name: str) -> Any:  # config, num_classes, anchors, … are the detector's
        return detector_attribute(self, name, super().__getattr__)
