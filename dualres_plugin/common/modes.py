"""Evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def in_eval(module: nn.Module) -> Iterator[None]:
    """Put a module into eval mode, and every part back into its own mode afterwards.

    `module.train(flag)` would put parts that are frozen in eval (batch norm of a detector) into training too.

    Args:
        module: with all its parts.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
