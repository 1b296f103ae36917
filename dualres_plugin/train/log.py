"""The numbers of a training in TensorBoard, which is optional: `pip install "dualres-plugin[tensorboard]"`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import make_dir
from dualres_plugin.train.config import TrainConfig


@contextmanager
def tensorboard_log(
    folder: Path | str, config: TrainConfig | None = None
) -> Iterator[Callable[[dict[str, float]], None]]:
    """What `train_router(…, log=…)` takes, writing into a TensorBoard folder.

    A training by gradients gives one point an epoch: `train/loss`, `train/spearman` (rank correlation with the gain on
    held-out images), `train/lr`, and with the paper's objective `train/high_rate`, `train/gamma_term` and
    `train/temperature`. A head fitted in closed form gives one point for each penalty that was tried:
    `ridge/spearman`, cross-validated, and `ridge/log10_ridge_strength`.

    Args:
        folder: one per training; TensorBoard compares the folders below the one that it is given.
        config: shown as a text beside the curves.

    Yields:
        A function that writes the numbers of one epoch.

    Raises:
        DualResError: If tensorboard is not installed, or the folder cannot be written.

    Examples:
        >>> with tensorboard_log("runs/tb") as log:  # doctest: +SKIP
        ...     train_router(profile, log=log)
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise DualResError(
            f'TensorBoard is not installed ({error}). Install it with: pip install "dualres-plugin[tensorboard]"'
        ) from None
    writer = SummaryWriter(str(make_dir(folder)), flush_secs=10)
    try:
        if config is not None:
            text = yaml.safe_dump(asdict(config), sort_keys=False)
            writer.add_text("settings", "\n".join(f"    {line}" for line in text.splitlines()))  # a code block
        yield lambda numbers: _write(writer, numbers)
    finally:
        writer.close()


def _write(writer: Any, numbers: dict[str, float]) -> None:
    group = "ridge" if "log10_ridge_strength" in numbers else "train"
    for name, value in numbers.items():
        if name != "epoch" and math.isfinite(value):
            writer.add_scalar(f"{group}/{name}", value, int(numbers["epoch"]))
