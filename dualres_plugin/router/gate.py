"""A router at its operating point, and the count of what it decided."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dualres_plugin.budget.controller import BudgetController
from dualres_plugin.common.types import Decision, RouterImages
from dualres_plugin.router.network import ResolutionRouter


class RouteLog:
    """Counts what was routed where. Hosts deep-copy their models; the copies keep writing to the same log."""

    def __init__(self) -> None:
        self.images = 0
        self.high = 0
        self.last: Decision | None = None

    def __call__(self, decision: Decision) -> None:
        self.images += len(decision.high)
        self.high += int(decision.high.sum())
        self.last = decision

    def __deepcopy__(self, memo: dict[int, Any]) -> RouteLog:
        return self

    @property
    def rate(self) -> float:
        """Share of the images so far that went high."""
        return self.high / self.images if self.images else 0.0


class Gate(nn.Module):
    """A router with its threshold: called with a batch's images it decides their routes.

    Args:
        controller: moves the threshold from image to image to hold a rate; None keeps it fixed.
    """

    def __init__(self, router: ResolutionRouter, threshold: float, controller: BudgetController | None = None):
        super().__init__()
        self.router = router
        self.threshold = float(threshold)
        self.controller = controller

    def forward(self, images: RouterImages) -> Decision:
        if self.controller is None:
            return self.router.decide(images, self.threshold)
        threshold = self.controller.threshold
        scores = self.router.score(images)
        high = torch.tensor([self.controller.route(float(s)) for s in scores], dtype=torch.bool)
        return Decision(scores, high, threshold)
