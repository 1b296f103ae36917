"""From a user's budget to a gate, with milliseconds measured side by side on the user's own photos."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch

from dualres_plugin.budget.controller import refuse_threshold
from dualres_plugin.budget.cost import Budget, rate_for_budget
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.flops import milliseconds
from dualres_plugin.common.images.sources import iter_source
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.router.gate import Gate, make_gate
from dualres_plugin.router.network import ResolutionRouter

logger = logging.getLogger("dualres")
TIMED_IMAGES = 8  # of a source, for a budget in milliseconds
Measure = Callable[[HostAdapter[Any], ResolutionRouter, Sequence[np.ndarray], int, float], dict[str, float]]


def measure_ms(
    adapter: HostAdapter[Any],
    router: ResolutionRouter,
    images: Sequence[np.ndarray],
    size: int,
    scale: float,
    repeats: int = 3,
) -> dict[str, float]:
    """Median milliseconds per image, one image at a time, the router apart.

    The three are measured in turn on every photo, so that a machine that slows down slows all of them. Shrinking a
    batch counts as part of the low pass, decoding of detections as part of both; reading files counts nowhere.

    Args:
        adapter: of the detector.
        router: scores each photo.
        images: (H, W, 3) RGB uint8 photos, a few of each shape that matters.
        size: high size in pixels.
        scale: low / high ratio.
        repeats: rounds over the photos, after one that warms up.

    Returns:
        `t_router`, `t_low` and `t_high`.

    Raises:
        DualResError: If there is no image.
    """
    if not images:
        raise DualResError("measuring milliseconds needs at least one readable image.")
    batches = [adapter.collate([image], size) for image in images]
    one = torch.arange(1)

    def detect(batch: Any) -> None:
        adapter.detections(adapter.predict(batch), batch)

    steps: dict[str, Callable[[Any], object]] = {
        "t_router": lambda b: router.score(adapter.router_images(b)),
        "t_low": lambda b: detect(adapter.resize(b, one, scale)),
        "t_high": detect,
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_number in range(repeats + 1):
        for batch in batches:
            for name, step in steps.items():
                spent = milliseconds(partial(step, batch))
                if round_number:
                    times[name].append(spent)
    return {name: float(np.median(values)) for name, values in times.items()}


def choose_rate(
    router: ResolutionRouter,
    adapter: HostAdapter[Any],
    size: int,
    scale: float,
    source: Any,
    budget: Budget,
    measure: Measure = measure_ms,
) -> float:
    """The share at high of a budget; 50 % by default.

    A budget in GMACs is turned into a rate with the cost of the source's first readable image, one in milliseconds
    with times measured on its first few.

    Args:
        router, adapter: whose cost counts.
        size: high size in pixels.
        scale: low / high ratio.
        source: whatever `iter_source` reads.
        budget: any but a threshold.
        measure: gives the milliseconds.

    Returns:
        0 to 1.

    Raises:
        DualResError: If the budget is impossible, or the source holds no readable image where costs depend on one.
    """
    if budget.gmacs is not None:
        shape = adapter.input_shape(_first_images(source, 1)[0].shape[:2], size)
        low = adapter.macs(adapter.low_shape(shape, scale), low=True)
        return rate_for_budget(budget.gmacs, router.gmacs(), low, adapter.macs(shape))
    if budget.ms is not None:
        times = measure(adapter.for_inference(), router, _first_images(source, TIMED_IMAGES), size, scale)
        rate = rate_for_budget(budget.ms, times["t_router"], times["t_low"], times["t_high"], "ms")
        logger.info(
            "measured: router %.1f, low %.1f, high %.1f ms, so %.0f %% of the images may go high",
            *times.values(),
            100 * rate,
        )
        return rate
    return 0.5 if budget.target_high_rate is None else budget.target_high_rate


def choose_gate(
    router: ResolutionRouter,
    adapter: HostAdapter[Any],
    size: int,
    scale: float,
    source: Any,
    budget: Budget,
    hold: bool = False,
    measure: Measure = measure_ms,
) -> Gate:
    """The router at the operating point that a budget asks for.

    Args:
        router, adapter, size, scale, source, measure: as of `choose_rate`.
        budget: what may be spent; a threshold is taken as it is.
        hold: keep the rate when the content drifts.

    Raises:
        DualResError: As `choose_rate`; if a threshold is to be held; or if the router has no calibration.
    """
    if hold:
        refuse_threshold(budget.threshold)
    if budget.threshold is not None:
        return Gate(router, budget.threshold)
    rate = choose_rate(router, adapter, size, scale, source, budget, measure)
    return make_gate(router, rate, hold_rate=hold)


def _first_images(source: Any, count: int) -> list[np.ndarray]:
    images = [image.pixels for image in islice(iter_source(source, on_skip=lambda message: None), count)]
    if not images:
        raise DualResError(f"source '{source}' holds no readable image.")
    return images
