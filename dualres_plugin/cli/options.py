"""Arguments and options that several commands share.

Every option of a command is a parameter of its function, which is why the functions of this package are longer than
those of others; what they do is in short ones beside them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dualres_plugin.hosts.contract import HostAdapter

Detector = Annotated[
    str,
    typer.Argument(
        metavar="DETECTOR",
        help="HOST:NAME[,key=value]: ultralytics:yolo11n.pt, torchvision:NAME,weights=FILE,num_classes=N, "
        "mmdet:config.py,weights.pth, effdet:NAME,checkpoint=FILE. A bare .pt is Ultralytics.",
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps …")]
High = Annotated[int | None, typer.Option(help="High size in pixels; the detector's own by default.")]
Low = Annotated[int | None, typer.Option(help="Low size in pixels; half of high by default, or that of a pair.")]
Rate = Annotated[float | None, typer.Option(help="Wanted share at high, 0 to 1 (default 0.5).")]
Threshold = Annotated[float | None, typer.Option(help="Score above which an image goes high.")]
Seed = Annotated[int, typer.Option(help="Of everything random; the same seed gives the same result.")]


def sizes(adapter: HostAdapter[Any], low: int | None, high: int | None) -> tuple[int, float]:
    """The sizes that `--low` and `--high` ask for.

    Args:
        adapter: has sizes of its own where one is not given.
        low, high: in pixels, or None.

    Returns:
        The high size in pixels, and the low / high ratio.

    Raises:
        DualResError: If the low size is not smaller.
    """
    from dualres_plugin.common.resize import check_scale

    size = high or adapter.default_size
    return size, check_scale(low / size if low else adapter.default_scale)


def on_device(adapter: HostAdapter[Any], device: str) -> HostAdapter[Any]:
    """Move a detector.

    Args:
        adapter: of the detector.
        device: as torch names it.

    Raises:
        DualResError: If there is no such device.
    """
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
