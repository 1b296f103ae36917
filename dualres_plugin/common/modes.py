"""Evaluation mode for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

_lock = threading.Lock()
_held: dict[nn.Module, tuple[int, list[tuple[nn.Module, bool]]]] = {}  # module -> calls inside, modes of its parts


@contextmanager
def in_eval(module: nn.Module) -> Iterator[None]:
    """Put a module into eval mode, and every part back into its own mode afterwards.

    `module.train(flag)` would put parts that are frozen in eval (batch norm of a detector) into training too. Where
    threads share the module, it stays in eval until the last of them has left.

    Args:
        module: with all its parts.
    """
    with _lock:
        calls, modes = _held.get(module, (0, []))
        if not calls:
            modes = _modes(module)
            module.eval()
        _held[module] = calls + 1, modes
    try:
        yield
    finally:
        with _lock:
            calls, modes = _held.pop(module)
            if calls > 1:
                _held[module] = calls - 1, modes
            else:
                _restore(modes)


@contextmanager
def modes_kept(module: nn.Module) -> Iterator[None]:
    """Put every part of a module back, afterwards, into the mode that it had before.

    Args:
        module: whose methods may put it into eval.
    """
    modes = _modes(module)
    try:
        yield
    finally:
        _restore(modes)


def _modes(module: nn.Module) -> list[tuple[nn.Module, bool]]:
    return [(part, part.training) for part in module.modules()]


def _restore(modes: list[tuple[nn.Module, bool]]) -> None:
    for part, training in modes:
        part.training = training
