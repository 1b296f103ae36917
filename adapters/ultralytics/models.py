"""Loading a `YOLO` and finding the network in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch import nn

from dualres_plugin.adapters.ultralytics.routed import RoutedYolo
from dualres_plugin.common.errors import DualResError
from dualres_plugin.hosts.registry import unwrapped


def load_yolo(path: str) -> Any:
    """`YOLO(path)`, with an error that says where a missing file comes from.

    Raises:
        DualResError: If the file is missing or is no detector.
    """
    if Path(path).name.startswith("yolov6") and path.endswith(".pt") and not Path(path).is_file():
        raise DualResError(
            f"'{path}' does not exist, and Ultralytics has no such download: it ships yolov6n.yaml only. Train one "
            "(examples/train_ultralytics.py yolov6n.yaml --data …, or YOLO('yolov6n.yaml').train(data=…)). "
            "Checkpoints of Meituan's YOLOv6 repository have another format."
        )
    from ultralytics.models import YOLO

    _check_there(path)
    try:
        return YOLO(path)
    except FileNotFoundError as error:
        raise DualResError(f"cannot load detector '{path}': the file does not exist ({error}).") from None
    except Exception as error:
        raise DualResError(f"cannot load '{path}' as an Ultralytics detector: {error}") from None


def _check_there(path: str) -> None:
    """A missing file must not send the host to the network, but for a bare name of its own downloads (yolo11n.pt)."""
    from ultralytics.utils import SETTINGS
    from ultralytics.utils.checks import check_yolov5u_filename
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

    if not path.endswith(".pt") or Path(path).is_file():
        return
    name = str(check_yolov5u_filename(path, verbose=False))
    if (Path(SETTINGS["weights_dir"]) / name).is_file():
        return
    missing = f"cannot load detector '{path}': the file does not exist"
    if name not in GITHUB_ASSETS_NAMES:
        raise DualResError(
            f"{missing}. Give the .pt of a training, or a bare name that Ultralytics downloads, such as yolo11n.pt."
        )
    if os.environ.get("YOLO_OFFLINE", "").lower() in ("1", "true"):
        raise DualResError(
            f"{missing}, and YOLO_OFFLINE keeps Ultralytics from downloading it. Unset that, or put the file here."
        )


def own_size(detector: Any, net: Any) -> int:
    """What the host's own `predict` and `val` run at: the `imgsz` of the training, or the host's default.

    Args:
        detector: a `YOLO`, or a bare network.
        net: the network in it.

    Returns:
        Pixels; the longer side where `imgsz` is (height, width).
    """
    from ultralytics.utils import DEFAULT_CFG

    settings = getattr(detector, "overrides", None)
    if not isinstance(settings, dict):  # a bare network knows what it was trained with
        settings = getattr(net, "args", None)
    size = (settings if isinstance(settings, dict) else {}).get("imgsz") or DEFAULT_CFG.imgsz
    return int(max(size) if isinstance(size, (list, tuple)) else size)


def network_of(detector: Any) -> nn.Module:
    """The detection network of a `YOLO`, or the network itself.

    Raises:
        DualResError: If it is an exported model, of another task, an RT-DETR, or routed already.
    """
    if getattr(detector, "_dualres", None) is not None:
        raise DualResError("this YOLO is routed by attach already: call detach(yolo) first.")
    net: Any = unwrapped(getattr(detector, "model", detector))
    if isinstance(net, RoutedYolo) or isinstance(detector, RoutedYolo):
        raise DualResError(
            "this detector is routed already, and would be routed twice: give the plain YOLO that was wrapped."
        )
    if isinstance(net, str):
        raise DualResError(
            f"'{net}' is an exported model. DualRes routes a PyTorch detector: load the .pt it was exported from."
        )
    net = net if hasattr(net, "stride") else detector
    task = getattr(net, "task", None) or getattr(detector, "task", "detect")
    if task != "detect":
        raise DualResError(f"this is a '{task}' model: DualRes routes object detectors (task 'detect').")
    layers = getattr(net, "model", None)
    if isinstance(layers, nn.Sequential) and type(layers[-1]).__name__ == "RTDETRDecoder":
        raise DualResError(
            "this is an RT-DETR: it stretches photos to a square and gives its boxes as shares of it, which DualRes "
            "does not handle. Give a YOLO (v3 to v12, YOLO26), or a model of another host."
        )
    found: nn.Module = net
    return found
