"""Route, split, run each resolution once, merge; and what every routed host object keeps of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from dualres_plugin.common.resize import LowSize, check_scale
from dualres_plugin.common.types import Decision, as_index
from dualres_plugin.hosts.contract import Batch, Decide, HostAdapter


def run_routed(
    adapter: HostAdapter[Batch],
    batch: Batch,
    decide: Decide,
    scale: float | LowSize,
    on_decision: Callable[[Decision], None] | None = None,
) -> Any:
    """Route, split, run each resolution once, merge. All-high is exactly the plain host's call.

    Args:
        adapter: of the detector to run.
        batch: the host's batch at the high size.
        decide: gives the route of each image.
        scale: low / high ratio; a `LowSize` in pixels is that of the batch's own high size.
        on_decision: told of the decision, for results and statistics.

    Returns:
        The host's raw output, in the batch's order and in high-resolution coordinates.

    Raises:
        DualResError: If a low size in pixels is not smaller than the batch's high size.
    """
    ratio = scale.at(adapter.high_size(batch)) if isinstance(scale, LowSize) else scale
    decision = decide(adapter.router_images(batch))
    if on_decision:
        on_decision(decision)
    if bool(decision.high.all()):
        return adapter.predict(batch)
    high, low = as_index(decision.high), as_index(~decision.high)
    parts: list[tuple[Tensor, Any, Batch]] = []
    if len(high):
        sub = adapter.select(batch, high)
        parts.append((high, adapter.predict(sub), sub))
    sub = adapter.resize(batch, low, ratio)
    parts.append((low, adapter.predict(sub), sub))
    return adapter.merge(parts, batch)


class Routing(nn.Module):
    """How a host object with routing inside routes, and what it decided last.

    A module, because hosts move, halve and deep-copy their models: the router inside `decide` has to go along.

    Args:
        decide: gives the route of each image.
        scale: low / high ratio, inside (0, 1), or a `LowSize`.
        on_decision: told of each decision.

    Attributes:
        low: the low size as it was asked for.
        scale: low / high ratio at the detector's own high size.
        decision: of the last batch; None before the first.

    Raises:
        DualResError: If the scale is no ratio.
    """

    def __init__(self, decide: Decide, scale: float | LowSize, on_decision: Callable[[Decision], None] | None = None):
        super().__init__()
        self.decide = decide
        self.low = scale if isinstance(scale, LowSize) else LowSize(check_scale(scale))
        self.scale = self.low.ratio
        self.on_decision = on_decision
        self.decision: Decision | None = None

    def route(self, adapter: HostAdapter[Batch], batch: Batch) -> Decision:
        """Decide on the images of a high batch, without running the detector; remembered and told."""
        decision = self.decide(adapter.router_images(batch))
        self._remember(decision)
        return decision

    def run(self, adapter: HostAdapter[Batch], batch: Batch) -> tuple[Any, Decision]:
        """`run_routed` on a high batch: the host's raw output, and the decision behind it."""
        made: list[Decision] = []  # of this call: another thread's would overwrite `self.decision`
        raw = run_routed(adapter, batch, self.decide, self.low, made.append)
        self._remember(made[0])
        return raw, made[0]

    def _remember(self, decision: Decision) -> None:
        self.decision = decision
        if self.on_decision:
            self.on_decision(decision)


def detector_attribute(module: nn.Module, name: str, own: Callable[[str], Any]) -> Any:
    """The body of a routed module's `__getattr__`: what it has not itself is its `detector`'s.

    Args:
        module: with a child named `detector`, once it is built.
        name: of the attribute.
        own: the module's inherited `__getattr__`, which knows its parameters, buffers and children.

    Raises:
        AttributeError: If neither has it.
    """
    try:
        return own(name)
    except AttributeError:
        children = module.__dict__.get("_modules", {})
        if name == "detector" or "detector" not in children:  # copying and unpickling ask before `__init__` has run
            raise
        return getattr(children["detector"], name)
