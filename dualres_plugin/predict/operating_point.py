"""From a user's budget to a gate, with milliseconds measured side by side on the user's own photos."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch

from dualres_plugin.budget.cost import Budget, shares_for_budget
from dualres_plugin.budget.stream.stream import StreamOptions
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.flops import milliseconds
from dualres_plugin.common.images.sources import iter_source
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.ladder import Ladder
from dualres_plugin.hosts.sizes import size_costs
from dualres_plugin.router.gate import Gate, make_gate
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.router.stream_gate import make_stream_gate

logger = logging.getLogger("dualres")
TIMED_IMAGES = 8  # of a source, for a budget in milliseconds
Measure = Callable[[HostAdapter[Any], ResolutionRouter, Sequence[np.ndarray], int, float | Ladder], dict[str, float]]


def measure_ms(
    adapter: HostAdapter[Any],
    router: ResolutionRouter,
    images: Sequence[np.ndarray],
    size: int,
    sizes: float | Ladder,
    repeats: int = 3,
) -> dict[str, float]:
    """Median milliseconds per image, one image at a time, the router apart.

    All are measured in turn on every photo, so that a machine that slows down slows all of them. Shrinking a
    batch counts as part of the low pass, decoding of detections as part of every pass; reading files counts nowhere.

    Args:
        adapter: of the detector.
        router: scores each photo.
        images: (H, W, 3) RGB uint8 photos, a few of each shape that matters.
        size: high size in pixels.
        sizes: low / high ratio, or several sizes.
        repeats: rounds over the photos, after one that warms up.

    Returns:
        `t_router`, `t_low` and `t_high`, of the smallest and of the largest size; those between as `t_0.8`, by ratio.

    Raises:
        DualResError: If there is no image.
    """
    if not images:
        raise DualResError("measuring milliseconds needs at least one readable image.")
    batches = [adapter.collate([image], size) for image in images]
    one = torch.arange(1)

    def detect(batch: Any, ratio: float = 1.0) -> None:
        sized = batch if ratio == 1.0 else adapter.resize(batch, one, ratio)
        adapter.detections(adapter.predict(sized), sized)

    steps: dict[str, Callable[[Any], object]] = {"t_router": lambda b: router.score(adapter.router_images(b))}
    *between, smallest = Ladder.of(sizes).ratios()
    steps["t_low"] = partial(detect, ratio=smallest)
    steps |= {f"t_{ratio:g}": partial(detect, ratio=ratio) for ratio in reversed(between)}
    steps["t_high"] = detect
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_number in range(repeats + 1):
        for batch in batches:
            for name, step in steps.items():
                spent = milliseconds(partial(step, batch))
                if round_number:
                    times[name].append(spent)
    return {name: float(np.median(values)) for name, values in times.items()}


def choose_shares(
    router: ResolutionRouter,
    adapter: HostAdapter[Any],
    size: int,
    sizes: float | Ladder,
    source: Any,
    budget: Budget,
    measure: Measure = measure_ms,
) -> tuple[float, ...]:
    """The share of the images at each size that a budget allows; all alike by default.

    A budget in GMACs is turned into shares with the cost of the source's first readable image, one in milliseconds
    with times measured on its first few.

    Args:
        router, adapter: whose cost counts.
        size: high size in pixels.
        sizes: low / high ratio, or several sizes.
        source: whatever `iter_source` reads.
        budget: any but thresholds.
        measure: gives the milliseconds.

    Returns:
        The shares, largest size first.

    Raises:
        DualResError: If the budget is impossible, or the source holds no readable image where costs depend on one.
    """
    ladder = Ladder.of(sizes)
    if budget.gmacs is not None:
        height, width = _first_images(source, 1)[0].shape[:2]
        return shares_for_budget(budget.gmacs, router.gmacs(), size_costs(adapter, size, ladder, (height, width)))
    if budget.ms is not None:
        spent, *passes = measure(
            adapter.for_inference(), router, _first_images(source, TIMED_IMAGES), size, sizes
        ).values()
        shares = shares_for_budget(budget.ms, spent, passes[::-1], "ms")
        logger.info(
            "measured: router %.1f, %s ms, so %s",
            spent,
            ", ".join(f"{name} {ms:.1f}" for name, ms in zip(_names(ladder), passes)),
            _said(shares),
        )
        return shares
    return budget.wanted_shares(len(ladder))


def _names(ladder: Ladder) -> list[str]:
    """Of the sizes, smallest first."""
    return ["low", *(f"x {ratio:g}" for ratio in ladder.ratios()[-2::-1]), "high"]


def _said(shares: Sequence[float]) -> str:
    if len(shares) == 2:
        return f"{100 * shares[0]:.0f} % of the images may go high"
    return f"{' / '.join(f'{share:.0%}' for share in shares)} of the images go to the sizes, largest first"


def choose_gate(
    router: ResolutionRouter,
    adapter: HostAdapter[Any],
    size: int,
    sizes: float | Ladder,
    source: Any,
    budget: Budget,
    hold: bool = False,
    measure: Measure = measure_ms,
    stream: StreamOptions | None = None,
) -> Gate:
    """The router at the operating point that a budget asks for.

    Args:
        router, adapter, size, sizes, source, measure: as of `choose_shares`.
        budget: what may be spent; thresholds are taken as they are.
        hold: keep the share at high, or the mean GMACs of several sizes, when the content drifts.
        stream: read the last frame, or skip, where the source is a video.

    Raises:
        DualResError: As `choose_shares`; if thresholds are to be held; or if the router has no calibration.
    """
    ladder = Ladder.of(sizes)
    if budget.fps is None and budget.fixed_thresholds(len(ladder)) is None:
        budget = Budget(shares=choose_shares(router, adapter, size, ladder, source, budget, measure))
    setup = budget, len(ladder), hold, partial(size_costs, adapter, size, ladder)
    return make_gate(router, *setup) if stream is None else make_stream_gate(router, stream, *setup)


def _first_images(source: Any, count: int) -> list[np.ndarray]:
    images = [image.pixels for image in islice(iter_source(source, on_skip=lambda message: None), count)]
    if not images:
        raise DualResError(f"source '{source}' holds no readable image.")
    return images
