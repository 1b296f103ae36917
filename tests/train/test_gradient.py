"""Training by gradients."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dualres_plugin.evaluate.scoring import score_profile
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train.gradient import make_schedule
from dualres_plugin.train.ranks import spearman
from tests.fakes import brightness
from tests.train.helpers import QUICK, order, train


def test_it_learns_the_planted_order_and_carries_it_to_new_images(profile: Profile, unseen: Profile) -> None:
    torch.manual_seed(QUICK.seed)
    fresh = ResolutionRouter(backbone="tiny@3", input_size=16).eval()
    router = train(profile)
    assert order(router, unseen) > 0.95 > abs(order(fresh, unseen)) - 1
    assert router.info["metrics"]["holdout_spearman"] > 0.9


def test_noise_is_not_learned(tmp_path: Path, profile: Profile) -> None:
    """With thumbnails that say nothing, the held-out correlation has to stay low: no leak from the labels."""
    rng = np.random.default_rng(0)
    table = profile.table
    noise = [rng.integers(0, 255, (3, 16, 16), dtype=np.uint8).tobytes() for _ in range(len(profile))]
    i = table.schema.get_field_index("thumbnail")
    blind = Profile(profile.meta, table.set_column(i, "thumbnail", [noise]), profile.path)
    assert abs(spearman(score_profile(train(blind), blind)[:60], brightness(profile)[:60])) < 0.6
    assert train(blind).info["metrics"]["holdout_spearman"] < 0.75


def test_the_best_epoch_is_kept(profile: Profile) -> None:
    seen: list[dict[str, float]] = []
    router = train(profile, log=seen.append)
    assert [n["epoch"] for n in seen] == [0, 1, 2, 3]
    best = max(seen, key=lambda n: n["spearman"])
    assert router.info["metrics"] == {"holdout_spearman": best["spearman"], "best_epoch": best["epoch"]}
    assert seen[-1]["loss"] < seen[0]["loss"]


def old_factor(step: int, steps: int, warmup: float) -> float:
    """The schedule as it was written by hand."""
    ramp = max(1, round(steps * warmup))
    if warmup and step < ramp:
        return (step + 1) / ramp
    share = (step - ramp) / max(1, steps - ramp) if warmup else step / max(1, steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


@pytest.mark.parametrize("warmup", [0.0, 0.001, 0.1, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 40, 1000])
def test_the_schedule_is_a_line_and_then_a_cosine(steps: int, warmup: float) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    schedule = make_schedule(optimizer, steps, warmup)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([old_factor(step, steps, warmup) for step in range(steps)], abs=1e-9)


def test_sgd_without_momentum_is_plain_sgd(profile: Profile) -> None:
    train(profile, replace(QUICK, optimizer="sgd", momentum=0.0, epochs=1))
