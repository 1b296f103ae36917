"""Convolutions with the channels last in memory, which tensor cores want; for any host, since all run in PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format as convert

from dualres_plugin.hosts.contract import Batch, HostAdapter


def channels_last(adapter: HostAdapter[Batch]) -> HostAdapter[Batch]:
    """Put the convolutions of an adapter's detectors into that format, in place.

    A convolution with such weights takes its input in the format and hands its output on in it, so the batch of each
    pass is converted once, where it enters. Results are equal up to rounding.

    Args:
        adapter: on the device that it will run on.

    Returns:
        The same adapter.
    """
    for detector in (adapter.detector, adapter.low_detector):
        if detector is not None:
            convert(detector, torch.channels_last)
    return adapter


def as_in(original: nn.Module, made: Any) -> Any:
    """A module that was made of another, in that one's format; returns it.

    Args:
        original: asked whether `channels_last` has been here.
        made: such as a fused copy, whose convolutions are new.
    """
    weights = [m.weight for m in original.modules() if isinstance(m, nn.Conv2d)]
    # Of 1 x 1 kernels both formats are the same.
    if any(w.is_contiguous(memory_format=torch.channels_last) and not w.is_contiguous() for w in weights):
        convert(made, torch.channels_last)
    return made
