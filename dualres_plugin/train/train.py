"""Training a router on a ready profile: minutes on a CPU, no detector pass.

What is learned is the objective's matter (`objectives`), how the weights follow is that of `gradient` for a router
that is trained whole, and of `head` for one whose backbone is frozen.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.paths import base_names
from dualres_plugin.common.files.shipped import SHIPPED
from dualres_plugin.profile.overlap import image_sketch
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train.config import TrainConfig
from dualres_plugin.train.gradient import GradientTraining, Log
from dualres_plugin.train.linear.head import fit_head
from dualres_plugin.train.objectives import Objective, make_objective
from dualres_plugin.train.start import new_router
from dualres_plugin.train.thumbnails import score_rows
from dualres_plugin.train.training_set import TrainingSet, resolve_gain, training_set

logger = logging.getLogger("dualres")
FEW = 20  # images: fewer cannot show what goes with a gain, nor calibrate a threshold


def train_router(
    profiles: Profile | Sequence[Profile],
    config: TrainConfig | None = None,
    *,
    router: ResolutionRouter | None = None,
    progress: bool = True,
    log: Log | None = None,
) -> ResolutionRouter:
    """Train and calibrate a router.

    Args:
        profiles: one profile, or several over the same images (other detectors, other size pairs): the gains of equal
            views are averaged, which takes out each detector's own noise and makes the router universal.
        config: settings.
        router: start from this one instead of building it from `config`.
        progress: show a progress bar.
        log: called with the numbers of each epoch, or of each penalty that a ridge regression tried, numbered by
            "epoch"; `train_log.tensorboard_log` makes one for TensorBoard.

    Returns:
        The router, calibrated on held-out images, with `info` filled in.

    Raises:
        DualResError: If the profiles do not fit together or lack what the objective needs.
    """
    config = config or TrainConfig()
    config.check()
    chosen = [profiles] if isinstance(profiles, Profile) else list(profiles)
    objective = make_objective(config.objective, config)
    objective.check(chosen)
    torch.manual_seed(config.seed)
    router = router or new_router(config)
    side = int(chosen[0].meta["thumbnail_size"])
    if router.config.input_size > side:
        raise DualResError(f"input_size {router.config.input_size} is larger than the profile's {side} px thumbnails.")
    data = training_set(chosen, config.gain, router.config.input_size)
    if _trains_backbone(config, objective, router):
        fit_rows, held = split_rows(data, objective, config)
        best = GradientTraining(router, data, objective, config).run(fit_rows, held, progress, log)
        _calibrate(router, data, held if len(held) else fit_rows)
        calibrated = f"{int(data.original[held].sum())} held-out images" if len(held) else "the training images"
    else:
        best = fit_head(router, data, objective, config, progress, log)
        calibrated = f"{int(data.original.sum())} images, by scores of folds that did not see them"
    router.info = {
        "trained_on": [_origin(profile) for profile in chosen],
        "gain": objective.target(resolve_gain(config.gain, chosen)),
        "rows": len(data),
        "images": len(np.unique(data.group)),
        "calibrated_on": calibrated,
        "metrics": {"holdout_spearman": best.get("spearman"), "best_epoch": best.get("epoch")},
        "config": {
            **asdict(config),
            "backbone": base_names(config.backbone),  # the folder is shared: no path of this machine
            "weights": config.weights and base_names(config.weights),
        },
        "warnings": _warnings(data, best.get("spearman")),
    }
    for text in router.info["warnings"]:
        logger.warning(text)
    return router.eval()


def _warnings(data: TrainingSet, correlation: float | None) -> list[str]:
    """Why a router cannot have learned much, where it cannot; `correlation` is that of score and gain, held out."""
    found = []
    images = len(np.unique(data.group))
    if images < FEW:
        found.append(
            f"the router was trained on {images} image{'s' if images > 1 else ''} only: its scores mean little."
        )
    gain = data.gain[torch.from_numpy(data.gain_known)]
    if len(gain) and float(gain.max()) == float(gain.min()):
        found.append("all training images have the same gain, so there was nothing to learn: its scores mean nothing.")
    if not found and correlation is not None and correlation < 0:
        found.append(
            f"scores and gains of held-out images are correlated the wrong way ({correlation:+.2f}): the router does "
            "worse than chance there. Use more images or another gain, or take the default router."
        )
    return found


def _trains_backbone(config: TrainConfig, objective: Objective, router: ResolutionRouter) -> bool:
    if config.train_backbone is not None:
        return config.train_backbone
    comes_trained = bool(router.config.description) or config.weights is not None or config.backbone in SHIPPED
    return objective.needs_gradients or not comes_trained


def split_rows(data: TrainingSet, objective: Objective, config: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
    """Divide the rows that teach something; all views of an image stay on one side.

    Args:
        data: n rows.
        objective: decides which rows teach something.
        config: `holdout`, the share of the images to keep back, and the seed of the choice.

    Returns:
        Row numbers to learn from, and row numbers to hold out.

    Raises:
        DualResError: If nothing is left to learn from.
    """
    rng = np.random.default_rng(config.seed)
    groups = rng.permutation(np.unique(data.group))
    held_groups = groups[: round(len(groups) * config.holdout)]
    held = np.isin(data.group, held_groups)
    usable = objective.usable(data)
    fit_rows = np.flatnonzero(~held & usable)
    if not len(fit_rows):
        raise DualResError("no image of the profile has a gain to learn from.")
    return fit_rows, np.flatnonzero(held & usable)


def _calibrate(router: ResolutionRouter, data: TrainingSet, rows: np.ndarray) -> None:
    """Score quantiles on held-out original images (augmented views are not what a user will send)."""
    originals = rows[data.original[rows]]
    chosen = originals if len(originals) >= 20 else rows
    router.calibrate(score_rows(router, data.thumbs, chosen))


def _origin(profile: Profile) -> dict[str, Any]:
    """What `router.info` says of a profile."""
    known = ("host", "detector", "dataset", "high", "scale", "views", "labelled")
    return {
        **{key: profile.meta[key] for key in known},
        "dataset_fingerprint": profile.meta.get("dataset_fingerprint", ""),
        "images": image_sketch(profile),
    }
