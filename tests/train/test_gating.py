"""The gate of Eq. 4 and the objective of Eq. 5."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dualres_plugin.train.gating import dualres_loss, gumbel_gate, temperature_at


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=50), st.floats(0.05, 5), st.integers(0, 99))
def test_the_forward_value_is_exactly_0_or_1(scores: list[float], temperature: float, seed: int) -> None:
    gate = gumbel_gate(torch.tensor(scores), temperature, generator=generator(seed))
    assert set(gate.tolist()) <= {0.0, 1.0}


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=20), st.floats(0.2, 3), st.integers(0, 99))
def test_the_gradient_is_that_of_the_soft_gate(scores: list[float], temperature: float, seed: int) -> None:
    gradients = []
    for hard in (True, False):
        x = torch.tensor(scores, requires_grad=True)
        gumbel_gate(x, temperature, hard, generator(seed)).sum().backward()
        gradients.append(x.grad)
    assert torch.equal(gradients[0], gradients[1])
    soft = gumbel_gate(torch.tensor(scores), temperature, hard=False, generator=generator(seed))
    assert torch.allclose(gradients[0], soft * (1 - soft) / temperature, atol=1e-6)


def test_the_hard_gate_is_where_the_soft_one_passes_a_half() -> None:
    scores = torch.linspace(-4, 4, 200)
    soft = gumbel_gate(scores, 0.7, hard=False, generator=generator())
    assert torch.equal(gumbel_gate(scores, 0.7, generator=generator()), (soft > 0.5).float())


@settings(max_examples=15)
@given(st.floats(-3, 3), st.floats(0.1, 4))
def test_the_mean_rate_is_the_sigmoid_of_the_score_at_any_temperature(score: float, temperature: float) -> None:
    n = 40_000
    rate = float(gumbel_gate(torch.full((n,), score), temperature, generator=generator()).mean())
    expected = 1 / (1 + math.exp(-score))
    assert rate == pytest.approx(expected, abs=5 * math.sqrt(expected * (1 - expected) / n))


def test_the_same_generator_draws_the_same_gates() -> None:
    scores = torch.zeros(64)
    assert torch.equal(gumbel_gate(scores, 1, generator=generator(3)), gumbel_gate(scores, 1, generator=generator(3)))
    assert not torch.equal(
        gumbel_gate(scores, 1, generator=generator(3)), gumbel_gate(scores, 1, generator=generator(4))
    )


def test_the_loss_by_hand() -> None:
    gate = torch.tensor([1.0, 0.0, 1.0, 0.0])
    high, low = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([5.0, 6.0, 7.0, 8.0])

    def loss(gamma: float, target: float) -> float:
        return float(dualres_loss(gate, loss_low=low, loss_high=high, gamma=gamma, target_high_rate=target))

    assert loss(0.0, 0.5) == pytest.approx((1 + 6 + 3 + 8) / 4)
    assert loss(10.0, 0.2) == pytest.approx(4.5 + 10 * 0.3**2)


def test_the_temperature_falls_evenly_in_the_logarithm() -> None:
    values = [temperature_at(step, 11, 5.0, 0.5) for step in range(11)]
    assert values[0] == 5.0 and values[-1] == pytest.approx(0.5)
    assert values[5] == pytest.approx(math.sqrt(5 * 0.5))
    assert temperature_at(99, 11, 5.0, 0.5) == pytest.approx(0.5)
    assert temperature_at(0, 1, 2.0, 0.1) == 2.0
