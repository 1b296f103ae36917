"""Counting compute: GMACs everywhere, GFLOPs = 2 x GMACs beside it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dualres_plugin.common.modes import in_eval


def gmacs(module: nn.Module, *inputs: Tensor) -> float:
    """Multiply-accumulates of one forward pass, in billions.

    `torch.utils.flop_counter` counts convolutions and matrix products at 2 FLOPs per multiply-accumulate;
    this halves it.
    """
    with in_eval(module), torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return float(counter.get_total_flops()) / 2e9


def format_gmacs(value: float) -> str:
    """`3.24 GMACs (6.48 GFLOPs)`."""
    digits = 2 if value >= 0.1 else 3
    return f"{value:.{digits}f} GMACs ({2 * value:.{digits}f} GFLOPs)"
