"""Ultralytics detectors for ONNX: their modules in export mode, and their own exporter for fixed shapes."""

from __future__ import annotations

import logging
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from dualres_plugin.common.card import Postprocess, Preprocess
from dualres_plugin.common.errors import DualResError
from dualres_plugin.hosts.export_plan import ExportPlan

CONF, IOU, MAX_DET = 0.25, 0.7, 300  # the host's own `predict`


def export_plan(net: Any, scale: float, stride: int, antialias: bool, nms: bool) -> ExportPlan:
    """How a network goes into a graph: the host's letterbox, its decoded boxes and its NMS."""
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
    """A fused copy in the host's export mode: (1, 3, H, W) -> (1, 4 + classes, N), or (1, 300, 6) with NMS."""
    from ultralytics.nn.modules import C2f

    net = deepcopy(net).float().eval()
    net.requires_grad_(False)
    net = net.fuse(verbose=False)
    head = net.model[-1]
    head.export, head.dynamic, head.format, head.shape = True, dynamic, "onnx", None
    head.xyxy = nms
    # Its cap on detections is taken at export: the fewest anchors that any size gives.
    head.max_det = min(MAX_DET, sum(int(shape[0] / s) * int(shape[1] / s) for s in net.stride.tolist()))
    for module in net.modules():
        if isinstance(module, C2f):
            module.forward = module.forward_split  # a cleaner graph, as the host's exporter has it
    if not nms:
        return net
    return with_nms(net, dynamic)


def with_nms(net: Any, dynamic: bool) -> nn.Module:
    """The host's module for NMS in the graph.

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

    Returns:
        The file that it wrote into `folder`.

    Raises:
        DualResError: If the host's exporter fails.
    """
    from ultralytics.engine.exporter import Exporter
    from ultralytics.utils import LOGGER

    copy = deepcopy(net).float()
    copy.pt_path = str(folder / f"{shape[0]}x{shape[1]}.pt")  # the host writes beside this name
    end2end = bool(getattr(net, "end2end", False))
    settings = {
        "format": "onnx", "imgsz": list(shape), "batch": 1, "opset": 18, "simplify": _has_slim(), "device": "cpu",
        "nms": True if nms else (False if end2end else None), "conf": CONF, "iou": IOU, "max_det": MAX_DET,
    }  # fmt: skip
    level = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    try:
        with torch.random.fork_rng(devices=[]):
            return Path(Exporter(overrides=settings)(model=copy))
    except Exception as error:
        raise DualResError(f"the host's own exporter failed at {shape[0]}x{shape[1]}: {error}") from error
    finally:
        LOGGER.setLevel(level)


def _has_slim() -> bool:
    from importlib.util import find_spec

    return find_spec("onnxslim") is not None
