"""Evaluation mode for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

_lock = threading.Lock()
_held: dict[nn.Module, tuple[int, bool]] = {}  # part -> blocks that hold it, its mode before the first of them


@contextmanager
def in_eval(module: nn.Module) -> Iterator[None]:
    """Put a module into eval mode, and every part back into its own mode afterwards.

    `module.train(flag)` would put parts that are frozen in eval (batch norm of a detector) into training too. Where
    threads share the module, it stays in eval until the last of them has left.

    Args:
        module: with all its parts.
    """
    with modes_kept(module):
        module.eval()
        yield


@contextmanager
def modes_kept(module: nn.Module) -> Iterator[None]:
    """Put every part of a module back, afterwards, into the mode that it had before.

    A part that another block holds too, such as a thread's, goes back when the last of them has left.

    Args:
        module: whose methods may put it into eval.
    """
    parts = list(module.modules())
    with _lock:
        for part in parts:
            blocks, mode = _held.get(part, (0, part.training))
            _held[part] = blocks + 1, mode
    try:
        yield
    finally:
        with _lock:
            for part in parts:
                blocks, mode = _held.pop(part)
                if blocks > 1:
                    _held[part] = blocks - 1, mode
                else:
                    part.training = mode
