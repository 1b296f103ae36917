"""Milliseconds of the router and of the two passes, measured side by side on the user's own photos."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from dualres_plugin.common.errors import DualResError
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.router.network import ResolutionRouter


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
