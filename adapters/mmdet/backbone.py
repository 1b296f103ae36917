"""The backbone of an mmdet detector as the router's frozen features: blocks in forward order, rebuilt from JSON.

A router folder may come from anybody, and the host's registry imports whatever dotted name a `type` gives. So the
class is taken from a list here, and its arguments are numbers, switches and known words.
"""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.schema import shown

BACKBONES = ("CSPDarknet", "CSPNeXt", "Res2Net", "ResNeSt", "ResNeXt", "ResNet", "ResNetV1d")
WORDS = ("caffe", "pytorch", "P5", "P6")
MOST = 4096  # of any number: channels are the largest
FACTORS = {"deepen_factor": 4, "widen_factor": 4, "num_stages": 4, "expand_ratio": 4}  # these multiply the rest
NUMBERS = (
    "base_channels", "base_width", "depth", "dilations", "frozen_stages", "groups", "in_channels", "out_indices",
    "radix", "reduction_factor", "scales", "spp_kernal_sizes", "spp_kernel_sizes", "stem_channels", "strides",
    *FACTORS,
)  # fmt: skip
SWITCHES = (
    "avg_down", "avg_down_stride", "channel_attention", "deep_stem", "norm_eval", "use_depthwise", "with_cp",
    "zero_init_residual",
)  # fmt: skip
# Layers by name in a backbone's settings, and what goes with each; where `type` may be a few of the host's names.
NESTED: dict[str, tuple[str, ...]] = {
    "act_cfg": ("ELU", "GELU", "HSwish", "LeakyReLU", "Mish", "PReLU", "ReLU", "ReLU6", "Sigmoid", "SiLU", "Swish"),
    "conv_cfg": ("Conv", "Conv2d", "ConvWS"),
    "norm_cfg": ("BN", "BN2d", "GN", "IN", "SyncBN"),
}
NESTED_KEYS = ("type", "affine", "eps", "inplace", "momentum", "negative_slope", "num_groups", "requires_grad")
NEVER = ("init_cfg", "pretrained")  # weights come from the router's own file
ONLY_NONE = ("arch_ovewrite", "dcn", "plugins", "stage_with_dcn")  # more code, or sizes without a bound


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
    settings = {key: value for key, value in model.backbone.to_dict().items() if key not in NEVER}
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

    Args:
        description: of `backbone_of`, or read from a router folder: then it may hold anything.

    Raises:
        DualResError: If it asks for anything but a known backbone with plain settings.
    """
    with torch.device("cpu"):  # we may be on the meta device: what the host makes once, as it is imported, must be real
        from mmdet.models import backbones

    name, settings = _checked_settings(description.get("backbone"))
    _checked_input(description)
    try:  # the class itself: the host's registry would import a dotted name
        backbone = getattr(backbones, name)(**settings, init_cfg=None)
    except Exception as error:  # arguments that the backbone does not take
        raise _refusal(f"mmdet cannot build it ({type(error).__name__}: {error})") from None
    return _blocks(backbone, description)


def _blocks(backbone: nn.Module, description: dict[str, Any]) -> list[nn.Module]:
    entry = HostInput(*_checked_input(description))
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


# -- descriptions, which are data --------------------------------------------------------------------------


def _checked_settings(settings: Any) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a backbone class of mmdet, from a config that may hold anything."""
    if not isinstance(settings, dict):
        raise _refusal(f"its backbone is {shown(settings)}")
    name = settings.get("type")
    name = name.removeprefix("mmdet.") if isinstance(name, str) else name
    if name not in BACKBONES:
        raise _refusal(f"backbone {shown(name)} is not one of {', '.join(BACKBONES)}")
    made = {}
    for key, value in settings.items():
        if key in ("type", "_scope_", *NEVER) or (key in ONLY_NONE and not _any(value)):
            continue
        made[key] = _value(key, value)
    return name, made


def _checked_input(description: dict[str, Any]) -> tuple[bool, list[float], list[float]]:
    """How a description has images normalised: whether in BGR, 3 means and 3 deviations, 0 to 255."""
    bgr: Any = description.get("bgr")
    mean: Any = description.get("mean")
    std: Any = description.get("std")
    for name, values, least in (("mean", mean, -1e4), ("std", std, 1e-6)):
        if not isinstance(values, list) or len(values) != 3 or not all(_is_number(v, least, 1e4) for v in values):
            raise _refusal(f"{name}={shown(values)}")
    if not isinstance(bgr, bool):
        raise _refusal(f"bgr={shown(bgr)}")
    return bgr, mean, std


def _refusal(reason: str) -> DualResError:
    return DualResError(
        f"the router's description of an mmdet backbone is refused: {reason}. Only known backbones with plain settings "
        "are built from a file; nothing in it was run."
    )


def _value(key: str, value: Any) -> Any:
    if key in NESTED:
        return _nested(key, value)
    if value is None and key in (*NUMBERS, *SWITCHES):
        return None
    if key in SWITCHES and isinstance(value, bool):
        return value
    if key in ("arch", "style") and value in WORDS:
        return value
    if key in NUMBERS:
        most = FACTORS.get(key, MOST)
        listed = value if isinstance(value, list) else [value]
        if len(listed) <= 16 and all(_is_number(v, -1, most) for v in listed):
            return tuple(value) if isinstance(value, list) else value
    raise _refusal(f"{shown(key)}={shown(value)}")


def _nested(key: str, value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, dict) or value.get("type") not in NESTED[key] or set(value) - set(NESTED_KEYS):
        raise _refusal(f"{key}={shown(value)}")
    for name, item in value.items():
        if name != "type" and not isinstance(item, bool) and not _is_number(item, 0, MOST):
            raise _refusal(f"{key}.{name}={shown(item)}")
    return dict(value)


def _any(value: Any) -> bool:
    """Is something wanted? None, and False for every stage, is nothing."""
    return any(v is not False for v in value) if isinstance(value, (list, tuple)) else value is not None


def _is_number(value: Any, least: float, most: float) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and least <= value <= most
