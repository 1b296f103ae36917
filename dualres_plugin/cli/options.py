"""Arguments and options that several commands share.

Every option of a command is a parameter of its function, which is why the functions of this package are longer than
those of others; what they do is in short ones beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dualres_plugin.budget.cost import Budget
    from dualres_plugin.hosts.contract import HostAdapter
    from dualres_plugin.runtime.session import DualResSession

MOST_SEED = 2**32 - 1  # of NumPy's older generators
MOST_SIZE = 2**15  # pixels: more is a slip of the finger, and no machine's memory


def within(least: float | None = None, most: float | None = None, above: float | None = None) -> Callable[..., Any]:
    """What an option of a number calls: it refuses what is not finite or out of range.

    Args:
        least, most, above: as of `errors.check_number`.

    Returns:
        A callback as Typer takes it.
    """

    def check(param: typer.CallbackParam, value: Any) -> Any:
        from dualres_plugin.common.errors import check_number

        check_number(max(param.opts, key=len), value, least, most, above)
        return value

    return check


Detector = Annotated[
    str,
    typer.Argument(
        metavar="DETECTOR",
        help="HOST:NAME[,key=value]: ultralytics:yolo11n.pt, torchvision:NAME,weights=FILE,num_classes=N, "
        "mmdet:config.py,weights.pth, effdet:NAME,checkpoint=FILE. A bare .pt is Ultralytics. A .pt of Ultralytics and "
        "a config of mmdet can run code: load only those you trust.",
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps …")]
High = Annotated[
    int | None, typer.Option(help="High size in pixels; the detector's own by default.", callback=within(1, MOST_SIZE))
]
Low = Annotated[
    int | None,
    typer.Option(help="Low size in pixels; half of high by default, or that of a pair.", callback=within(1, MOST_SIZE)),
]
Half = Annotated[
    str | None,
    typer.Option(help="Run the detector in 16 bits: fp16 (GPU) or bf16. The router stays in 32.", metavar="fp16|bf16"),
]
ChannelsLast = Annotated[
    bool,
    typer.Option(
        "--channels-last",
        help="Convolutions with the channels last in memory: for GPUs with tensor cores, beside --half.",
    ),
]
Rate = Annotated[float | None, typer.Option(help="Wanted share at high, 0 to 1 (default 0.5).", callback=within(0, 1))]
Threshold = Annotated[float | None, typer.Option(help="Score above which an image goes high.", callback=within())]
Sizes = Annotated[
    str | None,
    typer.Option(
        help="Instead of --high and --low: any number of sizes in pixels, largest first, 640,512,448.",
        metavar="PX,PX,…",
    ),
]
Shares = Annotated[
    str | None,
    typer.Option(help="Of --sizes: the share of images at each, 0.3,0.3,0.4; all alike by default.", metavar="S,S,…"),
]
Thresholds = Annotated[
    str | None,
    typer.Option(help="Of --sizes: the scores between them, descending, as advise gives them.", metavar="T,T"),
]
Margin = Annotated[
    float,
    typer.Option(
        help="AP, 0 to 100, that may be lost against all images at the largest size.", callback=within(0, 100)
    ),
]
Groups = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|folder",
        help="Photos that belong together, such as frames of a video, are drawn together: a CSV file with the columns "
        "file_name and group, or the word folder for the folder that a photo lies in.",
    ),
]
Seed = Annotated[
    int,
    typer.Option(help="Of everything random; the same seed gives the same result.", callback=within(0, MOST_SEED)),
]


def alone(command: Callable[..., None]) -> Callable[..., None]:
    """A command that holds its `--out` while it runs: two at once would mix their results.

    Args:
        command: has an argument `out`, a folder, which is made, and found unwritable, before the work begins.
    """

    @wraps(command)
    def held(**arguments: Any) -> None:
        from dualres_plugin.common.files.lock import locked

        with locked(arguments["out"]):
            command(**arguments)

    return held


def numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """A list of numbers as an option takes it.

    Args:
        option: its name, for messages.
        text: "0.3,-0.2"; None is no list.

    Raises:
        DualResError: If a part is no number.
    """
    from dualres_plugin.common.errors import DualResError

    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise DualResError(f"{option} '{text}': give numbers with commas between them, such as 1,2,3.") from None


def on_device(adapter: HostAdapter[Any], device: str, last: bool = False) -> HostAdapter[Any]:
    """Move a detector.

    Args:
        adapter: of the detector.
        device: as torch names it.
        last: with its channels last in memory.

    Raises:
        DualResError: If there is no such device.
    """
    from dualres_plugin.common.errors import DualResError
    from dualres_plugin.hosts.memory_format import channels_last

    try:
        if device.startswith("meta"):  # torch's device without memory: everything but a result comes out of it
            raise ValueError("it computes nothing")
        moved = adapter if device == "cpu" else adapter.to(device)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise DualResError(f"device '{device}' is not available: {error}") from None
    return channels_last(moved) if last else moved


def open_session(
    model: Path | str, point: Budget, *, hold: bool = False, threads: int | None = None, **more: Any
) -> DualResSession:
    """An exported model at the operating point that a command was given.

    Args:
        model: the file, or the folder of a pair.
        point: without GMACs or ms.
        hold: keep the rate; of a file alike at every size if none is given.
        threads: of the runtime.
        **more: as of `DualResSession`.

    Raises:
        DualResError: If a threshold is to be held, or as `DualResSession`.
    """
    from dualres_plugin.budget.ladder import even_shares
    from dualres_plugin.common.errors import DualResError, at_hand
    from dualres_plugin.runtime.session import DualResSession

    if hold and (point.threshold is not None or point.thresholds is not None):
        raise DualResError("--hold keeps a rate: give --target-high-rate or --shares, not --threshold or --thresholds.")
    shares = point.shares
    with at_hand(model):
        if (
            hold and point.target_high_rate is None and shares is None and point.fps is None
        ):  # only the file knows of how many sizes
            shares = even_shares(len(DualResSession(model, warm_up=False).sizes))
        return DualResSession(
            model, threshold=point.threshold, target_high_rate=point.target_high_rate, shares=shares,
            thresholds=point.thresholds, fps=point.fps, hold_rate=hold, threads=threads, **more,
        )  # fmt: skip


def stamp(files: str | None) -> str | None:
    """A detector or router as it is now: what is made with it goes on only as long as none of its files changes.

    Args:
        files: HOST:NAME[,key=value], a file, or the folder of a router.

    Returns:
        The text, with size and time of each file that it names.
    """
    if files is None:
        return None
    parts = [part.rpartition("=")[2] for part in files.split(",")]
    paths = [Path(p) for part in parts for p in (part, part.partition(":")[2]) if p and Path(p).exists()]
    inside = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    return " ".join([files, *(f"{f.name}:{f.stat().st_size}:{f.stat().st_mtime_ns}" for f in inside)])


def short_name(detector: str) -> str:
    """`ultralytics:/far/away/yolo11n.pt` -> `yolo11n.pt`."""
    return Path(detector.partition(":")[2].split(",")[0] or detector).name
