"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Detector = Annotated[
    str,
    typer.Argument(
        metavar="DETECTOR",
        help="HOST:NAME[,key=value]: ultralytics:yolo11n.pt, torchvision:NAME,weights=FILE,num_classes=N, "
        "mmdet:config.py,weights.pth, effdet:NAME,checkpoint=FILE. A bare .pt is Ultralytics.",
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps …")]
Seed = Annotated[int, typer.Option(help="Of everything random; the same seed gives the same result.")]


def on_device(adapter: Any, device: str) -> Any:
    """Move a detector; raises DualResError for a device that is not there."""
    from dualres_plugin.common.errors import DualResError

    if device == "cpu":
        return adapter
    try:
        return adapter.to(device)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise DualResError(f"device '{device}' is not available: {error}") from None


def short_name(detector: str) -> str:
    """`ultralytics:/far/away/yolo11n.pt` -> `yolo11n.pt`."""
    return Path(detector.partition(":")[2].split(",")[0] or detector).name
