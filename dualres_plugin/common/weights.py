"""Weights of detectors and backbones from local files, whatever their tensors were saved inside of."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dualres_plugin.common.card import HALF_ABOVE
from dualres_plugin.common.errors import DualResError

HOLDERS = ("state_dict_ema", "state_dict", "model")  # averaged weights are the ones that people report


def read_state_dict(path: Path | str, what: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a PyTorch file read with `weights_only=True`: no pickled code is run.

    Args:
        path: of the file.
        what: names the file in messages, such as "detector weights".

    Returns:
        Name -> tensor; averaged weights where the file holds some.

    Raises:
        DualResError: If the file is missing or unreadable, or holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise DualResError(f"{what} '{path}' do not exist.")
    try:
        state = _read(path)
    except pickle.UnpicklingError:  # torch's own message advises to run the code
        raise DualResError(
            f"{what} '{path}' cannot be read: the file is damaged or holds more than tensors, and pickled code is "
            "never run. Save a plain state dict: torch.save(model.state_dict(), path)."
        ) from None
    except Exception as error:  # whatever a damaged file makes the two formats' readers raise
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise DualResError(f"{what} '{path}' cannot be read: {first}") from None
    inner = next((state[k] for k in HOLDERS if isinstance(state, dict) and isinstance(state.get(k), dict)), state)
    tensors = {k: v for k, v in inner.items() if isinstance(v, Tensor)} if isinstance(inner, dict) else {}
    if not tensors:
        raise DualResError(f"{what} '{path}' hold no state dict.")
    return tensors


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse NaN and infinities, with which every score would be one, and no route a choice.

    Args:
        tensors: by name, of any shape and type.
        where: opens the message.

    Raises:
        DualResError: If a tensor holds one.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
            raise DualResError(f"{where}: '{name}' holds NaN or infinite values, so the file is damaged.")


def halved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The large tensors in 16 bits: those that make up the file. The small ones, of the first layers, move scores most.

    Args:
        tensors: by name, of any shape and type.

    Returns:
        By name; those that 16 bits cannot hold stay as they are.
    """
    most = torch.finfo(torch.float16).max
    return {
        name: t.half() if t.dtype == torch.float32 and t.numel() > HALF_ABOVE and float(t.abs().max()) <= most else t
        for name, t in tensors.items()
    }


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(str(path))
    # timm's and effdet's training scripts keep their arguments beside the weights.
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, map_location="cpu", weights_only=True)
