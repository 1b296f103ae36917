"""What the two objectives teach."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.scoring import score_profile
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train.objectives import (
    OBJECTIVES,
    Objective,
    PaperObjective,
    Step,
    make_objective,
    objective,
    pairwise_loss,
)
from dualres_plugin.train.training_set import TrainingSet
from tests.fakes import brightness
from tests.train.helpers import QUICK, order, train


def rate(router: ResolutionRouter, profile: Profile) -> float:
    """Mean probability of going high, which Eq. 5 moves toward θ."""
    return float(torch.sigmoid(torch.from_numpy(score_profile(router, profile))).mean())


def test_the_penalty_moves_the_rate_toward_its_target(profile: Profile) -> None:
    config = replace(QUICK, objective="paper", gamma=30.0, epochs=12)
    rates = [rate(train(profile, replace(config, target_high_rate=theta)), profile) for theta in (0.15, 0.5, 0.85)]
    assert rates[0] < rates[1] < rates[2]
    assert all(abs(got - theta) < 0.15 for got, theta in zip(rates, (0.15, 0.5, 0.85)))


def test_without_a_penalty_each_image_goes_where_its_loss_is_lower(profile: Profile, unseen: Profile) -> None:
    router = train(profile, replace(QUICK, objective="paper", gamma=0.0, epochs=15))
    scores, bright = score_profile(router, unseen), brightness(unseen) / 255
    clear = np.abs(bright - 0.5) > 0.2  # loss_low - loss_high = 2 · brightness - 1
    assert ((scores > 0) == (bright > 0.5))[clear].mean() > 0.9


def test_the_papers_objective_needs_losses(profile: Profile) -> None:
    blind = Profile({**profile.meta, "labelled": False}, profile.table, profile.path)
    with pytest.raises(DualResError, match="paper's objective needs losses"):
        train(blind, replace(QUICK, objective="paper"))


def test_pairwise_loss_by_hand() -> None:
    scores, target = torch.tensor([0.0, 1.0, 5.0]), torch.tensor([0.0, 2.0, 0.0])
    expected = 2 * torch.log1p(torch.exp(torch.tensor(-1.0))) + 2 * torch.log1p(torch.exp(torch.tensor(4.0)))
    assert float(pairwise_loss(scores, target)) == pytest.approx(float(expected) / 4)
    assert float(pairwise_loss(torch.zeros(3), torch.ones(3))) == 0, "ties teach nothing"
    assert float(pairwise_loss(torch.zeros(1), torch.ones(1))) == 0


def test_a_new_objective_is_one_class(profile: Profile, unseen: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OBJECTIVES, "mine", PaperObjective)  # which puts back what the class adds

    @objective("mine")
    @dataclass(frozen=True)
    class Mine(Objective):
        """Reversed gain, by squared error, weighted by a setting that exists already."""

        gamma: float

        def usable(self, data: TrainingSet) -> np.ndarray:
            return data.gain_known

        def loss(self, scores: Tensor, data: TrainingSet, rows: Tensor, step: Step) -> tuple[Tensor, dict[str, float]]:
            return self.gamma * (scores + data.gain[rows]).square().mean(), {
                "mean_score": float(scores.detach().mean())
            }

        def target(self, gain: str) -> str:
            return f"minus {gain}"

    seen: list[dict[str, float]] = []
    config = replace(QUICK, objective="mine", holdout=0.0)
    config.check()
    router = train(profile, config, log=seen.append)
    assert order(router, unseen) < -0.9
    assert router.info["gain"] == "minus ap_objects" and all("mean_score" in numbers for numbers in seen)


def test_an_unknown_objective() -> None:
    with pytest.raises(DualResError, match="unknown objective 'luck'; known: rank, paper"):
        make_objective("luck", QUICK)
