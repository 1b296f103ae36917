"""The backbone that a router's description asks for, as data: checked against lists, then built.

A router folder may come from anybody. The host's parser would evaluate `activation` as Python and take any module by
name, so nothing of a description reaches it but rows of known layers with plain numbers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from dualres_plugin.adapters.ultralytics.patches import default_activation
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.schema import shown

# The layers in the backbones of YOLO v3 to v12 and YOLO26, and how many of a layer's first arguments are channels.
LAYERS = {
    "A2C2f": 1, "AConv": 1, "ADown": 1, "Bottleneck": 1, "BottleneckCSP": 1, "C1": 1, "C2": 1, "C2PSA": 1, "C2f": 1,
    "C2fCIB": 1, "C2fPSA": 1, "C3": 1, "C3Ghost": 1, "C3k2": 1, "C3x": 1, "Conv": 1, "DWConv": 1, "ELAN1": 3,
    "Focus": 1, "GhostBottleneck": 1, "GhostConv": 1, "PSA": 1, "RepC3": 1, "RepNCSPELAN4": 3, "SCDown": 1, "SPP": 1,
    "SPPELAN": 2, "SPPF": 1, "nn.Identity": 0, "nn.MaxPool2d": 0, "nn.ZeroPad2d": 0,
}  # fmt: skip
ACTIVATIONS: dict[str, type[nn.Module]] = {
    f"nn.{kind.__name__}()": kind
    for kind in (nn.ELU, nn.GELU, nn.Hardswish, nn.LeakyReLU, nn.Mish, nn.ReLU, nn.ReLU6, nn.SiLU)
}
WORDS = {"None": None, "True": True, "False": False}  # as YAML files of the host write them
ROWS, REPEATS, CHANNELS, SMALL, FACTOR = 64, 64, 8192, 16, 4.0  # the most of each; the host's own stay far below
DEEP = ("scales", "scale", "depth_multiple", "width_multiple", "channels", "activation")


def describe(yaml: dict[str, Any]) -> dict[str, Any]:
    """What `build` needs of a model's YAML: its backbone, and how it is scaled.

    Args:
        yaml: `model.yaml` of a detector.

    Raises:
        DualResError: If `build` would refuse it.
    """
    kept = {key: yaml[key] for key in ("backbone", *DEEP) if yaml.get(key) is not None}
    description = {"yaml": kept, "layers": len(kept["backbone"])}
    if "scales" in kept:
        name = _scale_name(kept)
        kept |= {"scale": name, "scales": {name: kept["scales"][name]}}
    _checked(description)
    return description


def build(description: dict[str, Any]) -> list[nn.Module]:
    """The layers of a description with random weights.

    Args:
        description: of `describe`, or read from a router folder: then it may hold anything.

    Raises:
        DualResError: If it asks for anything but known layers with plain arguments.
    """
    with torch.device("cpu"):  # we may be on the meta device: what the host makes once, as it is imported, must be real
        from ultralytics.nn.tasks import parse_model
        from ultralytics.utils.torch_utils import initialize_weights

    yaml, activation = _checked(description)
    try:
        with default_activation(activation):
            layers = parse_model(yaml, ch=int(yaml["channels"]), verbose=False)[0]
    except Exception as error:  # arguments that a layer does not take
        raise _refusal(f"the host cannot build it ({type(error).__name__}: {error})") from None
    initialize_weights(layers)
    return list(layers)


def _refusal(reason: str) -> DualResError:
    return DualResError(
        f"the router's description of an Ultralytics backbone is refused: {reason}. Only the layers of YOLO v3 to v12 "
        "and YOLO26, with plain numbers, are built from a file; nothing in it was run."
    )


def _checked(description: Any) -> tuple[dict[str, Any], nn.Module | None]:
    """A YAML for the host's parser, made of checked values alone, and the activation that stands for its default."""
    yaml = description.get("yaml") if isinstance(description, dict) else None
    rows = yaml.get("backbone") if isinstance(yaml, dict) else None
    if not isinstance(yaml, dict) or not isinstance(rows, list) or not 0 < len(rows) <= ROWS:
        raise _refusal(f"it has no list of 1 to {ROWS} layers")
    if description.get("layers") != len(rows):
        raise _refusal(f"it tells of {shown(description.get('layers'))} layers and lists {len(rows)}")
    if yaml.get("channels", 3) != 3:
        raise _refusal(f"channels={shown(yaml['channels'])}, and a router sees the 3 of RGB")
    made: dict[str, Any] = {"backbone": [_row(row) for row in rows], "head": [], "channels": 3, "nc": 1}
    if yaml.get("scales"):
        name = _scale_name(yaml)
        made |= {"scale": name, "scales": {name: _scale(yaml["scales"][name])}}
    else:
        made |= {key: _number(yaml[key], key, FACTOR) for key in ("depth_multiple", "width_multiple") if key in yaml}
    return made, _activation(yaml.get("activation"))


def _scale_name(yaml: dict[str, Any]) -> str:
    """The scale that is chosen; the first where none is, as the host has it."""
    scales = yaml["scales"]
    name = yaml.get("scale") or (next(iter(scales), None) if isinstance(scales, dict) else None)
    if not isinstance(scales, dict) or not isinstance(name, str) or len(name) > 8 or name not in scales:
        raise _refusal(f"it has no scale {shown(name)}")
    return name


def _scale(values: Any) -> list[float]:
    if not isinstance(values, list) or len(values) != 3:
        raise _refusal(f"a scale is depth, width and most channels, not {shown(values)}")
    return [_number(v, "a scale", most) for v, most in zip(values, (FACTOR, FACTOR, float(CHANNELS)))]


def _row(row: Any) -> list[Any]:
    """A layer: where its input comes from, how often it is repeated, its name and its arguments."""
    if not isinstance(row, list) or len(row) != 4:
        raise _refusal(f"a layer is [from, repeats, name, arguments], not {shown(row)}")
    source, repeats, name, arguments = row
    if not isinstance(name, str) or name not in LAYERS:
        raise _refusal(f"layer {shown(name)} is not known")
    if source != -1 or isinstance(source, bool):
        raise _refusal(f"'{name}' reads from {shown(source)}, and a router runs layers one after another (-1)")
    if not isinstance(repeats, int) or isinstance(repeats, bool) or not 1 <= repeats <= REPEATS:
        raise _refusal(f"'{name}' is repeated {shown(repeats)} times")
    if not isinstance(arguments, list) or len(arguments) > 10:
        raise _refusal(f"the arguments of '{name}' are {shown(arguments)}")
    channels = LAYERS[name]
    return [
        -1,
        repeats,
        name,
        [_argument(a, name, CHANNELS if i < channels else SMALL) for i, a in enumerate(arguments)],
    ]


def _argument(value: Any, name: str, most: int) -> Any:
    if isinstance(value, list) and len(value) <= 8:
        return [_number(v, name, SMALL) for v in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and value in WORDS:
        return WORDS[value]
    return _number(value, name, most)


def _number(value: Any, name: str, most: float) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _refusal(f"{shown(value)} of '{name}' is no number")
    if not -1 <= value <= most:
        raise _refusal(f"{shown(value)} of '{name}' is not within -1 and {most:g}")
    return value


def _activation(text: Any) -> nn.Module | None:
    if not text:
        return None
    if not isinstance(text, str) or text.removeprefix("torch.") not in ACTIVATIONS:
        raise _refusal(f"activation {shown(text)} is not known")
    return ACTIVATIONS[text.removeprefix("torch.")]()
