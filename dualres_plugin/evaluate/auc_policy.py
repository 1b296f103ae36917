"""AUC-Policy (Eq. 10 of DualRes): how well a policy spends extra compute, as one number.

Sort the operating points by compute and normalise both axes by the end points,

    x = (F - F0) / (F1 - F0),    y = (M - M0) / (M1 - M0),

then take the trapezoid area under y(x) on exactly the points given. Mixing the two ends at random gives the
diagonal, 0.5; larger is better. Because both axes are normalised by the end points, the value says how well
images are *chosen*, not how cheap or how good the detector is, and it ignores the router's own cost: print
the total compute beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from dualres_plugin.common.errors import DualResError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RANDOM_MIX = 0.5  # AUC-Policy of the diagonal
FEW_POINTS = 5  # below this the trapezoid misses most of a concave curve
SMALL_SPAN = 0.01  # one point of AP or accuracy, as a fraction
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # Okabe-Ito: colour-blind safe

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AUCPolicyResult:
    """AUC-Policy with what is needed to judge it.

    Attributes:
        value: AUC-Policy; 0.5 is a random mix of the two ends.
        n_points: how many operating points were given.
        metric_span: M1 - M0, in the metric's own unit.
        compute_low: F0, the compute of the cheapest point, in its own unit.
        compute_high: F1, the compute of the dearest point.
        notes: reasons to read the value with care; empty if there are none.
    """

    value: float
    n_points: int
    metric_span: float
    compute_low: float
    compute_high: float
    notes: tuple[str, ...] = ()


def as_values(values: Any, what: str) -> Array:
    """Numbers of any kind as an array.

    Args:
        values: a number, a sequence, an array or a tensor on any device.
        what: name of them in errors.

    Returns:
        (N,) float64.

    Raises:
        DualResError: If one is no finite number.
    """
    if hasattr(values, "detach"):  # a tensor, perhaps on a GPU or with a gradient
        values = values.detach().cpu()
    try:
        array = np.asarray(values, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        raise DualResError(f"{what} must be numbers, got {values!r}.") from None
    if not np.isfinite(array).all():
        position = int(np.flatnonzero(~np.isfinite(array))[0])
        raise DualResError(f"{what} of point {position + 1} is {array[position]}: remove it or measure again.")
    return array


def _pairs(compute: Any, metric: Any) -> tuple[Array, Array]:
    f, m = as_values(compute, "compute"), as_values(metric, "metric")
    if len(f) != len(m):
        raise DualResError(f"{len(f)} compute values but {len(m)} metric values: give one pair per point.")
    return f, m


def sorted_points(compute: Any, metric: Any) -> tuple[Array, Array]:
    """Checked points in order of compute; equal compute in order of the metric, whatever the input order.

    Args:
        compute: (N,) cost of each point.
        metric: (N,) quality of each point.

    Returns:
        (N,) compute and (N,) metric.

    Raises:
        DualResError: Fewer than two points, lengths that differ, NaN, or one compute for all.
    """
    f, m = _pairs(compute, metric)
    if len(f) < 2:
        raise DualResError(f"AUC-Policy needs at least 2 operating points, got {len(f)}.")
    order = np.lexsort((m, f))
    f, m = f[order], m[order]
    if f[0] == f[-1]:
        raise DualResError(f"all points have the same compute ({f[0]:g}): there is no trade-off to measure.")
    return f, m


def area_under(f: Array, m: Array) -> float:
    """The trapezoid area of Eq. 10.

    Args:
        f: (N,) compute, ascending.
        m: (N,) metric in the same order; its ends differ.

    Returns:
        The area.
    """
    x = (f - f[0]) / (f[-1] - f[0])
    y = (m - m[0]) / (m[-1] - m[0])
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2)


def auc_policy(compute: Any, metric: Any) -> float:
    """AUC-Policy of a list of operating points (Eq. 10).

    Args:
        compute: cost of each point, (N,), in any unit (GMACs, FLOPs, milliseconds); any order.
        metric: quality of each point, (N,), higher is better (AP, accuracy), in any unit.

    Returns:
        The area, 0.5 for a random mix. It exceeds 1 where a middle point beats the dearest one by enough.

    Raises:
        DualResError: Fewer than two points, lengths that differ, NaN, end points of equal compute or metric.

    Examples:
        >>> round(auc_policy([112.4, 143.2, 174.0, 181.7], [52.1, 53.3, 53.8, 53.9]), 4)  # Dy-YOLOv7
        0.6142
    """
    f, m = sorted_points(compute, metric)
    if m[0] == m[-1]:
        raise DualResError(
            f"the cheapest and the dearest point have the same metric ({m[0]:g}), and AUC-Policy divides by "
            "M1 - M0: choose a low and a high end that differ."
        )
    return area_under(f, m)


def evaluate_points(compute: Any, metric: Any, beta: Any = None) -> AUCPolicyResult:
    """AUC-Policy together with notes on how far to trust it.

    Args:
        compute: as in `auc_policy`, (N,).
        metric: as in `auc_policy`, (N,).
        beta: share of images at high for each point, (N,), if known: the ends should be 0 and 1.

    Returns:
        The value, with what is needed to judge it.

    Raises:
        DualResError: As `auc_policy`; also if `beta` has another length.
    """
    value = auc_policy(compute, metric)
    f, m = sorted_points(compute, metric)
    span = float(m[-1] - m[0])
    notes: list[str] = []
    if len(f) < FEW_POINTS:
        notes.append(f"only {len(f)} points: the trapezoid between them misses part of the curve")
    unit = 1.0 if np.abs(m).max() <= 1 else 100.0
    if span < 0:
        notes.append(f"M1 - M0 is {span:.3g}: the dearest point is worse, so *smaller* values mean better choices")
    elif span < SMALL_SPAN * unit:
        notes.append(f"M1 - M0 is only {span:.3g}: noise in the metric is divided by it")
    if beta is not None:
        b = as_values(beta, "beta")
        if len(b) != len(f):
            raise DualResError(f"{len(f)} points but {len(b)} beta values: give one per point, or none.")
        missing = [str(end) for end, found in ((0, b.min()), (1, b.max())) if not np.isclose(found, end)]
        if missing:
            notes.append(f"no point at beta = {' and '.join(missing)}: not comparable with a full curve")
    return AUCPolicyResult(value, len(f), span, float(f[0]), float(f[-1]), tuple(notes))


class AUCPolicy:
    """AUC-Policy as a metric object in the manner of torchmetrics: update, compute, reset, plot.

    Examples:
        >>> metric = AUCPolicy()
        >>> metric.update([112.4, 181.7], [52.1, 53.9])
        >>> metric.update(compute=143.2, metric=53.3)
        >>> round(metric.compute(), 4)
        0.6111
        >>> metric.higher_is_better
        True
    """

    higher_is_better = True
    is_differentiable = False

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget every point."""
        self._compute: list[float] = []
        self._metric: list[float] = []

    def update(self, compute: Any, metric: Any) -> None:
        """Add one operating point (two numbers) or several (two sequences or tensors of equal length).

        Args:
            compute: cost of the points, a number or (N,).
            metric: their quality, a number or (N,).

        Raises:
            DualResError: If the lengths differ or a value is not a finite number.
        """
        f, m = _pairs(compute, metric)
        self._compute.extend(f.tolist())
        self._metric.extend(m.tolist())

    def compute(self) -> float:
        """AUC-Policy of the points so far.

        Returns:
            The area, 0.5 for a random mix.

        Raises:
            DualResError: As `auc_policy`.
        """
        return auc_policy(self._compute, self._metric)

    def result(self) -> AUCPolicyResult:
        """`compute` with the number of points, M1 - M0 and notes.

        Returns:
            As `evaluate_points`.

        Raises:
            DualResError: As `auc_policy`.
        """
        return evaluate_points(self._compute, self._metric)

    def plot(self, ax: Axes | None = None) -> tuple[Figure, Axes]:
        """Draw the normalised curve over the diagonal of the random mix.

        Args:
            ax: where to draw; a new figure by default.

        Returns:
            The figure and the axes.
        """
        return plot_curves({"points": (self._compute, self._metric)}, ax)


