"""Which series make up the figures of `dualres pareto`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.published.pareto import (
    Series,
    metric_and_dataset,
    mix_series,
    published_series,
    read_curve,
)

EFFICIENTDET_MIX = ("EfficientDet-D1", "EfficientDet-D2")  # the pair that the paper routes between


@dataclass(frozen=True)
class FigureSpec:
    """What one figure shows.

    Attributes:
        name: file name without its ending.
        title: first line above the plot.
        subtitle: second line: data, unit.
        series: everything drawn.
        zoom: range of GMACs to show again on a linear axis, or None.
    """

    name: str
    title: str
    subtitle: str
    series: tuple[Series, ...]
    zoom: tuple[float, float] | None = None


def figures(
    families: Sequence[str] | None,
    mixes: Sequence[tuple[str, str]],
    curves: Sequence[str],
    split: str = "val",
) -> list[FigureSpec]:
    """The figures of one call of `dualres pareto`: the two of the paper, or one with the families asked for.

    Args:
        families: families of the one figure; None for the two of the paper, unless `mixes` are given.
        mixes: pairs (low, high) of published models.
        curves: PATH or NAME=PATH of own curves.
        split: "val" or "test".

    Returns:
        What each figure shows, in the order of the paper.

    Raises:
        DualResError: Unknown names, unreadable curves, curves that share a name.
    """
    own = [read_curve(text) for text in curves]
    if len({one.name for one in own}) < len(own):
        raise DualResError(f"two curves are named alike ({', '.join(one.name for one in own)}): use NAME=PATH.")
    _, dataset = metric_and_dataset(split)
    below = f"AP on {dataset} as each source prints it; compute in multiply-adds, converted where needed"
    if own:
        below += "; your curves: AP on your images"
    title = "AP against compute"
    if families is not None or mixes:
        mixed = [mix_series(low, high, split) for low, high in mixes]
        return [FigureSpec("pareto", title, below, (*published_series(families, split), *mixed, *own))]
    mixed = [mix_series(*EFFICIENTDET_MIX, split)]
    ends = (mixed[0].points[0].gmacs, mixed[0].points[-1].gmacs)
    efficientdet = (*published_series(["EfficientDet"], split), *mixed, *own)
    sized = below + "; 640 px input unless @size"
    return [
        FigureSpec(
            "pareto_detectors",
            f"{title}: detectors and dynamic models",
            sized,
            (*published_series(None, split), *own),
        ),
        FigureSpec("pareto_efficientdet", f"{title}: EfficientDet D0-D7, D1 / D2 mixed", below, efficientdet, ends),
    ]
