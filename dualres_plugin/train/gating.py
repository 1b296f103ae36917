"""The binary Gumbel gate of the paper (Eq. 4) and its objective (Eq. 5)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def gumbel_gate(
    scores: Tensor, temperature: float, hard: bool = True, generator: torch.Generator | None = None
) -> Tensor:
    """Sample a gate per image: 1 runs high, 0 runs low (Eq. 4).

    The forward value is `1[σ((score + g1 - g2) / τ) > 0.5]` with two Gumbel(0, 1) variables; their difference
    is one logistic variable, which is what is drawn here. The gradient is that of the sigmoid
    (straight-through).

    Args:
        scores: (B,) logits of the router.
        temperature: τ > 0; lower is closer to a step.
        hard: False returns the soft gate instead.
        generator: source of the noise, for reproducible training.

    Returns:
        (B,) gates: 0 or 1 when `hard`.
    """
    uniform = torch.rand(scores.shape, generator=generator, device=scores.device, dtype=scores.dtype)
    uniform = uniform.clamp(1e-6, 1 - 1e-6)  # keeps the logistic noise finite
    soft = torch.sigmoid((scores + torch.log(uniform) - torch.log1p(-uniform)) / temperature)
    if not hard:
        return soft
    # The difference is exactly zero; without the parentheses rounding leaves gates such as 0.99999994.
    return (soft > 0.5).to(soft.dtype) + (soft - soft.detach())


def dualres_loss(gate: Tensor, *, loss_low: Tensor, loss_high: Tensor, gamma: float, target_high_rate: float) -> Tensor:
    """`mean(gate·L_high + (1-gate)·L_low) + γ·(mean(gate) - θ)²` (Eq. 5).

    Exact on cached losses: the detector is frozen, so its losses are constants.

    Args:
        gate: (B,) gates, 1 for high.
        loss_low: (B,) the detector's loss of each image at low.
        loss_high: (B,) the same at high.
        gamma: γ, weight of the penalty.
        target_high_rate: θ, share at high that the penalty steers to, 0 to 1.

    Returns:
        The loss, a scalar.
    """
    expected = (gate * loss_high + (1 - gate) * loss_low).mean()
    return expected + gamma * (gate.mean() - target_high_rate) ** 2


def temperature_at(step: int, steps: int, start: float, end: float) -> float:
    """Exponential schedule of the temperature.

    Args:
        step: from 0; later ones than the last keep its temperature.
        steps: how many there are.
        start: τ > 0 at the first step.
        end: τ > 0 at the last step.

    Returns:
        τ of this step.
    """
    share = min(max(step / max(steps - 1, 1), 0.0), 1.0)
    return start * math.exp(share * math.log(end / start))
