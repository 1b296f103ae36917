"""Training a router by gradients, whatever its objective."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR
from tqdm.auto import tqdm

from dualres_plugin.common.resize import to_unit
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train.config import TrainConfig
from dualres_plugin.train.objectives import Objective, Step
from dualres_plugin.train.ranks import spearman
from dualres_plugin.train.thumbnails import score_rows
from dualres_plugin.train.training_set import TrainingSet

Log = Callable[[dict[str, float]], None]


class GradientTraining:
    """One training, readable from top to bottom in `run`.

    Args:
        router: trained in place, backbone and head.
        data: what it learns from.
        objective: what it learns.
        config: how.
    """

    def __init__(self, router: ResolutionRouter, data: TrainingSet, objective: Objective, config: TrainConfig):
        self.router = router
        self.data = data
        self.objective = objective
        self.config = config
        self.random = torch.Generator().manual_seed(config.seed)
        self.optimizer = _optimizer(list(router.parameters()), config)

    def run(self, rows: np.ndarray, held: np.ndarray, progress: bool, log: Log | None) -> dict[str, float]:
        """Train, and leave the router with the weights of the epoch that the objective keeps.

        Args:
            rows: (n,) rows of the data to learn from.
            held: (m,) rows to rank after each epoch; may be empty.
            progress: show a progress bar.
            log: called with the numbers of each epoch.

        Returns:
            The kept epoch: "epoch", "loss" and "spearman", the rank correlation with the gain on `held`.
        """
        per_epoch = max(1, len(rows) // self.config.batch)
        schedule = make_schedule(self.optimizer, self.config.epochs * per_epoch, self.config.warmup)
        best: dict[str, float] = {"epoch": -1, "spearman": -2.0}
        kept: dict[str, Tensor] | None = None
        bar = tqdm(range(self.config.epochs), desc="train", unit="epoch", disable=not progress, dynamic_ncols=True)
        for epoch in bar:
            loss, watched = self._epoch(rows, range(epoch * per_epoch, (epoch + 1) * per_epoch), schedule)
            numbers = {"epoch": epoch, "loss": loss, **self._check(held)}
            if log:
                log({**numbers, **watched})
            bar.set_postfix({k: f"{v:.3f}" for k, v in numbers.items() if k != "epoch"})
            if len(held) and self.objective.keeps_best_epoch and numbers["spearman"] > best["spearman"]:
                best = numbers
                kept = {k: v.clone() for k, v in self.router.state_dict().items()}
            elif kept is None:  # too few held-out images to tell, or the last epoch is wanted
                best = numbers
        if kept is not None:
            self.router.load_state_dict(kept)
        self.router.eval()
        return best

    def _epoch(self, rows: np.ndarray, numbers: range, schedule: LRScheduler) -> tuple[float, dict[str, float]]:
        """Take the steps of these numbers; the mean loss, and what else to log."""
        self.router.train()
        shuffled = torch.from_numpy(rows)[torch.randperm(len(rows), generator=self.random)]
        total = 0.0
        sums: dict[str, float] = {}
        for number, batch in zip(numbers, shuffled.split(self.config.batch)):
            step = Step(number, self.config.epochs * len(numbers), self.random)
            loss, watched = self.objective.loss(self._scores(batch), self.data, batch, step)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.router.parameters(), 5.0)
            self.optimizer.step()
            lr = float(schedule.get_last_lr()[0])
            schedule.step()
            total += float(loss.detach())
            sums = {name: sums.get(name, 0.0) + value for name, value in watched.items()}
        means = {name: value / len(numbers) for name, value in sums.items()}
        return total / len(numbers), {"lr": lr, **self.objective.epoch_numbers(means, step)}

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
        """Scores as a user will get them: no augmentation, the router in evaluation mode.

        Args:
            rows: (n,) rows of the data, at least one.

        Returns:
            (n,) scores.
        """
        return score_rows(self.router, self.data.thumbs, rows)

    def _check(self, held: np.ndarray) -> dict[str, float]:
        held = held[self.data.gain_known[held]]
        if len(held) < 3:
            return {"spearman": float("nan")}
        return {"spearman": spearman(self.scores_of(held).numpy(), self.data.gain[held].numpy())}


def _optimizer(parameters: list[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.momentum > 0,
        )
    return torch.optim.AdamW(parameters, config.lr, weight_decay=config.weight_decay)


def make_schedule(optimizer: torch.optim.Optimizer, steps: int, warmup: float) -> LRScheduler:
    """Linear warm-up to the optimizer's learning rate, then a cosine to zero.

    Args:
        optimizer: whose learning rate to set.
        steps: of the whole training, at least 1.
        warmup: share of the steps that warm up, 0 to 1; the first of them has 1 / (their number) of the rate.

    Returns:
        The schedule; call its `step` after each step of the optimizer.
    """
    if not warmup:
        return CosineAnnealingLR(optimizer, steps)
    ramp = max(1, round(steps * warmup))
    rise = LinearLR(optimizer, start_factor=1 / ramp, total_iters=ramp - 1)
    fall = CosineAnnealingLR(optimizer, max(1, steps - ramp))
    return SequentialLR(optimizer, [rise, fall], milestones=[ramp])
