"""What this adapter changes in a torchvision detector, and for how long.

Seen on torchvision 0.29.1. Sizes (`sizes`) and the export work on shallow copies that share every parameter; only
`loss_mode` reaches into the user's own detector.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def loss_mode(net: nn.Module) -> Iterator[None]:
    """Within the block the parts that compute losses think that they train; undone at the end, by error too.

    Torchvision gives losses in training mode only. `train()` would reach the backbone, whose batch norms would drift,
    so the flag alone is set. The first and second stage of two-stage models are shared by all copies.
    """
    parts = [m for m in (net, getattr(net, "rpn", None), getattr(net, "roi_heads", None)) if m is not None]
    try:
        for part in parts:
            part.training = True
        yield
    finally:
        for part in parts:
            part.training = False


def without_resize(detector: nn.Module) -> nn.Module:
    """A shallow copy whose transform leaves the size as it is: the exported graph has scaled the photo.

    The original keeps its transform, so there is nothing to undo.
    """
    net = copy.copy(detector)
    net._modules = dict(detector._modules)
    transform: Any = copy.copy(detector.transform)
    transform.resize = lambda image, target=None: (image, target)
    net._modules["transform"] = transform
    return net
