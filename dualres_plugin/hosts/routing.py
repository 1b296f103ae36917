"""Route, split, run each resolution once, merge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from dualres_plugin.common.types import Decision, as_index
from dualres_plugin.hosts.contract import Batch, Decide, HostAdapter


def run_routed(
    adapter: HostAdapter[Batch],
    batch: Batch,
    decide: Decide,
    scale: float,
    on_decision: Callable[[Decision], None] | None = None,
) -> Any:
    """Route, split, run each resolution once, merge. All-high is exactly the plain host's call.

    Args:
        adapter: of the detector to run.
        batch: the host's batch at the high size.
        decide: gives the route of each image.
        scale: low / high ratio.
        on_decision: told of the decision, for results and statistics.

    Returns:
        The host's raw output, in the batch's order and in high-resolution coordinates.
    """
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
    sub = adapter.resize(batch, low, scale)
    parts.append((low, adapter.predict(sub), sub))
    return adapter.merge(parts, batch)
