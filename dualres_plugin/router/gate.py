"""A router at its operating point, and the count of what it decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from dualres_plugin.budget import ladder
from dualres_plugin.budget.controller import BudgetController, refuse_threshold
from dualres_plugin.budget.cost import Budget
from dualres_plugin.budget.pace import PacedController
from dualres_plugin.budget.share import routes_text, share_interval
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.types import Decision, RouterImages
from dualres_plugin.router.network import ResolutionRouter


class RouteLog:
    """Counts what was routed where. Hosts deep-copy their models; the copies keep writing to the same log.

    Attributes:
        routes: how many images took each route, by its name: "high", "low"; or "640", "512", …
        last: of the last batch.
    """

    def __init__(self) -> None:
        self.routes: Counter[str] = Counter()
        self.images = 0
        self.high = 0
        self.last: Decision | None = None

    def __call__(self, decision: Decision) -> None:
        """Count one batch."""
        self.images += len(decision.steps)
        self.high += int(decision.high.sum())
        self.routes.update(decision.of(i).route for i in range(len(decision.steps)))
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
        return routes_text(self.routes)


class Gate(nn.Module):
    """A router at its operating point: called with a batch's images it decides their routes.

    Args:
        router: scores the images.
        threshold: score above which an image goes high; of more than two sizes the scores between them, descending.
        controller: instead of thresholds: moves them from image to image to hold a rate, or a mean cost.

    Raises:
        DualResError: If both are given, or neither, or thresholds cannot be.
    """

    def __init__(
        self,
        router: ResolutionRouter,
        threshold: float | Sequence[float] | None = None,
        controller: BudgetController | None = None,
    ):
        super().__init__()
        if (threshold is None) == (controller is None):
            raise DualResError("a gate takes either a threshold, or a controller that moves it to hold a rate.")
        self.router = router
        self.controller = controller
        self._thresholds = () if threshold is None else ladder.check_thresholds(threshold)

    @property
    def quantiles(self) -> list[float]:
        """The calibration of the scores that decide; empty where there is none."""
        return self.router.quantiles

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The scores between the sizes for the next image, descending; one, of two sizes."""
        return self._thresholds if self.controller is None else self.controller.thresholds

    @property
    def threshold(self) -> float:
        """The score above which the next image goes to the largest size."""
        return self.thresholds[0]

    @property
    def expected_shares(self) -> tuple[float, ...] | None:
        """The share at each size, largest first, on images like those of the calibration; None without one."""
        if self.controller is not None:
            return self.controller.promised_shares
        return ladder.shares_of(self._thresholds, self.quantiles) if self.quantiles else None

    @property
    def expected_rate(self) -> float | None:
        """Of these the share at the largest size."""
        return None if self.expected_shares is None else self.expected_shares[0]

    def forward(self, images: RouterImages) -> Decision:
        """Route a batch; a controller counts its images and learns from their scores.

        Args:
            images: B images of a host, with their content boxes.

        Returns:
            The route of each; its thresholds are those that the first image met.
        """
        if self.controller is None:
            return self.router.decide(images, self.thresholds)
        self.controller.arrive(len(images.content))
        thresholds = self.thresholds
        scores = self.router.score(images)
        steps = torch.tensor([self.controller.step(float(s)) for s in scores], dtype=torch.long, device=scores.device)
        return Decision(scores, steps, thresholds)


def make_gate(
    router: ResolutionRouter,
    point: Budget,
    count: int = 2,
    hold_rate: bool = False,
    costs: Callable[[], Sequence[float]] | None = None,
) -> Gate:
    """The router at the operating point that a user asks for.

    Args:
        router: scores the images.
        point: shares or thresholds; nothing is as many images at each size.
        count: of sizes.
        hold_rate: keep the share at high, or the mean cost of more than two sizes, when the content drifts.
        costs: gives what one image costs at each size, largest first; asked where they are held.

    Raises:
        DualResError: If the point is impossible, thresholds are to be held, or the router has no calibration.
    """
    if point.fps is not None:
        return Gate(router, controller=PacedController(point.fps, router.quantiles, count))
    thresholds = point.fixed_thresholds(count)
    if hold_rate:
        refuse_threshold(thresholds)
        shares = point.wanted_shares(count)
        known = costs() if costs is not None and count > 2 else None
        return Gate(router, controller=BudgetController(shares, router.quantiles, costs=known))
    return Gate(router, router.thresholds_for(point.wanted_shares(count)) if thresholds is None else thresholds)


def given_point(
    target_high_rate: float | None,
    threshold: float | None,
    shares: Sequence[float] | None = None,
    thresholds: Sequence[float] | None = None,
    fps: float | None = None,
) -> Budget:
    """What a user of the Python API asks for: a threshold overrides a rate, as do thresholds shares.

    Args:
        target_high_rate, threshold: of two sizes.
        shares, thresholds: of several sizes.
        fps: instead of all of these.

    Raises:
        DualResError: If those of two sizes are given beside those of several, any beside `fps`, or they cannot be.
    """
    if fps is not None:
        others = [value for value in (target_high_rate, threshold, shares, thresholds) if value is not None]
        if others:
            raise DualResError(f"fps={fps:g} sets the shares by itself: leave out rates, shares and thresholds.")
        return Budget(fps=fps)
    two = target_high_rate if threshold is None else threshold
    several = shares if thresholds is None else thresholds
    if two is not None and several is not None:
        raise DualResError("give target_high_rate or threshold for two sizes, shares or thresholds for several.")
    if thresholds is not None:
        return Budget(thresholds=tuple(thresholds))
    if shares is not None:
        return Budget(shares=tuple(shares))
    return Budget(target_high_rate) if threshold is None else Budget(threshold=threshold)
