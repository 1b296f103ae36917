"""Training a router by gradients: the ranking objective, and the paper's (Eq. 4-5)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from dualres_plugin.common.resize import to_unit
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train.config import TrainConfig
from dualres_plugin.train.gating import dualres_loss, gumbel_gate, temperature_at
from dualres_plugin.train.ranks import spearman
from dualres_plugin.train.training_set import TrainingSet

Log = Callable[[dict[str, float]], None]


class GradientTraining:
    """One training, readable from top to bottom in `run`."""

    def __init__(self, router: ResolutionRouter, data: TrainingSet, config: TrainConfig):
        self.router = router
        self.data = data
        self.config = config
        self.random = torch.Generator().manual_seed(config.seed)
        self.opened = 0.0  # the sum over an epoch's batches of the share at high
        self.optimizer = _optimizer(list(router.parameters()), config)

    def run(self, rows: np.ndarray, held: np.ndarray, progress: bool, log: Log | None) -> dict[str, float]:
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
            total = self.opened = 0.0
            for step in range(per_epoch):
                batch = shuffled[step * config.batch : (step + 1) * config.batch]
                tau = temperature_at(epoch * per_epoch + step, steps, config.temperature, config.temperature_end)
                loss = self._loss(batch, tau)
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(self.router.parameters(), 5.0)
                self.optimizer.step()
                lr = float(schedule.get_last_lr()[0])
                schedule.step()
                total += float(loss.detach())
            numbers = {"epoch": epoch, "loss": total / per_epoch, **self._check(held)}
            if log:
                log({**numbers, "lr": lr, **self._gate_numbers(self.opened / per_epoch, tau)})
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

    def _gate_numbers(self, high_rate: float, tau: float) -> dict[str, float]:
        """What the paper's objective steers: the share at high, its penalty and the temperature."""
        if self.config.objective != "paper":
            return {}
        penalty = self.config.gamma * (high_rate - self.config.target_high_rate) ** 2
        return {"high_rate": high_rate, "gamma_term": penalty, "temperature": tau}

    def _loss(self, batch: Tensor, tau: float) -> Tensor:
        scores = self._scores(batch)
        if self.config.objective == "paper":
            gate = gumbel_gate(scores, tau, generator=self.random)
            high, low = self.data.loss_high[batch], self.data.loss_low[batch]
            self.opened += float(gate.detach().mean())
            return dualres_loss(gate, high, low, self.config.gamma, self.config.target_high_rate)
        target = self.data.gain[batch]
        return F.mse_loss(scores, target) + self.config.pairwise * pairwise_loss(scores, target)

    def _scores(self, batch: Tensor) -> Tensor:
        scores: Tensor = self.router(self._augment(to_unit(self.data.thumbs[batch])))
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

    def scores_of(self, rows: np.ndarray) -> Tensor:
        return self.router.score_thumbnails(self.data.thumbs[torch.from_numpy(rows)])

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
