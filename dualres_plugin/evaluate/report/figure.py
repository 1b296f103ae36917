"""curve.png: AP against compute, router included."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dualres_plugin.common.drawing import plain_text
from dualres_plugin.evaluate.curve import Curve
from dualres_plugin.evaluate.evaluation import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GREY, PALE = "#1f2933", "#7b8794", "#d9dee3"
# Okabe-Ito, as in the Pareto figures: told apart with every kind of colour vision.
LOW, HIGH = "#0072B2", "#D55E00"
OTHERS = {"oracle": ("#009E73", "-."), "cascade": ("#CC79A7", "--")}
SPARE = ("#56B4E9", ":")


def save_curve(path: Path, evaluation: Evaluation, title: str, subtitle: str) -> None:
    """Write the figure as PNG.

    Args:
        path: of the file.
        evaluation: what to draw.
        title: first line above the plot; a long one is cut.
        subtitle: second, smaller line.
    """
    draw_curve(evaluation, title, subtitle).savefig(path, format="png", dpi=160)


def draw_curve(evaluation: Evaluation, title: str, subtitle: str) -> Figure:
    """AP in percent over GMACs per image: the router's curve, baselines, and the points low, high, routed.

    Args:
        evaluation: what to draw.
        title: first line above the plot; a long one is cut.
        subtitle: second, smaller line.

    Returns:
        The figure, on an Agg canvas.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), facecolor="white")
    FigureCanvasAgg(figure)
    ax = figure.add_axes((0.085, 0.105, 0.885, 0.715))
    _axes(ax)
    _baselines(ax, evaluation)
    _router(ax, evaluation)
    ax.margins(x=0.05, y=0.08)
    ax.legend(loc="lower right", facecolor="white", edgecolor=PALE, fontsize=9, borderpad=0.8)
    figure.text(0.085, 0.968, plain_text(_cut(title, 70)), fontsize=13, fontweight="bold", color=INK, va="top")
    figure.text(0.085, 0.925, plain_text(_cut(subtitle, 120)), fontsize=9, color=GREY, va="top")
    return figure


def _axes(ax: Axes) -> None:
    ax.set_xlabel("GMACs per image, router included", color=INK)
    ax.set_ylabel("AP@[.5:.95] (%)", color=INK)
    ax.grid(color="#eceff2", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(colors=INK, labelsize=9)
    top: Any = ax.secondary_xaxis(
        "top", functions=(lambda g: 2 * np.asarray(g, float), lambda f: np.asarray(f, float) / 2)
    )
    top.set_xlabel("GFLOPs (2 × GMACs)", color=GREY, fontsize=9)
    top.tick_params(colors=GREY, labelsize=8, length=3)
    top.spines["top"].set_visible(False)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(GREY)


def _baselines(ax: Axes, evaluation: Evaluation) -> None:
    random = f"random mix, AUC-Policy {evaluation.random_auc:.2f} ± {evaluation.random_sd:.2f}"
    _line(ax, evaluation.random, GREY, ":", random)
    for curve in (evaluation.oracle, *evaluation.others):
        colour, dashes = OTHERS.get(curve.name, SPARE)
        _line(ax, curve, colour, dashes, f"{curve.name}, AUC-Policy {curve.auc_policy:.2f}")


def _line(ax: Axes, curve: Curve, colour: str, dashes: str, label: str) -> None:
    ax.plot(curve.gmacs, 100 * curve.ap, dashes, color=colour, linewidth=1.6, label=label, zorder=2)


def _router(ax: Axes, evaluation: Evaluation) -> None:
    curve, routed = evaluation.router, evaluation.routed
    lower, upper = evaluation.ci95
    interval = f" [{lower:.2f}, {upper:.2f}]" if np.isfinite([lower, upper]).all() else ""
    label = f"router, AUC-Policy {curve.auc_policy:.2f}{interval}"
    ax.plot(curve.gmacs, 100 * curve.ap, "-", color=INK, linewidth=2.6, label=label, zorder=4)
    points = (
        (evaluation.low_gmacs, evaluation.ap_low, f"low {100 * evaluation.ap_low:.1f}", LOW, (9, -14)),
        (evaluation.high_gmacs, evaluation.ap_high, f"high {100 * evaluation.ap_high:.1f}", HIGH, (7, -20)),
        (routed["gmacs"], routed["ap"], _routed_label(routed), INK, (9, -16)),
    )
    for x, ap, text, colour, offset in points:
        ax.plot([x], [100 * ap], "o", color=colour, markersize=9, markeredgecolor="white", zorder=5)
        ax.annotate(
            text,
            (x, 100 * ap),
            xytext=offset,
            textcoords="offset points",
            color=colour,
            fontsize=9.5,
            fontweight="bold",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
            zorder=6,
        )


def _routed_label(routed: dict[str, float]) -> str:
    return f"routed {100 * routed['ap']:.1f} at {100 * routed['beta']:.0f} % high"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
