"""Ultralytics detectors for ONNX: their modules in export mode, and their own exporter for fixed shapes."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from dualres_plugin.adapters.ultralytics.patches import quiet, with_split_forward
from dualres_plugin.common.card import Postprocess, Preprocess
from dualres_plugin.common.errors import DualResError
from dualres_plugin.hosts.export_plan import ExportPlan

CONF, IOU, MAX_DET = 0.25, 0.7, 300  # the host's own `predict`


def export_plan(net: Any, scale: float, stride: int, antialias: bool, nms: bool) -> ExportPlan:
    """How a network goes into a graph: the host's letterbox, its decoded boxes and its NMS.

    Args:
        net: an Ultralytics `DetectionModel`.
        scale: low / high ratio.
        stride: of the network, in pixels.
        antialias: the low input is averaged, not sampled.
        nms: the host's NMS is inside the graph.
    """
    rows = nms or bool(getattr(net, "end2end", False))
    post = Postprocess(
        layout="rows" if rows else "anchors",
        boxes="xywh",
        nms=not rows,
        conf=CONF,
        iou=IOU,
        max_det=MAX_DET,
        floor=CONF if nms else 0.0,
    )
    return ExportPlan(Preprocess(multiple=stride), post, scale, stride, antialias=antialias)


def export_branch(net: Any, dynamic: bool, nms: bool, shape: tuple[int, int]) -> nn.Module:
    """A fused copy in the host's export mode: (1, 3, H, W) -> (1, 4 + classes, N), or (1, 300, 6) with NMS.

    Args:
        net: an Ultralytics `DetectionModel`.
        dynamic: the trace must hold for other sizes too.
        nms: with the host's NMS inside.
        shape: (height, width) that it will be traced with.

    Raises:
        DualResError: If NMS is asked of an end-to-end network.
    """
    net = deepcopy(net).float().eval()
    net.requires_grad_(False)
    net = net.fuse(verbose=False)
    head = net.model[-1]
    head.export, head.dynamic, head.format, head.shape = True, dynamic, "onnx", None
    head.xyxy = nms
    # Its cap on detections is taken at export: the fewest anchors that any size gives.
    head.max_det = min(MAX_DET, sum(int(shape[0] / s) * int(shape[1] / s) for s in net.stride.tolist()))
    ready = with_split_forward(net)
    return with_nms(ready, dynamic) if nms else ready


def with_nms(net: Any, dynamic: bool) -> nn.Module:
    """The host's module for NMS in the graph: (1, 3, H, W) -> (1, 300, 6).

    Raises:
        DualResError: If the network has no boxes left to suppress.
    """
    # Its forward imports torchvision, and an import while a trace runs would be traced.
    import torchvision  # noqa: F401
    from ultralytics.engine.exporter import NMSModel

    if bool(getattr(net, "end2end", False)):
        raise DualResError("this detector is end-to-end and needs no NMS: export without nms.")
    args = SimpleNamespace(
        format="onnx", dynamic=dynamic, batch=1, conf=CONF, iou=IOU, max_det=MAX_DET, agnostic_nms=False, opset=18
    )
    return NMSModel(net, args)


def export_static(net: Any, shape: tuple[int, int], nms: bool, folder: Path) -> Path:
    """One fixed shape by the host's own exporter, with its own settings.

    Args:
        net: an Ultralytics `DetectionModel`.
        shape: (height, width) of the graph's input.
        nms: with the host's NMS inside.
        folder: to write into.

    Returns:
        The file that it wrote into `folder`.

    Raises:
        DualResError: If the host's exporter fails.
    """
    from ultralytics.engine.exporter import Exporter

    copy = deepcopy(net).float()
    copy.pt_path = str(folder / f"{shape[0]}x{shape[1]}.pt")  # the host writes beside this name
    end2end = bool(getattr(net, "end2end", False))
    settings = {
        "format": "onnx", "imgsz": list(shape), "batch": 1, "opset": 18, "simplify": _has_slim(), "device": "cpu",
        "nms": True if nms else (False if end2end else None), "conf": CONF, "iou": IOU, "max_det": MAX_DET,
    }  # fmt: skip
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            return Path(Exporter(overrides=settings)(model=copy))
    except Exception as error:
        raise DualResError(f"the host's own exporter failed at {shape[0]}x{shape[1]}: {error}") from error


def _has_slim() -> bool:
    from importlib.util import find_spec

    return find_spec("onnxslim") is not None