def plot_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], ax: Axes | None = None
) -> tuple[Figure, Axes]:
    """Draw normalised curves over the diagonal; the legend states AUC-Policy.

    Args:
        curves: (compute, metric) of each curve by its name, (N,) and (N,).
        ax: where to draw; a new figure by default.

    Returns:
        The figure and the axes.

    Raises:
        DualResError: As `auc_policy`.
    """
    from matplotlib.figure import Figure as NewFigure

    from dualres_plugin.common.drawing import plain_text

    if ax is None:
        ax = NewFigure(figsize=(5.5, 5), layout="constrained").subplots()
    ax.plot([0, 1], [0, 1], "--", color="#777777", label=f"random mix  {RANDOM_MIX:.3f}")
    for color, (name, (compute, metric)) in zip(cycle(PALETTE), curves.items()):
        value = auc_policy(compute, metric)
        f, m = sorted_points(compute, metric)
        x, y = (f - f[0]) / (f[-1] - f[0]), (m - m[0]) / (m[-1] - m[0])
        ax.plot(x, y, "o-", color=color, markersize=4 if len(x) < 30 else 0, label=plain_text(f"{name}  {value:.3f}"))
        if len(curves) == 1:
            ax.fill_between(x, y, color=color, alpha=0.12, linewidth=0)
    ax.set(xlabel="share of the extra compute, (F - F0) / (F1 - F0)", ylabel="(M - M0) / (M1 - M0)")
    ax.set(title="AUC-Policy", xlim=(-0.02, 1.02))
    ax.grid(color="#e5e5e5", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="lower right", frameon=False)
    return cast("Figure", ax.figure), ax
