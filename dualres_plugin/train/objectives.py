"""What a router learns: the order of the images by gain, or the paper's expected loss (Eq. 4-5).

To add an objective, write the class and decorate it. Its fields are the settings of the same name that it reads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dualres_plugin.common.errors import DualResError
from dualres_plugin.profile.table import Profile
from dualres_plugin.train.gating import dualres_loss, gumbel_gate, temperature_at
from dualres_plugin.train.training_set import TrainingSet


@dataclass(frozen=True)
class Step:
    """Where a training by gradients stands.

    Attributes:
        number: of the step, from 0.
        total: steps of the whole training.
        random: source of all noise.
    """

    number: int
    total: int
    random: torch.Generator


@dataclass(frozen=True)
class Objective(ABC):
    """One way to train a router.

    Attributes:
        needs_gradients: True where no closed form exists: the backbone is then trained unless the settings say
            otherwise, and a frozen one is refused.
        keeps_best_epoch: True keeps the epoch that ranks held-out images best, False the last one.
    """

    needs_gradients: ClassVar[bool] = False
    keeps_best_epoch: ClassVar[bool] = True

    def check(self, profiles: Sequence[Profile]) -> None:  # noqa: B027 (most objectives take any profile)
        """Refuse profiles that lack what is learned.

        Args:
            profiles: those to train on.

        Raises:
            DualResError: If something is missing.
        """

    @abstractmethod
    def usable(self, data: TrainingSet) -> np.ndarray:
        """Which rows teach something.

        Args:
            data: n rows.

        Returns:
            (n,) bool.
        """

    @abstractmethod
    def loss(self, scores: Tensor, data: TrainingSet, rows: Tensor, step: Step) -> tuple[Tensor, dict[str, float]]:
        """Loss of a batch.

        Args:
            scores: (B,) the router's output.
            data: everything that is learned from.
            rows: (B,) int64, the rows of `data` in this batch.
            step: where the training stands.

        Returns:
            The loss, a scalar with a gradient, and numbers to watch, by name.
        """

    def epoch_numbers(self, means: dict[str, float], step: Step) -> dict[str, float]:
        """What to log of an epoch beside its loss, rank correlation and learning rate.

        Args:
            means: the watched numbers of `loss`, averaged over the epoch's batches.
            step: the last one of the epoch.

        Returns:
            Numbers by name.
        """
        return means

    def target(self, gain: str) -> str:
        """What `router.info` says was learned.

        Args:
            gain: name of the gain that held-out images are ranked by.

        Returns:
            A name for people.
        """
        return gain


OBJECTIVES: dict[str, type[Objective]] = {}
Kind = TypeVar("Kind", bound=type[Objective])


def objective(name: str) -> Callable[[Kind], Kind]:
    """Register an objective under the name that settings call it by.

    Args:
        name: value of the setting `objective`.

    Returns:
        The decorator of the class, which must be a dataclass.
    """

    def register(kind: Kind) -> Kind:
        OBJECTIVES[name] = kind
        return kind

    return register


def make_objective(name: str, settings: object) -> Objective:
    """Build an objective from settings.

    Args:
        name: one of `OBJECTIVES`.
        settings: has an attribute for every field of the objective, as `TrainConfig` does.

    Returns:
        The objective.

    Raises:
        DualResError: If the name is unknown.
    """
    if name not in OBJECTIVES:
        raise DualResError(f"unknown objective '{name}'; known: {', '.join(OBJECTIVES)}.")
    kind = OBJECTIVES[name]
    return kind(**{field.name: getattr(settings, field.name) for field in fields(kind)})


@objective("rank")
@dataclass(frozen=True)
class RankObjective(Objective):
    """The order of the images by gain, so that one router serves every budget.

    Attributes:
        pairwise: weight of the pairwise ranking term beside the regression of the ranked gain.
    """

    pairwise: float

    def usable(self, data: TrainingSet) -> np.ndarray:
        """(n,) bool, rows whose gain is known.

        Args:
            data: n rows.

        Returns:
            (n,) bool, True where the gain is known.
        """
        return data.gain_known

    def loss(self, scores: Tensor, data: TrainingSet, rows: Tensor, step: Step) -> tuple[Tensor, dict[str, float]]:
        """Squared error of the ranked gain, and `pairwise` times `pairwise_loss`.

        Args:
            scores: (B,) the router's output.
            data: its `gain`.
            rows: (B,) int64, rows of `data`.
            step: not used.

        Returns:
            The loss, a scalar; nothing to watch.
        """
        target = data.gain[rows]
        return F.mse_loss(scores, target) + self.pairwise * pairwise_loss(scores, target), {}


@objective("paper")
@dataclass(frozen=True)
class PaperObjective(Objective):
    """The paper's recipe, which trains one operating point (Eq. 4-5).

    Attributes:
        gamma: γ, weight of the penalty.
        target_high_rate: θ, share of images at high that the penalty steers to, 0 to 1.
        temperature: τ of the gate at the first step.
        temperature_end: τ at the last step.
    """

    needs_gradients: ClassVar[bool] = True
    keeps_best_epoch: ClassVar[bool] = False

    gamma: float
    target_high_rate: float
    temperature: float
    temperature_end: float

    def check(self, profiles: Sequence[Profile]) -> None:
        """Losses exist only where there are labels.

        Args:
            profiles: those to train on.

        Raises:
            DualResError: If a profile has none.
        """
        if not all(profile.labelled for profile in profiles):
            raise DualResError("the paper's objective needs losses, so a profile with labels; use objective 'rank'.")

    def usable(self, data: TrainingSet) -> np.ndarray:
        """(n,) bool, rows whose losses are known.

        Args:
            data: n rows.

        Returns:
            (n,) bool, True where both losses are known.
        """
        known: np.ndarray = ~torch.isnan(data.loss_low + data.loss_high).numpy()
        return known

    def loss(self, scores: Tensor, data: TrainingSet, rows: Tensor, step: Step) -> tuple[Tensor, dict[str, float]]:
        """Eq. 5 on gates drawn by Eq. 4; watches the share at high.

        Args:
            scores: (B,) the router's output.
            data: its `loss_low` and `loss_high`.
            rows: (B,) int64, rows of `data`.
            step: sets τ, and is the source of the noise.

        Returns:
            The loss, a scalar, and "high_rate", 0 to 1.
        """
        gate = gumbel_gate(scores, self._temperature(step), generator=step.random)
        loss = dualres_loss(
            gate,
            loss_low=data.loss_low[rows],
            loss_high=data.loss_high[rows],
            gamma=self.gamma,
            target_high_rate=self.target_high_rate,
        )
        return loss, {"high_rate": float(gate.detach().mean())}

    def epoch_numbers(self, means: dict[str, float], step: Step) -> dict[str, float]:
        """What Eq. 5 steers: the share at high, its penalty and the temperature.

        Args:
            means: "high_rate", the mean share at high.
            step: the last one of the epoch.

        Returns:
            "high_rate", "gamma_term" and "temperature".
        """
        penalty = self.gamma * (means["high_rate"] - self.target_high_rate) ** 2
        return {**means, "gamma_term": penalty, "temperature": self._temperature(step)}

    def target(self, gain: str) -> str:
        """The loss, whatever gain the held-out images are ranked by.

        Args:
            gain: not used.

        Returns:
            Always the same.
        """
        return "loss (Eq. 5)"

    def _temperature(self, step: Step) -> float:
        return temperature_at(step.number, step.total, self.temperature, self.temperature_end)


def pairwise_loss(scores: Tensor, target: Tensor) -> Tensor:
    """Logistic loss on every pair of the batch that differs in gain, weighted by how much.

    Args:
        scores: (B,) the router's output.
        target: (B,) gains, higher for images that should have higher scores.

    Returns:
        The loss, a scalar; 0 where no two gains differ.
    """
    gap = target[:, None] - target[None]
    weight = gap.clamp_min(0)
    losses = F.softplus(-(scores[:, None] - scores[None])) * weight
    return losses.sum() / weight.sum().clamp_min(1e-6)
