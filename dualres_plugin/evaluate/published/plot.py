"""Drawing AP against compute: static detectors in grey, everything dynamic in colour."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from dualres_plugin.common.drawing import plain_text
from dualres_plugin.evaluate.published.labels import PlaceLabels, place_labels
from dualres_plugin.evaluate.published.pareto import Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GREY, PALE = "#1f2933", "#7b8794", "#d9dee3"
# From Okabe-Ito: colour-blind safe. The warm colours are for your own curves.
PUBLISHED = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9")
OWN = ("#D55E00", "#E69F00", "#1f2933")
MARKERS = "osD^vP"
TICKS = tuple(digit * 10**power for power in range(-2, 4) for digit in (1, 2, 5))


def plot_pareto(
    series: Sequence[Series],
    title: str,
    subtitle: str = "",
    zoom: tuple[float, float] | None = None,
    place: PlaceLabels = place_labels,
) -> Figure:
    """Draw AP over GMACs.

    Static families are grey with a label at each point; dynamic models and own curves are coloured, each with
    a dashed line for the random mix of its two ends.

    Args:
        series: what to draw; see `dualres_plugin.evaluate.published.pareto`.
        title: first line above the plot.
        subtitle: second, smaller line: units and data.
        zoom: draw this range of GMACs again, on a linear axis, in the empty corner at the lower right.
        place: writes the labels, when all else is drawn.

    Returns:
        The figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    ax = figure.add_axes((0.065, 0.08, 0.905, 0.775))
    _log_axes(ax, series)
    _draw(ax, series)
    _legend(ax, series, "upper left" if zoom else "lower right")
    figure.text(0.065, 0.972, title, fontsize=14, fontweight="bold", color=INK, va="top")
    figure.text(0.065, 0.937, subtitle, fontsize=9, color=GREY, va="top")
    if zoom:
        _inset(ax, series, zoom, place)
    place(ax, _labels(series))
    return figure


def _labels(series: Sequence[Series]) -> list[tuple[float, float, str]]:
    """(GMACs, AP, text) of every labelled point; a family that is alone needs no name in front."""
    alone = len({one.family for one in series if one.kind == "detector"}) == 1
    return [
        (p.gmacs, p.ap, p.label.removeprefix(f"{one.family}-") if alone else p.label)
        for one in series
        for p in one.points
        if p.label
    ]


def _draw(ax: Axes, series: Sequence[Series]) -> None:
    colours, own_colours, markers = cycle(PUBLISHED), cycle(OWN), cycle(MARKERS)
    for one in series:
        if one.kind == "detector":
            _detectors(ax, one)
        else:
            _dynamic(ax, one, next(own_colours if one.kind == "curve" else colours), next(markers))


def _legend(ax: Axes, series: Sequence[Series], place: str) -> None:
    kinds = {one.kind for one in series}
    if kinds & {"dynamic", "curve"}:
        ax.plot([], [], "--", color=GREY, linewidth=1.2, label="random mix of the two ends")
    if "detector" in kinds:
        ax.plot([], [], "o", color=GREY, markersize=5, label="published detector")
    style: dict[str, Any] = {"loc": place, "facecolor": "white", "edgecolor": PALE, "fontsize": 9}
    ax.legend(borderpad=0.8, **style)


def _inset(ax: Axes, series: Sequence[Series], zoom: tuple[float, float], place: PlaceLabels) -> None:
    """The range `zoom` again on a linear axis, where a random mix is a straight line."""
    inner = ax.inset_axes((0.52, 0.09, 0.45, 0.5))
    _draw(inner, series)
    shown = [(one.kind, p.ap) for one in series for p in one.points if zoom[0] <= p.gmacs <= zoom[1]]
    y = [ap for kind, ap in shown if kind != "curve"]
    low, high = min(y), max(y)
    y += [ap for _, ap in shown if 2 * low - high <= ap <= 2 * high - low]  # a curve on other images may be far off
    room, side = 0.18 * (max(y) - min(y)) + 0.1, 0.12 * (zoom[1] - zoom[0])
    inner.set(xlim=(zoom[0] - side, zoom[1] + side), ylim=(min(y) - room, max(y) + room))
    _style(inner)
    inner.set_title("linear axis", fontsize=8, color=GREY, loc="left")
    inner.tick_params(labelsize=8)
    for spine in inner.spines.values():
        spine.set(visible=True, color=PALE)
    place(inner, [point for point in _labels(series) if zoom[0] <= point[0] <= zoom[1]])


def _style(ax: Axes) -> None:
    ax.grid(color="#eceff2", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(colors=INK, labelsize=9)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(GREY)


def _log_axes(ax: Axes, series: Sequence[Series]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    x = np.array([p.gmacs for one in series for p in one.points])
    y = np.array([p.ap for one in series for p in one.points])
    ax.set_xscale("log")
    pad = max(1.1, (x.max() / x.min()) ** 0.05)
    ax.set_xlim(x.min() / pad, x.max() * pad)
    room = max(0.5, 0.06 * (y.max() - y.min()))
    ax.set_ylim(y.min() - room, y.max() + room)
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    top: Any = ax.secondary_xaxis(
        "top", functions=(lambda g: 2 * np.asarray(g, float), lambda f: np.asarray(f, float) / 2)
    )
    for axis in (ax.xaxis, top.xaxis):
        axis.set_major_locator(FixedLocator(list(TICKS)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(plain)
    ax.set_xlabel("GMACs per image, log scale", color=INK)
    top.set_xlabel("GFLOPs (2 x GMACs)", color=GREY, fontsize=9)
    top.tick_params(colors=GREY, labelsize=8, length=3)
    ax.set_ylabel("AP (%)", color=INK)
    top.spines["top"].set_visible(False)
    _style(ax)


def _detectors(ax: Axes, one: Series) -> None:
    x, y = [p.gmacs for p in one.points], [p.ap for p in one.points]
    ax.plot(x, y, "-", color=PALE, linewidth=1.2, zorder=1)
    ax.plot(x, y, "o", color=GREY, markersize=5, zorder=2)


def _dynamic(ax: Axes, one: Series, colour: str, marker: str) -> None:
    x, y = np.array([p.gmacs for p in one.points]), np.array([p.ap for p in one.points])
    line = np.linspace(x[0], x[-1], 60)  # straight against GMACs, hence bent on a log axis
    ax.plot(line, np.interp(line, x[[0, -1]], y[[0, -1]]), "--", color=colour, linewidth=1.2, zorder=3)
    if one.kind == "mix":
        ax.plot(x, y, marker, color=colour, markersize=0)
        ax.plot([], [], "--", color=colour, linewidth=1.6, label=plain_text(one.name))
        return
    own = one.kind == "curve"
    width = 2.6 if own else 2
    ax.plot(x, y, "-", color=colour, linewidth=width, zorder=4)
    every = max(1, (len(x) - 1) // 10)
    ax.plot(x, y, marker, color=colour, markersize=6.5, markeredgecolor="white", markevery=every, zorder=5)
    label = f"{one.name} (yours)" if own else one.name
    ax.plot([], [], marker + "-", color=colour, markersize=6.5, linewidth=width, label=plain_text(label))
