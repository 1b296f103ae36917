"""What a config may say in its `dualres` key, and what it is told when it says something else."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dualres_plugin.adapters.mmdet.streams import stream_settings
from dualres_plugin.budget.calibration import check_rate
from dualres_plugin.budget.controller import refuse_threshold
from dualres_plugin.budget.cost import Budget
from dualres_plugin.common.errors import DualResError
from dualres_plugin.router.gate import given_point
from dualres_plugin.router.network import ResolutionRouter


@dataclass(frozen=True)
class Settings:
    """What a `dualres` key may hold.

    Attributes:
        router: folder of a trained router, `default`, a dict of `ResolutionRouter` settings, or a built router.
        low: low size as a ratio of the high size, inside (0, 1).
        sizes: instead, any number of sizes, largest first: [640, 512, 448], or ratios of the first, [1, 0.8, 0.7]. The
            first is the scale of the test pipeline, or of another pipeline that runs, whatever stands there. The
            router is trained between the first and the last.
        target_high_rate: wanted share of images at high; in training the θ of Eq. 5.
        threshold: score above which an image goes high; overrides `target_high_rate`.
        shares: of `sizes`, the wanted share of images at each; None is as many at each.
        thresholds: of `sizes`, the scores between them, descending.
        stream: of frames of a video or camera, dict(memory=True, skip=3, hold_rate=True): see `streams.StreamSettings`.
        gamma: γ of Eq. 5, the weight of the rate penalty.
        temperature: (first, last) temperature of the Gumbel gate.
        norm_eval: keep the router's batch norms at their stored statistics, as its backbone was pretrained
            (False: batch statistics, for a router from random weights, large batches and many thousand steps).
        seed: of the gate's noise.

    Raises:
        DualResError: If `low` is no ratio, `target_high_rate` is outside [0, 1], or what is for two sizes stands beside
            what is for several.
    """

    router: Any = None
    low: float = 0.5
    sizes: Sequence[float] | None = None
    target_high_rate: float = 0.5
    threshold: float | None = None
    shares: Sequence[float] | None = None
    thresholds: Sequence[float] | None = None
    stream: Mapping[str, Any] | None = None
    gamma: float = 1.0
    temperature: Sequence[float] = (1.0, 1.0)
    norm_eval: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.low, (int, float)) or not 0 < self.low < 1:
            raise DualResError(
                f"low={self.low!r}: in an mmdet config the low size is a ratio between 0 and 1, such as 0.5."
            )
        check_rate(self.target_high_rate)
        of_two = {"low": self.low != 0.5, "threshold": self.threshold is not None}
        of_several = {"shares": self.shares is not None, "thresholds": self.thresholds is not None}
        if self.sizes is None and any(of_several.values()):
            raise DualResError("shares and thresholds belong to sizes: give sizes=[640, 512, 448], largest first.")
        if self.sizes is not None and any(of_two.values()):
            raise DualResError("give either sizes with shares or thresholds, or low with threshold.")
        held = stream_settings(self.stream)
        if held is not None and held.hold_rate:
            refuse_threshold(self.threshold if self.thresholds is None else self.thresholds)

    def point(self) -> Budget:
        """What is asked for of several sizes."""
        return given_point(None, None, self.shares, self.thresholds)

    def wanted(self) -> Budget:
        """What is asked for, of two sizes or of several."""
        held = stream_settings(self.stream)
        if held is not None and held.fps is not None:
            return given_point(None, self.threshold, self.shares, self.thresholds, held.fps)
        return given_point(self.target_high_rate, self.threshold) if self.sizes is None else self.point()


SETTINGS = tuple(field.name for field in fields(Settings))


def settings_of(given: Mapping[str, Any]) -> Settings:
    """Checked settings.

    Args:
        given: by name; what is left out has its default.

    Raises:
        DualResError: If a key is unknown, or a value cannot be.
    """
    unknown = [key for key in given if key not in SETTINGS]
    if unknown:
        raise DualResError(unknown_keys_message(unknown))
    return Settings(**given)


def unknown_keys_message(unknown: Iterable[str]) -> str:
    """What to say about keys that a `dualres` dict does not have."""
    hints = {key: difflib.get_close_matches(str(key), SETTINGS, 1) for key in unknown}
    named = [f"'{key}'" + (f" (did you mean '{hint[0]}'?)" if hint else "") for key, hint in hints.items()]
    return f"unknown key {', '.join(named)} in the dualres settings; known keys: {', '.join(SETTINGS)}."


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
