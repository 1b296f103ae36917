"""Router folders that must be refused: each a change to a good one. `{marker}` is a file that their code would make."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from dualres_plugin.router.network import ResolutionRouter

Meta = dict[str, Any]

YOLO = {"backbone": [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [16, 3, 2]]], "channels": 3}
RESNET = {"type": "ResNet", "depth": 18, "base_channels": 8, "norm_cfg": {"type": "BN", "requires_grad": True}}


def yolo(**changes: Any) -> Meta:
    """A description of an Ultralytics backbone."""
    rows = {**YOLO, **changes}
    return {"backbone": "ultralytics", "description": {"yaml": rows, "layers": len(rows["backbone"])}}


def mmdet(**changes: Any) -> Meta:
    """A description of an mmdet backbone."""
    settings = {**RESNET, **changes}
    normalised = {"bgr": True, "mean": [0.0] * 3, "std": [1.0] * 3}
    return {"backbone": "mmdet", "description": {"backbone": settings, **normalised}}


def row(*layer: Any) -> Meta:
    """A description with one strange layer."""
    return yolo(backbone=[*YOLO["backbone"], list(layer)])


SHELL = "__import__('pathlib').Path('{marker}').touch()"
TOUCH = {"type": "pathlib.Path.touch", "self": "{marker}"}

# Config entries of router.json that would run code, read files, reach the network or fill the memory.
DESCRIPTIONS: dict[str, Meta] = {
    "activation is code": yolo(activation=SHELL),
    "activation is code behind a name": yolo(activation=f"nn.ReLU() or {SHELL}"),
    "activation of another module": yolo(activation="torch.hub.load()"),
    "layer by a function's name": row(-1, 1, "attempt_load_one_weight", ["{marker}"]),
    "layer of the host that downloads": row(-1, 1, "TorchVision", [512, "resnet18", "DEFAULT", True, 2]),
    "layer of torch": row(-1, 1, "nn.LazyLinear", [8]),
    "layer of torchvision": row(-1, 1, "torchvision.ops.misc.Conv2dNormActivation", [8, 8]),
    "layer that is no text": row(-1, 1, ["Conv"], [8]),
    "argument is code": row(-1, 1, "Conv", [SHELL, 3, 2]),
    "argument names a local variable": row(-1, 1, "Conv", ["d", 3, 2]),
    "argument is a dict": row(-1, 1, "Conv", [{"a": 1}]),
    "too many channels": row(-1, 1, "Conv", [10**9, 3, 1]),
    "a kernel without end": row(-1, 1, "Conv", [8, 4000, 1]),
    "repeats without end": row(-1, 10**9, "Bottleneck", [8]),
    "repeats as text": row(-1, "1", "Conv", [8]),
    "NaN as an argument": row(-1, 1, "C3k2", [8, False, float("nan")]),
    "reads another layer": row(0, 1, "Conv", [8, 3, 1]),
    "too many layers": yolo(backbone=[[-1, 1, "nn.Identity", []]] * 65),
    "width without end": yolo(width_multiple=1e9),
    "scale that is missing": yolo(scales={"n": [1, 1, 64]}, scale="z"),
    "scale of words": yolo(scales={"n": [SHELL, 1, 64]}, scale="n"),
    "no layers": yolo(backbone=[]),
    "a yaml that is a path": {"backbone": "ultralytics", "description": {"yaml": "/etc/x.yaml", "layers": 2}},
    "wrong arguments of a layer": row(-1, 1, "C2PSA", [8, 1, 1, 1, 1, 1]),
    "mmdet: nested function": {
        **mmdet(),
        "description": {"backbone": {"type": "SingleStageDetector", "backbone": TOUCH}, "bgr": True},
    },
    "mmdet: function": mmdet(type="os.system", command="touch {marker}"),
    "mmdet: dotted class": mmdet(type="mmdet.models.backbones.ResNet"),
    "mmdet: norm is a function": mmdet(norm_cfg={"type": "os.system", "command": "touch {marker}"}),
    "mmdet: norm is a dotted class": mmdet(norm_cfg={"type": "torch.nn.BatchNorm2d"}),
    "mmdet: conv with a weights file": mmdet(conv_cfg={"type": "Conv2d", "path": "/x"}),
    "mmdet: a plugin": mmdet(plugins=[{"cfg": TOUCH, "position": "after_conv1"}]),
    "mmdet: channels without end": mmdet(base_channels=10**9),
    "mmdet: unknown depth": mmdet(depth=19),
    "mmdet: unknown key": mmdet(out="{marker}"),
    "mmdet: std 0": {**mmdet(), "description": {**mmdet()["description"], "std": [0, 1, 1]}},
    "timm from a hub": {"backbone": "timm:hf-hub:someone/model"},
    "timm from a folder": {"backbone": "timm:local-dir:/tmp/x"},
    "timm with a path": {"backbone": "timm:../resnet18"},
    "a detector of torchvision": {"backbone": "fasterrcnn_resnet50_fpn"},
    "another adapter": {"backbone": "torchvision", "description": {"weights": "DEFAULT"}},
    "no adapter": {"backbone": "os", "description": {"system": "touch {marker}"}},
    "nested without end": {"description": {"a": json.loads("[" * 40 + "]" * 40)}},
    "input size": {"input_size": 10**6},
    "input size below 16": {"input_size": 1},
    "hidden below 0": {"hidden": -4},
    "hidden without end": {"hidden": 10**9},
    "std 0": {"std": [0.0, 1.0, 1.0]},
    "mean of text": {"mean": ["0", "0", "0"]},
    "pool beyond the blocks": {"pool": [99]},
    "name of the wrong type": {"backbone": 3},
}

# Whole files: what they hold is put where router.json or router.safetensors was.
META: dict[str, Callable[[Meta], Any]] = {
    "NaN in mean": lambda m: m["config"].update(mean=[float("nan")] * 3),
    "infinite std": lambda m: m["config"].update(std=[float("inf")] * 3),
    "NaN quantile": lambda m: m.update(score_quantiles=[0.0, float("nan")]),
    "infinite quantile": lambda m: m.update(score_quantiles=[0.0, float("inf")]),
    "reversed quantiles": lambda m: m.update(score_quantiles=[1.0, 0.0]),
    "one quantile": lambda m: m.update(score_quantiles=[1.0]),
    "too many quantiles": lambda m: m.update(score_quantiles=[0.0] * 20_000),
    "config is a number": lambda m: m.update(config=5),
    "info is a list": lambda m: m.update(info=[1]),
    "larger than a megabyte": lambda m: m.update(info={"x": "y" * 1_100_000}),
    "a number of thousands of digits": lambda m: m["config"].update(hidden="@digits@"),
}
TENSORS: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "NaN weight": lambda t: t["head.0.weight"].fill_(float("nan")),
    "infinite weight": lambda t: t["head.0.bias"].fill_(float("inf")),
}


def damaged(folder: Path, name: str, marker: Path) -> Path:
    """A router folder of the corpus.

    Args:
        folder: is made.
        name: of an entry of `DESCRIPTIONS`, `META` or `TENSORS`.
        marker: stands for `{marker}`.
    """
    torch.manual_seed(0)
    router = ResolutionRouter(backbone="tiny", input_size=32).eval()
    router.calibrate([0.0, 1.0])
    router.save(folder)
    meta = json.loads((folder / "router.json").read_text())
    if name in DESCRIPTIONS:
        changes = json.loads(json.dumps(DESCRIPTIONS[name]).replace("{marker}", str(marker)))
        meta["config"].update(changes)
    elif name in META:
        META[name](meta)
    else:
        tensors = load_file(str(folder / "router.safetensors"))
        TENSORS[name](tensors)
        save_file(tensors, str(folder / "router.safetensors"))
    (folder / "router.json").write_text(json.dumps(meta).replace('"@digits@"', "9" * 5000))
    return folder


NAMES = [*DESCRIPTIONS, *META, *TENSORS]
# The two that the hosts themselves would have run.
CRITICAL = ("activation is code", "mmdet: nested function", "mmdet: function")
