"""Training a router on a ready profile: minutes on a CPU, no detector pass.

Two objectives. `rank` (the default) learns the order of the images by their gain, so that one router serves every
budget. `paper` is the recipe of the paper (Eq. 3-5), which trains one operating point.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from dualres_plugin.common.errors import DualResError
from dualres_plugin.hosts.registry import load_detector
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter, RouterConfig, own_backbone_router
from dualres_plugin.train.config import TrainConfig
from dualres_plugin.train.gradient import GradientTraining, Log, pairwise_loss
from dualres_plugin.train.ridge import fit_ridge
from dualres_plugin.train.training_set import TrainingSet, resolve_gain, training_set

__all__ = ["pairwise_loss", "train_router"]
logger = logging.getLogger("dualres")


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
    torch.manual_seed(config.seed)
    router = router or _new_router(config)
    side = int(chosen[0].meta["thumbnail_size"])
    if router.config.input_size > side:
        raise DualResError(f"input_size {router.config.input_size} is larger than the profile's {side} px thumbnails.")
    data = training_set(chosen, config, router.config.input_size)
    if _trains_backbone(config, router):
        fit_rows, held = _split(data, config)
        best = GradientTraining(router, data, config).run(fit_rows, held, progress, log)
        _calibrate(router, data, held if len(held) else fit_rows)
        calibrated = f"{int(data.original[held].sum())} held-out images" if len(held) else "the training images"
    else:
        best = _fit_head(router, data, config, progress, log)
        calibrated = f"{int(data.original.sum())} images, by scores of folds that did not see them"
    router.info = _info(chosen, config, data, calibrated, best)
    return router.eval()


def _new_router(config: TrainConfig) -> ResolutionRouter:
    if config.backbone.startswith("detector:"):
        return own_backbone_router(load_detector(config.backbone.removeprefix("detector:")), config.input_size or 128)
    if config.backbone == "default":
        return default_body_router(config.input_size)
    architecture = RouterConfig(config.backbone, config.input_size or 128, list(config.pool), config.hidden)
    return ResolutionRouter(architecture, weights=config.weights)


def default_body_router(input_size: int | None = None) -> ResolutionRouter:
    """The shipped router's body with a new head; `input_size` other than its own is allowed."""
    shipped = ResolutionRouter.from_pretrained("default")
    router = ResolutionRouter(replace(shipped.config, input_size=input_size or shipped.config.input_size))
    router.backbone.load_state_dict(shipped.backbone.state_dict())
    return router


def _trains_backbone(config: TrainConfig, router: ResolutionRouter) -> bool:
    if config.train_backbone is not None:
        return config.train_backbone
    comes_trained = bool(router.config.description) or config.weights is not None or config.backbone == "default"
    return config.objective == "paper" or not comes_trained


def _fit_head(
    router: ResolutionRouter, data: TrainingSet, config: TrainConfig, progress: bool, log: Log | None
) -> dict[str, float]:
    """Frozen backbone: features once, then ridge regression of the ranked gain; calibrated out of fold.

    Raises:
        DualResError: For the paper's objective or a hidden layer, which need gradients.
    """
    if config.objective == "paper" or router.config.hidden:
        raise DualResError("a frozen backbone takes objective 'rank' and a linear head: set train_backbone: true.")
    known = ~torch.isnan(data.gain).numpy()
    if not known.any():
        raise DualResError("no image of the profile has a gain to learn from.")
    features = _features(router, data, config, progress)
    weights = np.where(data.original, 1.0, config.view_weight)
    if not weights[known].any():
        raise DualResError("view_weight: 0 leaves nothing to learn from: this profile has no labelled originals.")
    plain = features[data.original] if data.original.any() else features
    mean, deviation = plain.mean(axis=0), plain.std(axis=0) + 1e-4
    standard = (features - mean) / deviation
    target = data.gain.double().numpy()
    # Users send whole photos: strengths are compared on these where there are enough.
    judged = data.original[known] if data.original[known].sum() >= 20 else None
    fitted = fit_ridge(
        standard[known], target[known], data.group[known], weights=weights[known], judged=judged, seed=config.seed
    )
    for number, (strength, quality) in enumerate(fitted.tried):
        if log:
            log({"epoch": number, "log10_ridge_strength": math.log10(strength), "spearman": quality})
    linear = router.head[0]
    assert isinstance(linear, nn.Linear)
    raw = fitted.weights / deviation
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(raw)[None])
        linear.bias.fill_(fitted.bias - float(raw @ mean))
    originals = data.original[known]
    router.calibrate(fitted.out_of_fold[originals] if originals.sum() >= 20 else fitted.out_of_fold)
    return {"epoch": 0, "spearman": fitted.spearman, "ridge_strength": fitted.strength}


@torch.no_grad()
def _features(router: ResolutionRouter, data: TrainingSet, config: TrainConfig, progress: bool) -> np.ndarray:
    """(n, C) features of all thumbnails; with `flip`, the mean of each and its mirror image."""
    router.eval()
    parts = []
    for part in tqdm(data.thumbs.split(64), desc="features", disable=not progress, dynamic_ncols=True):
        x = part.float() / 255
        y = router.features(x)
        parts.append(((y + router.features(x.flip(3))) / 2 if config.flip else y).double().numpy())
    return np.concatenate(parts)


def _split(data: TrainingSet, config: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers to learn from and to hold out; all views of an image stay on one side."""
    rng = np.random.default_rng(config.seed)
    groups = rng.permutation(np.unique(data.group))
    held_groups = groups[: round(len(groups) * config.holdout)]
    held = np.isin(data.group, held_groups)
    needed = data.loss_high + data.loss_low if config.objective == "paper" else data.gain
    usable = ~torch.isnan(needed).numpy()
    fit_rows = np.flatnonzero(~held & usable)
    if not len(fit_rows):
        raise DualResError("no image of the profile has a gain to learn from.")
    return fit_rows, np.flatnonzero(held & usable)


def _calibrate(router: ResolutionRouter, data: TrainingSet, rows: np.ndarray) -> None:
    """Score quantiles on held-out original images (augmented views are not what a user will send)."""
    originals = rows[data.original[rows]]
    chosen = originals if len(originals) >= 20 else rows
    with torch.no_grad():
        scores = torch.cat([router(data.thumbs[i].float() / 255) for i in torch.from_numpy(chosen).split(128)])
    router.calibrate(scores)


def _info(
    profiles: Sequence[Profile], config: TrainConfig, data: TrainingSet, calibrated: str, best: dict[str, float]
) -> dict[str, Any]:
    return {
        "trained_on": [
            {k: p.meta[k] for k in ("host", "detector", "dataset", "high", "scale", "views", "labelled")}
            for p in profiles
        ],
        "gain": resolve_gain(config.gain, profiles) if config.objective == "rank" else "loss (Eq. 5)",
        "rows": len(data),
        "images": len(np.unique(data.group)),
        "calibrated_on": calibrated,
        "metrics": {"holdout_spearman": best.get("spearman"), "best_epoch": best.get("epoch")},
        "config": asdict(config),
    }
