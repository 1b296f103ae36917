"""Training a router on a ready profile: minutes on a CPU, no detector pass.

Two objectives. `rank` (the default) learns the order of the images by their gain, so that one router serves every
budget. `paper` is the recipe of the paper (Eq. 3-5), which trains one operating point.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn
from tqdm import tqdm

from dualres_plugin.errors import DualResError
from dualres_plugin.gains import compute_gain
from dualres_plugin.gating import dualres_loss, gumbel_gate, temperature_at
from dualres_plugin.profile import Profile
from dualres_plugin.router import ResolutionRouter, RouterConfig

logger = logging.getLogger("dualres")


@dataclass
class TrainConfig:
    """Settings of a training; a YAML file with some of these is what `--config` takes.

    Attributes:
        objective: "rank" or "paper".
        gain: which gain `rank` learns (`gains.GAINS`); "auto" is "ap_objects" with labels, "agreement" without.
        backbone, weights, input_size, pool, hidden: the router, see `RouterConfig`; `weights` is a local file.
        train_backbone: False trains the head alone, on features computed once.
        epochs, batch, lr, momentum, weight_decay, optimizer, warmup: as usual; "sgd" is Nesterov, "adamw" is AdamW.
        gamma, target_high_rate: γ and θ of Eq. 5 (objective "paper").
        temperature, temperature_end: the schedule of τ.
        pairwise: weight of the pairwise ranking term beside the regression of the ranked gain.
        holdout: share of the source images kept for choosing the epoch and for calibration.
        flip: mirror thumbnails at random; `jitter`: strength of random brightness and contrast.
        seed: of everything random.
    """

    objective: str = "rank"
    gain: str = "auto"
    backbone: str = "tiny"
    weights: str | None = None
    input_size: int = 96
    pool: list[int] = field(default_factory=list)
    hidden: int = 0
    train_backbone: bool = True
    epochs: int = 12
    batch: int = 64
    lr: float = 2e-3
    momentum: float = 0.8
    weight_decay: float = 0.02
    optimizer: str = "adamw"
    warmup: float = 0.1
    gamma: float = 1.0
    target_high_rate: float = 0.5
    temperature: float = 1.0
    temperature_end: float = 1.0
    pairwise: float = 0.5
    holdout: float = 0.2
    flip: bool = True
    jitter: float = 0.2
    seed: int = 0

    @classmethod
    def load(cls, path: Path | str | None, **overrides: Any) -> TrainConfig:
        """Read a YAML file; overrides win.

        Raises:
            DualResError: If the file is missing or has unknown keys or values of the wrong type.
        """
        values: dict[str, Any] = {}
        if path is not None:
            try:
                values = yaml.safe_load(Path(path).read_text()) or {}
            except FileNotFoundError:
                raise DualResError(f"config '{path}' does not exist.") from None
            except yaml.YAMLError as error:
                raise DualResError(f"config '{path}' is not valid YAML: {error}") from None
        values |= {k: v for k, v in overrides.items() if v is not None}
        known = {f.name: f for f in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise DualResError(f"unknown training setting(s) {unknown}; known: {sorted(known)}.")
        config = cls(**values)
        config.check()
        return config

    def check(self) -> None:
        """Raise a DualResError for a value that cannot work."""
        for name, kind in (("lr", float), ("gamma", float), ("weight_decay", float), ("epochs", int), ("batch", int)):
            try:
                setattr(self, name, kind(getattr(self, name)))
            except (TypeError, ValueError):
                raise DualResError(f"training setting {name}={getattr(self, name)!r} is not a number.") from None
        if self.objective not in ("rank", "paper"):
            raise DualResError(f"objective '{self.objective}' is unknown: use 'rank' or 'paper'.")
        if self.optimizer not in ("adamw", "sgd"):
            raise DualResError(f"optimizer '{self.optimizer}' is unknown: use 'adamw' or 'sgd'.")
        if not 0 <= self.holdout < 1:
            raise DualResError(f"holdout={self.holdout:g} must lie in [0, 1).")
        if self.epochs < 1 or self.batch < 1:
            raise DualResError("epochs and batch must be at least 1.")


@dataclass
class TrainingSet:
    """Thumbnails with what they should teach.

    Attributes:
        thumbs: (n, 3, S, S) uint8.
        gain: (n,) float32, ranked to a standard normal; NaN where unknown.
        loss_high, loss_low: (n,) float32, for the paper's objective; NaN without labels.
        group: (n,) source image of each row.
        original: (n,) bool, True for the images themselves.
    """

    thumbs: Tensor
    gain: Tensor
    loss_high: Tensor
    loss_low: Tensor
    group: np.ndarray
    original: np.ndarray

    def __len__(self) -> int:
        return len(self.gain)


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
    fit_rows, held = _split(data, config)
    trainer = _Trainer(router, data, config)
    best = trainer.run(fit_rows, held, progress, log)
    _calibrate(router, data, held if len(held) else fit_rows)
    router.info = _info(chosen, config, data, held, best)
    return router.eval()


def _new_router(config: TrainConfig) -> ResolutionRouter:
    architecture = RouterConfig(config.backbone, config.input_size, list(config.pool), config.hidden)
    return ResolutionRouter(architecture, weights=config.weights)


def resolve_gain(name: str, profiles: Sequence[Profile]) -> str:
    """What "auto" means for these profiles."""
    if name != "auto":
        return name
    return "ap_objects" if all(p.labelled for p in profiles) else "agreement"


def training_set(profiles: Sequence[Profile], config: TrainConfig, size: int) -> TrainingSet:
    """Join profiles: rows that all of them have, gains averaged after ranking.

    Raises:
        DualResError: If the profiles share no rows, or losses are needed and missing.
    """
    first = profiles[0]
    keys = [_keys(p) for p in profiles]
    common = sorted(set(keys[0]).intersection(*keys[1:]))
    if not common:
        raise DualResError(
            "these profiles have no image and view in common: profile the same data set with the same --seed and --views."
        )
    rows = [np.array([k[key] for key in common]) for k in keys]
    if config.objective == "paper" and not all(p.labelled for p in profiles):
        raise DualResError("the paper's objective needs losses, so a profile with labels; use objective 'rank'.")
    name = resolve_gain(config.gain, profiles)
    gains = np.stack([ranked(compute_gain(name, p, r)) for p, r in zip(profiles, rows)])
    known = ~np.isnan(gains)
    mean = np.where(known.any(axis=0), np.nansum(gains, axis=0) / np.maximum(known.sum(axis=0), 1), np.nan)
    losses = [np.mean([p.column(c)[r] for p, r in zip(profiles, rows)], axis=0) for c in ("loss_high", "loss_low")]
    thumbs = first.thumbnails(rows[0])
    if thumbs.shape[-1] != size:
        thumbs = torch.cat([_shrink(part, size) for part in thumbs.split(512)])
    return TrainingSet(
        thumbs,
        torch.from_numpy(ranked(mean)).float(),
        *(torch.from_numpy(np.asarray(column, dtype=np.float32)) for column in losses),
        group=np.array([key[0] for key in common]),
        original=np.array([key[1] == 0 for key in common]),
    )


def _keys(profile: Profile) -> dict[tuple[int, int], int]:
    pairs = zip(profile.column("image_id").tolist(), profile.views.tolist())
    return {pair: row for row, pair in enumerate(pairs)}


def _shrink(thumbs: Tensor, size: int) -> Tensor:
    x = F.interpolate(thumbs.float(), size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    return x.round().clamp(0, 255).byte()


def ranked(values: np.ndarray) -> np.ndarray:
    """Values -> standard normal by rank, ties sharing their mean rank; NaN stays NaN.

    Gains have heavy tails and a spike at zero; only their order matters to AUC-Policy.
    """
    out = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return out
    _, inverse, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middle = (last - counts + last - 1) / 2  # mean rank of each distinct value
    share = (middle[inverse] + 0.5) / len(known)
    out[known] = torch.special.ndtri(torch.from_numpy(share)).numpy()
    return out


def _split(data: TrainingSet, config: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers to learn from and to hold out; all views of an image stay on one side."""
    rng = np.random.default_rng(config.seed)
    groups = rng.permutation(np.unique(data.group))
    held_groups = groups[: round(len(groups) * config.holdout)]
    held = np.isin(data.group, held_groups)
    usable = ~torch.isnan(data.gain).numpy()
    if config.objective == "paper":
        usable &= ~torch.isnan(data.loss_high + data.loss_low).numpy()
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
        self.features: Tensor | None = None if config.train_backbone else self._all_features()
        trained = router.parameters() if config.train_backbone else router.head.parameters()
        self.optimizer = _optimizer(list(trained), config)

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
            self.router.train(config.train_backbone)
            shuffled = torch.from_numpy(rows)[torch.randperm(len(rows), generator=self.random)]
            total = 0.0
            for step in range(per_epoch):
                batch = shuffled[step * config.batch : (step + 1) * config.batch]
                tau = temperature_at(
                    epoch * per_epoch + step, steps, config.temperature, config.temperature_end
                )
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
            elif not len(held) or config.objective == "paper":
                best = numbers
        if kept is not None:
            self.router.load_state_dict(kept)
        if self.features is not None:
            _fold_standardisation(self.router, self.mean, self.deviation)
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
        if self.features is not None:
            out: Tensor = self.router.head(self.features[batch]).squeeze(1)
            return out
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
    def _all_features(self) -> Tensor:
        """Features of a frozen backbone, once, standardised: their scales differ by orders of magnitude."""
        self.router.eval()
        parts = [self.router.features(part.float() / 255) for part in self.data.thumbs.split(64)]
        features = torch.cat(parts)
        self.mean, self.deviation = features.mean(dim=0), features.std(dim=0).clamp_min(1e-4)
        return (features - self.mean) / self.deviation

    @torch.no_grad()
    def scores_of(self, rows: np.ndarray) -> Tensor:
        self.router.eval()
        index = torch.from_numpy(rows)
        if self.features is not None:
            out: Tensor = self.router.head(self.features[index]).squeeze(1)
            return out
        return torch.cat([self.router(self.data.thumbs[i].float() / 255) for i in index.split(128)])

    def _check(self, held: np.ndarray) -> dict[str, float]:
        if len(held) < 3:
            return {"spearman": float("nan")}
        return {"spearman": spearman(self.scores_of(held).numpy(), self.data.gain[held].numpy())}


