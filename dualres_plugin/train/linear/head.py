"""A linear head on frozen features, fitted in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.resize import to_unit
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train.config import TrainConfig
from dualres_plugin.train.gradient import Log
from dualres_plugin.train.linear.features import Features
from dualres_plugin.train.linear.ridge import Ridge, fit_ridge
from dualres_plugin.train.objectives import Objective
from dualres_plugin.train.training_set import TrainingSet

AT_ONCE = 64  # thumbnails per pass


def fit_head(
    router: ResolutionRouter,
    data: TrainingSet,
    objective: Objective,
    config: TrainConfig,
    progress: bool,
    log: Log | None,
) -> dict[str, float]:
    """Frozen backbone: features once, then ridge regression of the ranked gain; calibrated out of fold.

    Args:
        router: gets a new head, in place.
        data: what to learn from.
        objective: what to learn.
        config: `view_weight`, `flip` and `seed`.
        progress: show a progress bar.
        log: called with each penalty that was tried.

    Returns:
        "epoch" 0, "spearman", the cross-validated rank correlation with the gain, and "ridge_strength".

    Raises:
        DualResError: For an objective or a head that needs gradients, or if there is nothing to learn from.
    """
    if objective.needs_gradients or router.config.hidden:
        raise DualResError("a frozen backbone takes objective 'rank' and a linear head: set train_backbone: true.")
    known = objective.usable(data)
    if not known.any():
        raise DualResError("no image of the profile has a gain to learn from.")
    weights = np.where(data.original, 1.0, config.view_weight)
    if not weights[known].any():
        raise DualResError("view_weight: 0 leaves nothing to learn from: this profile has no labelled originals.")
    features = Features(_features(router, data, config, progress))
    mean, spread = features.moments(data.original if data.original.any() else np.ones(len(data), dtype=bool))
    deviation = spread + 1e-4
    originals = data.original[known]
    enough = originals.sum() >= 20
    fitted = fit_ridge(
        features.standardised(mean, deviation, known),
        data.gain.double().numpy()[known],
        data.group[known],
        weights=weights[known],
        judged=originals if enough else None,  # users send whole photos: strengths are compared on these
        seed=config.seed,
    )
    for number, (strength, quality) in enumerate(fitted.tried):
        if log:
            log({"epoch": number, "log10_ridge_strength": math.log10(strength), "spearman": quality})
    _set_head(router, fitted, mean, deviation)
    router.calibrate(fitted.out_of_fold[originals] if enough else fitted.out_of_fold)
    return {"epoch": 0, "spearman": fitted.spearman, "ridge_strength": fitted.strength}


@torch.no_grad()
def _set_head(router: ResolutionRouter, fitted: Ridge, mean: np.ndarray, deviation: np.ndarray) -> None:
    """Write a map of standardised features (x - mean) / deviation as one of plain features."""
    linear = router.head[0]
    assert isinstance(linear, nn.Linear)
    raw = fitted.weights / deviation
    linear.weight.copy_(torch.from_numpy(raw)[None])
    linear.bias.fill_(fitted.bias - float(raw @ mean))


@torch.no_grad()
def _features(router: ResolutionRouter, data: TrainingSet, config: TrainConfig, progress: bool) -> Iterator[np.ndarray]:
    """(k, C) float32 features of all thumbnails, some at a time; with `flip`, the mean of each and its mirror image."""
    router.eval()
    count = -(-len(data) // AT_ONCE)
    for part in tqdm(data.thumbs.parts(AT_ONCE), "features", count, disable=not progress, dynamic_ncols=True):
        x = to_unit(part)
        y = router.features(x)
        yield ((y + router.features(x.flip(3))) / 2 if config.flip else y).numpy()
