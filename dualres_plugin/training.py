"""Training a router on a ready profile: minutes on a CPU, no detector pass.

Two objectives. `rank` (the default) learns the order of the images by their gain, so that one router serves every
budget. `paper` is the recipe of the paper (Eq. 3-5), which trains one operating point.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from dualres_plugin.adapter import load_detector
from dualres_plugin.errors import DualResError
from dualres_plugin.gating import dualres_loss, gumbel_gate, temperature_at
from dualres_plugin.profile import Profile
from dualres_plugin.ridge import fit_ridge
from dualres_plugin.router import ResolutionRouter, RouterConfig, own_backbone_router
from dualres_plugin.train_config import TrainConfig
from dualres_plugin.training_set import TrainingSet, resolve_gain, spearman, training_set

logger = logging.getLogger("dualres")


def train_router(
    profiles: Profile | Sequence[Profile],
    config: TrainConfig | None = None,
    *,
    router: ResolutionRouter | None = None,
    progress: bool = True,
    log: Callable[[dict[str, float]], None] | None = None,
) -> ResolutionRouter:
    """Train and calibrate a router.

    Args:
        profiles: one profile, or several over the same images (other detectors, other size pairs): the gains of equal
            views are averaged, which takes out each detector's own noise and makes the router universal.
        config: settings.
        router: start from this one instead of building it from `config`.
        progress: show a progress bar.
        log: called with the numbers of each epoch.

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
        best = _Trainer(router, data, config).run(fit_rows, held, progress, log)
        _calibrate(router, data, held if len(held) else fit_rows)
        calibrated = f"{int(data.original[held].sum())} held-out images" if len(held) else "the training images"
    else:
        best = _fit_head(router, data, config, progress)
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


def _fit_head(router: ResolutionRouter, data: TrainingSet, config: TrainConfig, progress: bool) -> dict[str, float]:
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


class _Trainer:
    """One training, readable from top to bottom in `run`."""

    def __init__(self, router: ResolutionRouter, data: TrainingSet, config: TrainConfig):
        self.router = router
        self.data = data
        self.config = config
        self.random = torch.Generator().manual_seed(config.seed)
        self.optimizer = _optimizer(list(router.parameters()), config)

    def run(
        self, rows: np.ndarray, held: np.ndarray, progress: bool, log: Callable[[dict[str, float]], None] | None
    ) -> dict[str, float]:
        config = self.config
        per_epoch = max(1, len(rows) // config.batch)
        steps = config.epochs * per_epoch
        schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda s: _lr_factor(s, steps, config.warmup))
        best: dict[str, float] = {"epoch": -1, "spearman": -2.0}
        kept: dict[str, Tensor] | None = None
        bar = tqdm(range(config.epochs), desc="train", unit="epoch", disable=not progress, dynamic_ncols=True)
        for epoch in bar:
            self.router.train()
            shuffled = torch.from_numpy(rows)[torch.randperm(len(rows), generator=self.random)]
            total = 0.0
            for step in range(per_epoch):
                batch = shuffled[step * config.batch : (step + 1) * config.batch]
                tau = temperature_at(epoch * per_epoch + step, steps, config.temperature, config.temperature_end)
                loss = self._loss(batch, tau)
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(self.router.parameters(), 5.0)
                self.optimizer.step()
                schedule.step()
                total += float(loss.detach())
            numbers = {"epoch": epoch, "loss": total / per_epoch, **self._check(held)}
            if log:
                log(numbers)
            bar.set_postfix({k: f"{v:.3f}" for k, v in numbers.items() if k != "epoch"})
            # The paper's recipe takes its last epoch; ranking keeps the epoch that ranks held-out images best.
            if len(held) and config.objective == "rank" and numbers["spearman"] > best["spearman"]:
                best = numbers
                kept = {k: v.clone() for k, v in self.router.state_dict().items()}
            elif kept is None:  # too few held-out images to tell, or the paper's recipe
                best = numbers
        if kept is not None:
            self.router.load_state_dict(kept)
        self.router.eval()
        return best

    def _loss(self, batch: Tensor, tau: float) -> Tensor:
        scores = self._scores(batch)
        if self.config.objective == "paper":
            gate = gumbel_gate(scores, tau, generator=self.random)
            high, low = self.data.loss_high[batch], self.data.loss_low[batch]
            return dualres_loss(gate, high, low, self.config.gamma, self.config.target_high_rate)
        target = self.data.gain[batch]
        return F.mse_loss(scores, target) + self.config.pairwise * pairwise_loss(scores, target)

    def _scores(self, batch: Tensor) -> Tensor:
        scores: Tensor = self.router(self._augment(self.data.thumbs[batch].float() / 255))
        return scores

    def _augment(self, x: Tensor) -> Tensor:
        """Mirror and change light: neither changes which resolution an image needs."""

        def draw() -> Tensor:
            return torch.rand(len(x), 1, 1, 1, generator=self.random)

        if self.config.flip:
            x = torch.where(draw() < 0.5, x.flip(3), x)
        if self.config.jitter:
            gain = 1 + self.config.jitter * (2 * draw() - 1)
            shift = self.config.jitter * (draw() - 0.5)
            x = ((x - 0.5) * gain + 0.5 + shift).clamp(0, 1)
        return x

    @torch.no_grad()
    def scores_of(self, rows: np.ndarray) -> Tensor:
        self.router.eval()
        return torch.cat([self.router(self.data.thumbs[i].float() / 255) for i in torch.from_numpy(rows).split(128)])

    def _check(self, held: np.ndarray) -> dict[str, float]:
        held = held[~torch.isnan(self.data.gain[held]).numpy()]
        if len(held) < 3:
            return {"spearman": float("nan")}
        return {"spearman": spearman(self.scores_of(held).numpy(), self.data.gain[held].numpy())}


def pairwise_loss(scores: Tensor, target: Tensor) -> Tensor:
    """Logistic loss on every pair of the batch that differs in gain, weighted by how much.

    Args:
        scores, target: (B,).
    """
    gap = target[:, None] - target[None]
    weight = gap.clamp_min(0)
    losses = F.softplus(-(scores[:, None] - scores[None])) * weight
    return losses.sum() / weight.sum().clamp_min(1e-6)


def _optimizer(parameters: list[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, config.lr, momentum=config.momentum, weight_decay=config.weight_decay, nesterov=True
        )
    return torch.optim.AdamW(parameters, config.lr, weight_decay=config.weight_decay)


def _lr_factor(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up, then cosine to zero."""
    ramp = max(1, round(steps * warmup))
    if warmup and step < ramp:
        return (step + 1) / ramp
    share = (step - ramp) / max(1, steps - ramp) if warmup else step / max(1, steps)
    return 0.5 * (1 + float(np.cos(np.pi * min(1.0, share))))


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