def _fold_standardisation(router: ResolutionRouter, mean: Tensor, deviation: Tensor) -> None:
    """Make a head that was trained on standardised features take the raw ones."""
    first = router.head[0]
    assert isinstance(first, nn.Linear)
    with torch.no_grad():
        first.weight.div_(deviation)
        first.bias.sub_(first.weight @ mean)


def pairwise_loss(scores: Tensor, target: Tensor) -> Tensor:
    """Logistic loss on every pair of the batch that differs in gain, weighted by how much.

    Args:
        scores, target: (B,).
    """
    gap = target[:, None] - target[None]
    weight = gap.clamp_min(0)
    losses = F.softplus(-(scores[:, None] - scores[None])) * weight
    return losses.sum() / weight.sum().clamp_min(1e-6)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation, ties sharing their mean rank; 0 where one side is constant."""
    x, y = _mean_ranks(a), _mean_ranks(b)
    if x.std() == 0 or y.std() == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: np.ndarray = ((last - counts + last - 1) / 2)[inverse]
    return ranks


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
    profiles: Sequence[Profile], config: TrainConfig, data: TrainingSet, held: np.ndarray, best: dict[str, float]
) -> dict[str, Any]:
    return {
        "trained_on": [
            {k: p.meta[k] for k in ("host", "detector", "dataset", "high", "scale", "views", "labelled")} for p in profiles
        ],
        "gain": resolve_gain(config.gain, profiles) if config.objective == "rank" else "loss (Eq. 5)",
        "rows": len(data),
        "images": int(len(np.unique(data.group))),
        "calibrated_on": f"{int(data.original[held].sum())} held-out images" if len(held) else "the training images",
        "metrics": {"holdout_spearman": best.get("spearman"), "best_epoch": best.get("epoch")},
        "config": asdict(config),
    }
