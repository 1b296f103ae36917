"""Plugging a router into another detector: nothing is trained, thresholds are read off new images."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.decode import UnreadableImageError, read_image
from dualres_plugin.common.images.sources import list_images
from dualres_plugin.common.resize import check_scale
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.router.network import ResolutionRouter

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

    Args:
        router: its calibration and `info` change in place.
        adapter: of the other detector.
        images: folder of photos like those to come.
        high: high size in pixels.
        scale: low / high ratio.
        detector_name: goes into `info`.
        progress: show a bar.

    Returns:
        The number of images used, and the mean `low_gmacs` and `high_gmacs` of the detector on them.

    Raises:
        DualResError: If there is no readable image.
    """
    check_scale(scale)
    scores: list[float] = []
    costs: list[tuple[float, float]] = []
    last = ""
    for path in tqdm(list_images(images), desc="calibrate", unit="img", disable=not progress, dynamic_ncols=True):
        try:
            pixels, batch = _collated(adapter, path, high)
        except UnreadableImageError as error:
            last = str(error)
            logger.warning("left out: %s", last)
            continue
        scores.append(float(router.score(adapter.router_images(batch))[0]))
        shape = adapter.input_shape(pixels.shape[:2], high)
        costs.append((adapter.macs(adapter.low_shape(shape, scale), low=True), adapter.macs(shape)))
    if not scores:
        raise DualResError(f"no usable image in '{images}' to calibrate on; the last problem: {last}")
    router.calibrate(scores)
    low_gmacs, high_gmacs = np.mean(costs, axis=0)
    cost = {"low_gmacs": float(low_gmacs), "high_gmacs": float(high_gmacs)}
    router.info = {
        **router.info,
        "swapped_to": {"detector": detector_name, "host": adapter.name, "high": high, "scale": scale, **cost},
        "calibrated_on": f"{len(scores)} images of {Path(images).name}",
    }
    return len(scores), cost


def _collated(adapter: HostAdapter[Any], path: Path, high: int) -> tuple[np.ndarray, Any]:
    """Pixels and batch of one image; what the host rejects counts as unreadable, as in `build_profile`."""
    pixels = read_image(path)
    try:
        return pixels, adapter.collate([pixels], high)
    except DualResError:
        raise
    except Exception as error:
        raise UnreadableImageError(f"'{path.name}': the {adapter.name} host rejects it ({error})") from None
