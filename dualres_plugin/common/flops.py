"""What a pass costs: GMACs by counting, with GFLOPs = 2 x GMACs beside them, and milliseconds by the clock."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.benchmark import timer
from torch.utils.flop_counter import FlopCounterMode

from dualres_plugin.common.modes import in_eval


def gmacs(module: nn.Module, *inputs: Tensor) -> float:
    """Multiply-accumulates of one forward pass, in billions.

    `torch.utils.flop_counter` counts convolutions and matrix products at 2 FLOPs per multiply-accumulate;
    this halves it.

    Args:
        module: left in the mode it is in.
        inputs: what it is called with; their batch counts.
    """
    with in_eval(module), torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return float(counter.get_total_flops()) / 2e9


def milliseconds(step: Callable[[], object]) -> float:
    """Time of one call in milliseconds.

    A GPU works on while Python goes on: `timer` waits for it, before the call so that earlier work does not count, and
    after it so that all of its own does.

    Args:
        step: is called once.
    """
    start = timer()
    step()
    return 1e3 * (timer() - start)


def format_gmacs(value: float) -> str:
    """`3.24 GMACs (6.48 GFLOPs)`."""
    digits = 2 if value >= 0.1 else 3
    return f"{value:.{digits}f} GMACs ({2 * value:.{digits}f} GFLOPs)"
