"""A router at its operating point, and the count of what it decided."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dualres_plugin.budget.calibration import check_threshold
from dualres_plugin.budget.controller import BudgetController, refuse_threshold
from dualres_plugin.budget.share import share_interval, share_text
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.types import Decision, RouterImages
from dualres_plugin.router.network import ResolutionRouter


class RouteLog:
    """Counts what was routed where. Hosts deep-copy their models; the copies keep writing to the same log.

    Attributes:
        images, high: how many were routed, and how many of them to the high resolution.
        last: of the last batch.
    """

    def __init__(self) -> None:
        self.images = 0
        self.high = 0
        self.last: Decision | None = None

    def __call__(self, decision: Decision) -> None:
        """Count one batch."""
        self.images += len(decision.high)
        self.high += int(decision.high.sum())
        self.last = decision

    def __deepcopy__(self, memo: dict[int, Any]) -> RouteLog:
        return self

    @property
    def rate(self) -> float:
        """Share of the images so far that went high."""
        return self.high / self.images if self.images else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of that share, see `budget.share`."""
        return share_interval(self.high, self.images)

    def __repr__(self) -> str:
        return share_text(self.high, self.images)


class Gate(nn.Module):
    """A router at its operating point: called with a batch's images it decides their routes.

    Args:
        router: scores the images.
        threshold: score above which an image goes high.
        controller: instead of a threshold: moves it from image to image to hold a rate.

    Raises:
        DualResError: If both are given, or neither, or the threshold is NaN.
    """

    def __init__(
        self, router: ResolutionRouter, threshold: float | None = None, controller: BudgetController | None = None
    ):
        super().__init__()
        if (threshold is None) == (controller is None):
            raise DualResError("a gate takes either a threshold, or a controller that moves it to hold a rate.")
        self.router = router
        self.controller = controller
        self._threshold = None if threshold is None else check_threshold(threshold)

    @property
    def threshold(self) -> float:
        """The score above which the next image goes high."""
        if self.controller is not None:
            return self.controller.threshold
        assert self._threshold is not None
        return self._threshold

    @property
    def expected_rate(self) -> float | None:
        """The share at high on images like those of the calibration; None without one."""
        if self.controller is not None:
            return self.controller.target
        return self.router.rate_of(self.threshold) if self.router.quantiles else None

    def forward(self, images: RouterImages) -> Decision:
        """Route a batch; a controller counts its images and learns from their scores.

        Args:
            images: B images of a host, with their content boxes.

        Returns:
            The route of each; its threshold is the one that the first image met.
        """
        threshold = self.threshold
        if self.controller is None:
            return self.router.decide(images, threshold)
        scores = self.router.score(images)
        high = torch.tensor([self.controller.route(float(s)) for s in scores], dtype=torch.bool, device=scores.device)
        return Decision(scores, high, threshold)


def make_gate(
    router: ResolutionRouter, target_high_rate: float, threshold: float | None = None, hold_rate: bool = False
) -> Gate:
    """The router at the operating point that a user asks for.

    Args:
        router: scores the images.
        target_high_rate: wanted share of images at high, 0 to 1.
        threshold: instead: score above which an image goes high.
        hold_rate: keep the share when the content drifts.

    Raises:
        DualResError: If the rate is impossible, a threshold is to be held, or the router has no calibration.
    """
    if hold_rate:
        refuse_threshold(threshold)
        return Gate(router, controller=BudgetController(target_high_rate, router.quantiles))
    return Gate(router, router.threshold_for(target_high_rate) if threshold is None else threshold)
