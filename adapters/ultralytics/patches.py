"""What this adapter changes in objects of Ultralytics that it did not make, or in its process-wide state.

Seen on ultralytics 8.4.190. Weights and modules of the user's detector are never touched: the modules below are
changed on copies. The routed network goes in by the host's own callbacks, and by `predict` and `val` of the one
object (`methods`, `callbacks.attach`; `detach` undoes it).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from torch import nn
from ultralytics.engine.results import Results

Kind = TypeVar("Kind", bound=Results)


def turn_into(result: Results, kind: type[Kind]) -> Kind:
    """Make a `Results` one of a subclass, in place.

    The predictor holds its results in lists by the time that callbacks see them, and its writers and trackers go on
    with those, so a copy would be lost. Not undone: the object lives as long as the results of its batch.
    """
    result.__class__ = kind
    return cast(Kind, result)


def with_loss_settings(net: nn.Module) -> nn.Module:
    """Give a network the host's default settings as attributes, which its criterion reads; returns the network.

    A checkpoint keeps them as a dict, without the attribute access. Not undone: `net` is the adapter's own fused copy.
    """
    from ultralytics.utils import DEFAULT_CFG

    settings: Any = net
    settings.args = DEFAULT_CFG
    return net


def with_split_forward(net: nn.Module) -> nn.Module:
    """Have C2f blocks split their channels, as the host's exporter does for a cleaner graph; returns the network.

    Not undone: `net` is a copy that is only exported.
    """
    from ultralytics.nn.modules import C2f

    for module in net.modules():
        if isinstance(module, C2f):
            block: Any = module
            block.forward = block.forward_split
    return net


@contextmanager
def quiet() -> Iterator[None]:
    """Only errors of the host's logger within the block: its exporter tells of files that ours then renames."""
    from ultralytics.utils import LOGGER

    level = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


@contextmanager
def default_activation(activation: nn.Module | None) -> Iterator[None]:
    """Within the block, what the host's convolutions are built with; None is the host's default.

    The host's parser does the same with a YAML's `activation`, which it evaluates as Python.
    """
    from ultralytics.nn.modules import Conv

    kind: Any = Conv
    before = kind.default_act
    kind.default_act = activation or before
    try:
        yield
    finally:
        kind.default_act = before
