"""A linear head on frozen features, fitted in closed form."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.resize import to_unit
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train.config import TrainConfig
from dualres_plugin.train.gradient import Log
from dualres_plugin.train.ridge import fit_ridge
from dualres_plugin.train.training_set import TrainingSet


def fit_head(
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
        x = to_unit(part)
        y = router.features(x)
        parts.append(((y + router.features(x.flip(3))) / 2 if config.flip else y).double().numpy())
    return np.concatenate(parts)
