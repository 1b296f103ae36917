"""The router out of a checkpoint that mmengine wrote."""

from __future__ import annotations

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

    Returns:
        The folder.

    Raises:
        DualResError: If the file is missing, holds no router, or does not fit the config.
    """
    from mmengine.registry import init_default_scope
    from mmengine.runner import CheckpointLoader

    if not Path(checkpoint).is_file():
        raise DualResError(f"checkpoint '{checkpoint}' does not exist.")
    stored = CheckpointLoader.load_checkpoint(str(checkpoint), map_location="cpu")
    state = stored.get("state_dict", stored)
    if not any(key.startswith("router.") for key in state):
        raise DualResError(f"checkpoint '{checkpoint}' holds no router: it is of a plain detector.")
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
