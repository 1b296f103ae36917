"""The router out of a checkpoint that mmengine wrote."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from dualres_plugin.adapters.mmdet.settings import build_router
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.weights import check_finite
from dualres_plugin.router.checkpoint import check_tensors


def export_router(checkpoint: Path | str, out: Path | str, config: Any = None) -> Path:
    """Write the router of a checkpoint that mmdet trained as a router folder, for any host.

    Args:
        checkpoint: a `.pth` of a routed detector.
        out: the folder to write.
        config: config file, which the host runs as code, or `Config`; None reads the one that mmengine stores in its
            checkpoints, as data.

    Returns:
        The folder.

    Raises:
        DualResError: If the file is missing, holds no router, or does not fit the config.
    """
    from mmengine.runner import CheckpointLoader

    if not Path(checkpoint).is_file():
        raise DualResError(f"checkpoint '{checkpoint}' does not exist.")
    stored = CheckpointLoader.load_checkpoint(str(checkpoint), map_location="cpu")
    state = stored.get("state_dict", stored)
    own = {key.removeprefix("router."): value for key, value in state.items() if key.startswith("router.")}
    if not own:
        raise DualResError(f"checkpoint '{checkpoint}' holds no router: it is of a plain detector.")
    # The router alone is built: the detector's config, which may name any class, is not needed.
    router = build_router(_router_settings(_model_of(stored, config, checkpoint)))
    check_finite(own, f"checkpoint '{checkpoint}'")
    check_tensors(router.state_dict(), own, checkpoint, router.config.backbone)
    router.load_state_dict(own)
    quantiles = state.get("score_quantiles")
    known = quantiles is not None and bool(torch.isfinite(quantiles).all())
    router.quantiles = [float(q) for q in quantiles] if known else []
    return router.save(out)


def _router_settings(model: dict[str, Any]) -> Any:
    """What the config says of the router; its weights are in the checkpoint."""
    router = model.get("router", (model.get("dualres") or {}).get("router"))
    return {k: v for k, v in router.items() if k != "weights"} if isinstance(router, dict) else router


def _model_of(stored: dict[str, Any], config: Any, checkpoint: Path | str) -> dict[str, Any]:
    """The model's config: from a file that the user named, which the host runs, or from the checkpoint, as data."""
    if config is not None:
        model = (config if isinstance(config, Config) else Config.fromfile(config)).get("model")
    else:
        text = stored.get("meta", {}).get("cfg")
        if not isinstance(text, str) or not text:
            raise DualResError(f"checkpoint '{checkpoint}' does not hold its config: give the config file as well.")
        try:
            model = read_assignment(text, "model")
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise DualResError(
                f"the config inside checkpoint '{checkpoint}' is more than plain values, and code from a checkpoint is "
                "not run: name the config file with --config."
            ) from None
    if not isinstance(model, dict) or model.get("type") != "DualResDetector":
        raise DualResError("that config does not describe a routed detector: it has no dualres key.")
    return model


def read_assignment(text: str, name: str) -> Any:
    """The value that Python text assigns to a name, where it is plain: nothing of the text is run.

    Args:
        text: of a config, as mmengine writes it: assignments of numbers, texts, lists and `dict(...)`.
        name: of the variable.

    Returns:
        The last value; None where there is none.

    Raises:
        ValueError: If the value is more than plain values.
        SyntaxError: If the text is no Python.
    """
    values = [
        node.value
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)
    ]
    return _plain_value(values[-1]) if values else None


def _plain_value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id != "dict" or node.args:
            raise ValueError("a call")
        return {_key(keyword.arg): _plain_value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        return {_key(key and ast.literal_eval(key)): _plain_value(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_plain_value(item) for item in node.elts]
        return tuple(items) if isinstance(node, ast.Tuple) else items
    return ast.literal_eval(node)


def _key(key: Any) -> Any:
    if key is None:  # `**other`
        raise ValueError("an unpacked dict")
    return key
