"""Whether a detector's boxes follow an image that was resized inside the model: tried when a config is built."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dualres_plugin.adapters.mmdet.batch import blank_sample, resized_sample
from dualres_plugin.adapters.mmdet.patches import every_box, frozen
from dualres_plugin.common.errors import DualResError
from dualres_plugin.hosts.contract import Shape

logger = logging.getLogger("dualres")
SIDES = (128, 256)  # pixels: DINO and DDQ want more positions than their 900 queries


def check_boxes_follow(detector: Any) -> None:
    """Refuse a detector that would leave the boxes of its low route in low pixels.

    Args:
        detector: a built one, with any weights.

    Raises:
        DualResError: If its boxes do not follow, or it needs an operation that is not there.
    """
    if boxes_follow(detector) is False:
        raise DualResError(
            f"the boxes of the mmdet detector {type(detector).__name__} do not follow an image that is resized inside "
            "the model: its head does not use scale_factor, so the low route would put boxes at the wrong place. "
            "Route another family."
        )


def boxes_follow(detector: Any) -> bool | None:
    """Predict one low input twice: told that it is half of a photo, and that it is the whole photo.

    The network sees the same pixels, so the boxes have to be the same at twice the size, whatever the weights are.

    Args:
        detector: a built one, on any device.

    Returns:
        Whether they are; None where there are no finite boxes to tell by, or the detector does not run on noise.
    """
    for side in SIDES:
        try:
            follow = _same_boxes(*_boxes(detector, side))
        except DualResError:
            raise
        except Exception as error:  # a family that wants more than pixels: its own error comes where it is used
            logger.debug("the mmdet %s was not tried on %d px of noise: %s", type(detector).__name__, side, error)
            continue
        if follow is not None:
            return follow
    return None


def _same_boxes(expected: Tensor, found: Tensor) -> bool | None:
    """Whether boxes of the whole photo, (n, 4), are half of those of the photo that was resized, (m, 4)."""
    count = min(len(expected), len(found))
    expected, found = 2 * expected[:count], found[:count]
    usable = torch.isfinite(expected).all(dim=1) & expected.any(dim=1)  # random weights overflow
    expected, found = expected[usable], found[usable]
    if not len(expected):
        return None
    close = torch.isclose(found, expected, rtol=1e-3, atol=0.1).all(dim=1)
    return bool(close.float().mean() > 0.9)  # a few may pass the NMS in one frame only, by rounding


def _sample(shape: Shape) -> Any:
    sample = blank_sample(shape)
    sample.set_metainfo({"border": np.array([0, shape[0], 0, shape[1]], np.float32)})
    return sample


def _boxes(detector: Any, side: int) -> tuple[Tensor, Tensor]:
    """(n, 4) and (m, 4) xyxy of the same noise as a whole photo and as half of one, best first."""
    low, high = (side, side), (2 * side, 2 * side)
    whole, half = _sample(low), resized_sample(_sample(high), low, high, False)
    noise = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 50 + 100
    noise = noise.to(next(detector.parameters()).device)
    found = []
    for sample in (whole, half):
        with frozen(detector), every_box(detector), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found.append(detector.predict(noise, [sample], rescale=True)[0].pred_instances.bboxes.cpu())
    return found[0], found[1]
