"""Does a detector run at both sizes? Asked once, before the first photo: later it would look like the photo's fault."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import nn

from dualres_plugin.common.errors import DualResError, one_line
from dualres_plugin.common.modes import modes_kept
from dualres_plugin.common.types import Decision, Detections, RouterImages
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.ladder import Ladder
from dualres_plugin.hosts.routing import Sizes, run_routed

SHAPE = (97, 161)  # height and width of the photo: odd, and the shape of no network's input
OTHER_SCALES = (0.6, 0.7, 0.8, 0.9)  # tried where a low size fails, for the advice


def probe_photo() -> np.ndarray:
    """(97, 161, 3) uint8 RGB: slopes of grey with a light box, the same every time."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    photo = np.stack([x, y, x + y], axis=2).astype(np.uint8)
    photo[30:60, 50:100] = 230
    return photo


def both_routes(adapter: HostAdapter[Any], photo: np.ndarray, size: int, scale: float) -> tuple[Detections, Detections]:
    """What a detector finds in one photo at either route. Its mode stays as it is.

    Args:
        adapter: of the detector.
        photo: (H, W, 3) uint8 RGB.
        size: high size in pixels.
        scale: low / high ratio.

    Returns:
        The detections at high and at low, in pixels of the photo.

    Raises:
        Exception: Whatever the host raises.
    """
    high, low = (_at_route(adapter, photo, size, scale, high) for high in (True, False))
    return high, low


def check_sizes(adapter: HostAdapter[Any], size: int, sizes: Sizes, again: bool = False) -> None:
    """Run a generated photo at every size. Sizes that have worked once are not tried again.

    Args:
        adapter: of the detector; one that cannot preprocess photos is not asked.
        size: high size in pixels.
        sizes: low / high ratio, or several sizes.
        again: try even so: something went wrong, and it may be the detector.

    Raises:
        DualResError: If the detector fails at one of them.
    """
    kind = type(adapter)
    if kind.collate is HostAdapter.collate or kind.detections is HostAdapter.detections:
        return
    left = [r for r in Ladder.of(sizes).ratios() if again or (size, r) not in adapter.working_sizes]
    for ratio in left:
        for high in (True, False) if ratio == left[0] else (False,):  # the high pass is the same beside any ratio
            try:
                _at_route(adapter, probe_photo(), size, ratio, high)
            except DualResError:
                raise
            except Exception as error:
                raise _refusal(adapter, size, ratio, high, error) from error
        adapter.working_sizes.add((size, ratio))


def _at_route(adapter: HostAdapter[Any], photo: np.ndarray, size: int, scale: float, high: bool) -> Detections:
    def decide(images: RouterImages) -> Decision:
        return Decision.of_two(torch.zeros(1), torch.tensor([high]), 0.0)

    with ExitStack() as stack:
        for detector in (adapter.detector, adapter.low_detector):
            if isinstance(detector, nn.Module):
                stack.enter_context(modes_kept(detector))
        batch = adapter.collate([photo], size)
        (found,) = adapter.detections(run_routed(adapter, batch, decide, scale), batch)
    return found


def _refusal(adapter: HostAdapter[Any], size: int, scale: float, high: bool, error: Exception) -> DualResError:
    low = round(size * scale)
    what = f"the high size, {size} px" if high else f"the low size, {low} px (high is {size} px)"
    detail = one_line(str(error).strip().split("\n")[0] or type(error).__name__)[:200]
    return DualResError(
        f"the {adapter.name} detector fails at {what}, on any photo: {detail}. "
        + ("Choose another high size." if high else _advice(adapter, size, scale))
    )


def _advice(adapter: HostAdapter[Any], size: int, scale: float) -> str:
    for other in OTHER_SCALES:
        if other > scale:
            try:
                _at_route(adapter, probe_photo(), size, other, high=False)
            except Exception:
                continue
            return f"Choose a larger low size: {round(size * other)} px works."
    return "Choose a larger low size, or another high size."
