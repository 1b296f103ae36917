"""Checkpoints of mmengine: the router out of one, and what torch may load from them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from dualres_plugin.adapters.mmdet.detector import DualResDetector
from dualres_plugin.common.errors import DualResError


def export_router(checkpoint: Path | str, out: Path | str, config: Any = None) -> Path:
    """Write the router of a checkpoint that mmdet trained as a router folder, for any host.

    Args:
        checkpoint: a `.pth` of a routed detector.
        out: the folder to write.
        config: config file or `Config`; None reads the one that mmengine stores in its checkpoints.

    Raises:
        DualResError: If the file is missing, holds no router, or does not fit the config.
    """
    from mmengine.runner.checkpoint import _load_checkpoint

    if not Path(checkpoint).is_file():
        raise DualResError(f"checkpoint '{checkpoint}' does not exist.")
    stored = _load_checkpoint(str(checkpoint), map_location="cpu")
    state = stored.get("state_dict", stored)
    if not any(key.startswith("router.") for key in state):
        raise DualResError(f"checkpoint '{checkpoint}' holds no router: it is of a plain detector.")
    from mmengine.registry import init_default_scope

    cfg = _config_of(stored, config, checkpoint)
    init_default_scope(cfg.get("default_scope", "mmdet"))
    settings = {key: value for key, value in cfg.model.items() if key not in ("type", "backbone")}
    model = DualResDetector(**settings)
    torch.nn.Module.load_state_dict(model, state)
    written: Path = model.save_router(out)
    return written


def _config_of(stored: dict[str, Any], config: Any, checkpoint: Path | str) -> Config:
    if config is not None:
        cfg = config if isinstance(config, Config) else Config.fromfile(config)
    else:
        text = stored.get("meta", {}).get("cfg")
        if not text:
            raise DualResError(f"checkpoint '{checkpoint}' does not hold its config: give the config file as well.")
        cfg = Config.fromstring(text, file_format=".py")
    if cfg.model.get("type") != "DualResDetector":
        raise DualResError("that config does not describe a routed detector: it has no dualres key.")
    return cfg


def allow_checkpoints() -> None:
    """Let torch >= 2.6 read mmengine's own checkpoints, which hold more than tensors.

    torch refuses unknown classes in a pickle unless they are named; these are the ones that mmengine's runner puts
    in: its log history, numpy's arrays, and a reference to the history's statistics. Nothing else becomes loadable.
    """
    import numpy as np
    from mmengine.logging.history_buffer import HistoryBuffer

    if torch.__version__ < torch.torch_version.TorchVersion("2.6"):
        return
    core: Any = getattr(np, "_core", None) or np.core  # renamed in numpy 2; files of both exist
    names = [f"numpy.{package}.multiarray" for package in ("core", "_core")]
    dtypes = {type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "u8", "?")}
    torch.serialization.add_safe_globals(
        [
            *((core.multiarray._reconstruct, f"{name}._reconstruct") for name in names),
            *((core.multiarray.scalar, f"{name}.scalar") for name in names),
            (_statistic, "builtins.getattr"),
            *(HistoryBuffer, np.ndarray, np.dtype, *dtypes),
        ]
    )


def _statistic(owner: Any, name: str) -> Any:
    """`getattr`, as far as mmengine's log history needs it."""
    from mmengine.logging.history_buffer import HistoryBuffer

    if owner is not HistoryBuffer or name not in ("min", "max", "current", "mean", "statistics"):
        raise pickle.UnpicklingError(f"refused to load getattr({owner!r}, {name!r}) from a checkpoint")
    return getattr(owner, name)
