"""What a config may say in its `dualres` key, and what it is told when it says something else."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dualres_plugin.budget.calibration import check_rate
from dualres_plugin.common.errors import DualResError
from dualres_plugin.router.network import ResolutionRouter

SETTINGS = ("router", "low", "target_high_rate", "threshold", "gamma", "temperature", "norm_eval", "seed")


def unknown_keys_message(unknown: Iterable[str]) -> str:
    """What to say about keys that a `dualres` dict does not have."""
    hints = {key: difflib.get_close_matches(str(key), SETTINGS, 1) for key in unknown}
    named = [f"'{key}'" + (f" (did you mean '{hint[0]}'?)" if hint else "") for key, hint in hints.items()]
    return f"unknown key {', '.join(named)} in the dualres settings; known keys: {', '.join(SETTINGS)}."


def check_settings(low: Any, target_high_rate: Any) -> None:
    """Refuse sizes and rates that cannot be.

    Args:
        low: low / high ratio.
        target_high_rate: wanted share of images at high.

    Raises:
        DualResError: If `low` is no ratio or `target_high_rate` is outside [0, 1].
    """
    if not isinstance(low, (int, float)) or not 0 < low < 1:
        raise DualResError(f"low={low!r}: in an mmdet config the low size is a ratio between 0 and 1, such as 0.5.")
    check_rate(target_high_rate)


def build_router(router: Any) -> ResolutionRouter:
    """A router from a folder, from a dict of its settings, or as it is.

    Raises:
        DualResError: If there is none, or it does not load.
    """
    if isinstance(router, ResolutionRouter):
        return router
    if isinstance(router, (str, Path)):
        return ResolutionRouter.from_pretrained(router)
    if isinstance(router, dict):
        settings = dict(router)
        settings.pop("type", None)
        return ResolutionRouter(**settings)
    raise DualResError(
        "the dualres settings need a router: the folder of a trained one (router='runs/router'), or the "
        "settings of one to train here (router=dict(backbone='mobilenet_v3_large', input_size=128))."
    )
