"""Plugging a router into another detector: nothing is trained, thresholds are read off new images."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dualres_plugin.adapter import HostAdapter
from dualres_plugin.errors import DualResError
from dualres_plugin.images import UnreadableImageError, list_images, read_image
from dualres_plugin.resize import check_scale
from dualres_plugin.router import ResolutionRouter

logger = logging.getLogger("dualres")


def recalibrate(
    router: ResolutionRouter,
    adapter: HostAdapter[Any],
    images: Path | str,
    high: int,
    scale: float,
    detector_name: str = "",
    progress: bool = True,
) -> tuple[int, dict[str, float]]:
    """Calibrate a router on unlabelled images as another detector's host presents them.

    A score depends on the picture alone, so the weights stay; the distribution of scores, and with it the threshold
    of a wanted rate, depends on the images and a little on the host's resampling.

    Returns:
        The number of images used, and the mean `low_gmacs` and `high_gmacs` of the detector on them.

    Raises:
        DualResError: If there is no readable image.
    """
    check_scale(scale)
    scores: list[float] = []
    costs: list[tuple[float, float]] = []
    for path in tqdm(list_images(images), desc="calibrate", unit="img", disable=not progress, dynamic_ncols=True):
        try:
            pixels = read_image(path)
            batch = adapter.collate([pixels], high)
        except UnreadableImageError as error:
            logger.warning("left out: %s", error)
            continue
        scores.append(float(router.score(adapter.router_images(batch))[0]))
        shape = adapter.input_shape(pixels.shape[:2], high)
        costs.append((adapter.macs(adapter.low_shape(shape, scale), low=True), adapter.macs(shape)))
    if not scores:
        raise DualResError(f"no readable image in '{images}' to calibrate on.")
    router.calibrate(scores)
    low_gmacs, high_gmacs = np.mean(costs, axis=0)
    cost = {"low_gmacs": float(low_gmacs), "high_gmacs": float(high_gmacs)}
    router.info = {
        **router.info,
        "swapped_to": {"detector": detector_name, "host": adapter.name, "high": high, "scale": scale, **cost},
        "calibrated_on": f"{len(scores)} images of {Path(images).name}",
    }
    return len(scores), cost
