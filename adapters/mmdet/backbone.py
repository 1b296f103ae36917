"""The backbone of an mmdet detector as the router's frozen features: blocks in forward order, rebuilt from JSON."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from dualres_plugin.common.errors import DualResError


class HostInput(nn.Module):
    """RGB in [0, 1] as the detector's own preprocessor would hand it over. Has no learned part.

    Args:
        bgr: the detector wants BGR.
        mean: 3 values in the detector's channel order, 0 to 255.
        std: 3 deviations, likewise.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, bgr: bool, mean: list[float], std: list[float]):
        super().__init__()
        self.bgr = bgr
        self.register_buffer("scale", 255 / torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", torch.tensor(mean).view(1, 3, 1, 1) / 255, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) RGB in [0, 1] -> the same, normalised."""
        return ((images.flip(1) if self.bgr else images) - self.shift) * self.scale


def backbone_of(detector: Any) -> tuple[list[nn.Module], dict[str, Any]]:
    """Copies of the blocks with their weights, and the description that `build` takes.

    Raises:
        DualResError: If the detector was not built from a config, or its backbone has no list of stages.
    """
    config = getattr(detector, "cfg", None)
    if config is None or "model" not in config:
        raise DualResError("this mmdet detector has no .cfg: build it with init_detector to use its backbone.")
    model = config.model.detector if "detector" in config.model else config.model
    settings = model.backbone.to_dict()
    settings.pop("init_cfg", None)
    pre = detector.data_preprocessor
    normalised = bool(getattr(pre, "_enable_normalize", False))
    description = {
        "backbone": _plain(settings),
        "bgr": not getattr(pre, "_channel_conversion", False),
        "mean": [float(v) for v in pre.mean.flatten()] if normalised else [0.0] * 3,
        "std": [float(v) for v in pre.std.flatten()] if normalised else [1.0] * 3,
    }
    return _blocks(deepcopy(detector.backbone).float(), description), description


def build(description: dict[str, Any]) -> list[nn.Module]:
    """The blocks of a description with random weights.

    Raises:
        DualResError: If the backbone has no list of stages.
    """
    import mmdet.models  # noqa: F401 - registers the backbones
    from mmdet.registry import MODELS

    settings = {**description["backbone"], "init_cfg": None}
    return _blocks(MODELS.build({**settings, "_scope_": "mmdet"}), description)


def _blocks(backbone: nn.Module, description: dict[str, Any]) -> list[nn.Module]:
    entry = HostInput(description["bgr"], description["mean"], description["std"])
    first, *rest = _stages(backbone)
    return [nn.Sequential(entry, first), *rest]


def _stages(backbone: Any) -> list[nn.Module]:
    """CSPDarknet and CSPNeXt list their stages; ResNets list theirs after a stem."""
    names = getattr(backbone, "layers", None)
    if isinstance(names, list):
        return [getattr(backbone, name) for name in names]
    if hasattr(backbone, "res_layers"):
        stem = backbone.stem if backbone.deep_stem else nn.Sequential(backbone.conv1, backbone.norm1, backbone.relu)
        return [nn.Sequential(stem, backbone.maxpool), *(getattr(backbone, name) for name in backbone.res_layers)]
    raise DualResError(
        f"the stages of the mmdet backbone {type(backbone).__name__} are not known here: name another backbone."
    )


def _plain(value: Any) -> Any:
    """Tuples as lists, so that the description is the same before and after JSON."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
