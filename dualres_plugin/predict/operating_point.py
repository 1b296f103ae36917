"""From a user's budget to a threshold, with milliseconds measured side by side on the user's own photos."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch

from dualres_plugin.budget.cost import Budget, rate_for_budget
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images import iter_source
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.router.network import ResolutionRouter

logger = logging.getLogger("dualres")


def measure_ms(
    adapter: HostAdapter[Any],
    router: ResolutionRouter,
    images: Sequence[np.ndarray],
    size: int,
    scale: float,
    repeats: int = 3,
) -> dict[str, float]:
    """Median milliseconds per image, one image at a time: `t_router`, `t_low` and `t_high`, the router apart.

    The three are measured in turn on every photo, so that a machine that slows down slows all of them. Shrinking a
    batch counts as part of the low pass, decoding of detections as part of both; reading files counts nowhere.

    Args:
        images: RGB uint8 (H, W, 3) photos, a few of each shape that matters.
        repeats: rounds over the photos, after one that warms up.

    Raises:
        DualResError: If there is no image.
    """
    if not images:
        raise DualResError("measuring milliseconds needs at least one readable image.")
    batches = [adapter.collate([image], size) for image in images]
    one = torch.arange(1)
    steps: dict[str, Callable[[Any], object]] = {
        "t_router": lambda b: router.score(adapter.router_images(b)),
        "t_low": lambda b: _pass(adapter, adapter.resize(b, one, scale)),
        "t_high": lambda b: _pass(adapter, b),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_number in range(repeats + 1):
        for batch in batches:
            for name, step in steps.items():
                start = time.perf_counter()
                step(batch)
                if round_number:
                    times[name].append(1000 * (time.perf_counter() - start))
    return {name: float(np.median(values)) for name, values in times.items()}


def _pass(adapter: HostAdapter[Any], batch: Any) -> None:
    adapter.detections(adapter.predict(batch), batch)
    if torch.cuda.is_available():
        torch.cuda.synchronize()


TIMED_IMAGES = 8


def choose_threshold(
    router: ResolutionRouter, adapter: HostAdapter[Any], size: int, scale: float, source: Any, budget: Budget
) -> float:
    """The threshold of a budget; 50 % at high by default.

    A budget in GMACs is turned into a rate with the cost of the source's first readable image, one in milliseconds
    with times measured on its first few.
    """
    if budget.threshold is not None:
        return budget.threshold
    rate = 0.5 if budget.target_high_rate is None else budget.target_high_rate
    if budget.gmacs is not None:
        shape = adapter.input_shape(_first_images(source, 1)[0].shape[:2], size)
        low = adapter.macs(adapter.low_shape(shape, scale), low=True)
        rate = rate_for_budget(budget.gmacs, router.gmacs(), low, adapter.macs(shape))
    if budget.ms is not None:
        times = measure_ms(adapter.for_inference(), router, _first_images(source, TIMED_IMAGES), size, scale)
        rate = rate_for_budget(budget.ms, times["t_router"], times["t_low"], times["t_high"], "ms")
        logger.info(
            "measured: router %.1f, low %.1f, high %.1f ms, so %.0f %% of the images may go high",
            *times.values(),
            100 * rate,
        )
    return router.threshold_for(rate)


def _first_images(source: Any, count: int) -> list[np.ndarray]:
    images = [image.pixels for image in islice(iter_source(source, on_skip=lambda message: None), count)]
    if not images:
        raise DualResError(f"source '{source}' holds no readable image.")
    return images
