"""Detectors in 16 bits, by torch's own autocast; the router stays in 32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch

from dualres_plugin.common.errors import DualResError

KINDS = {"fp16": torch.float16, "bf16": torch.bfloat16}


def half_passes(kind: str | None, detector: Any) -> AbstractContextManager[Any]:
    """What a pass in half precision runs in.

    Args:
        kind: "fp16", "bf16", or None for the detector as it is.
        detector: a module; its device decides.

    Raises:
        DualResError: If there is no such kind, or this device does not compute in it.
    """
    if kind is None:
        return nullcontext()
    if kind not in KINDS:
        raise DualResError(f"half '{kind}': known are {' and '.join(KINDS)}.")
    device = next(detector.parameters()).device.type
    if kind == "fp16" and device == "cpu":
        raise DualResError("half 'fp16' needs a GPU: give --device cuda, or --half bf16.")
    return torch.autocast(device, KINDS[kind])


@contextmanager
def in_full() -> Iterator[None]:
    """32 bits inside of `half_passes`, whatever its device."""
    on = [device for device in ("cpu", "cuda", "mps", "xpu") if torch.is_autocast_enabled(device)]
    with ExitStack() as stack:
        for device in on:
            stack.enter_context(torch.autocast(device, enabled=False))
        yield


def in_32_bits(raw: Any) -> Any:
    """A host's raw output with its half tensors in 32 bits; without any it is the same tensors.

    Args:
        raw: a tensor, or lists, tuples and dicts of them, and of anything else.
    """
    if isinstance(raw, torch.Tensor):
        return raw.float() if raw.dtype in KINDS.values() else raw
    if isinstance(raw, (list, tuple)):
        return type(raw)([in_32_bits(part) for part in raw])
    return {key: in_32_bits(part) for key, part in raw.items()} if isinstance(raw, dict) else raw
