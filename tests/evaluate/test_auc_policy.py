"""The metric: Eq. 10, its errors and notes, and the interval that rounding leaves open."""

from __future__ import annotations

import doctest
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate import auc_policy as metric_module
from dualres_plugin.evaluate.auc_policy import AUCPolicy, auc_policy, evaluate_points
from dualres_plugin.evaluate.published import rounding as rounding_module
from dualres_plugin.evaluate.published.rounding import decimals_of, rounding_band

DY_YOLOV7 = ([112.4, 143.2, 174.0, 181.7], [52.1, 53.3, 53.8, 53.9])

numbers = st.floats(-1000, 1000, allow_subnormal=False)


@st.composite
def curves(draw: st.DrawFn, low: int = 2, high: int = 12) -> tuple[np.ndarray, np.ndarray]:
    n = draw(st.integers(low, high))
    compute = np.array(draw(st.lists(st.integers(0, 500), min_size=n, max_size=n, unique=True))) / 10
    metric = np.array(draw(st.lists(st.integers(0, 900), min_size=n, max_size=n))) / 10
    ends = metric[[np.argmin(compute), np.argmax(compute)]]
    assume(abs(ends[1] - ends[0]) > 1)
    return compute, metric


def test_hand_computed_values() -> None:
    assert auc_policy([0, 1], [3, 5]) == pytest.approx(0.5)
    assert auc_policy([0, 1, 2], [0, 1, 1]) == pytest.approx(0.75)
    assert auc_policy([0, 1, 2], [0, 0, 1]) == pytest.approx(0.25)
    assert auc_policy([1, 2, 3], [0, 3, 1]) == pytest.approx(1.75)  # a middle point far above the dear end
    assert auc_policy(*DY_YOLOV7) == pytest.approx(0.6142, abs=5e-5)


def test_equal_compute_is_a_vertical_step_and_order_does_not_matter() -> None:
    assert auc_policy([0, 1, 1, 2], [0, 0, 1, 1]) == pytest.approx(0.5)
    assert auc_policy([0, 1, 1, 2], [0, 1, 0, 1]) == pytest.approx(0.5)
    assert auc_policy([0, 0, 1], [0, 1, 2]) == pytest.approx(0.75)  # starts at the lower of the two


@given(curves(), st.randoms())
def test_order_of_points_does_not_matter(curve: tuple[np.ndarray, np.ndarray], random: object) -> None:
    compute, metric = curve
    order = list(range(len(compute)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert auc_policy(compute[order], metric[order]) == pytest.approx(auc_policy(compute, metric), abs=1e-12)


@given(curves(), st.floats(0.01, 100), st.floats(-50, 50), st.floats(0.01, 100), st.floats(-50, 50))
def test_units_cancel(curve: tuple[np.ndarray, np.ndarray], a: float, b: float, c: float, d: float) -> None:
    compute, metric = curve
    value = auc_policy(compute, metric)
    assert auc_policy(a * compute + b, c * metric + d) == pytest.approx(value, rel=1e-6, abs=1e-6)
    assert auc_policy(compute, -metric) == pytest.approx(value, abs=1e-9)


@given(curves())
def test_a_point_on_a_segment_changes_nothing(curve: tuple[np.ndarray, np.ndarray]) -> None:
    compute, metric = curve
    order = np.argsort(compute)
    f, m = compute[order], metric[order]
    more = auc_policy([*f, (f[0] + f[1]) / 2], [*m, (m[0] + m[1]) / 2])
    assert more == pytest.approx(auc_policy(f, m), abs=1e-9)


@pytest.mark.parametrize(
    ("compute", "metric", "words"),
    [
        ([1], [2], "at least 2 operating points, got 1"),
        ([], [], "at least 2"),
        ([1, 2, 3], [1, 2], "3 compute values but 2 metric values"),
        ([2, 2, 2], [1, 2, 3], "same compute"),
        ([1, 2, 3], [5, 9, 5], "same metric"),
        ([1, float("nan"), 3], [1, 2, 3], "compute of point 2 is nan"),
        ([1, 2, 3], [1, 2, float("inf")], "metric of point 3 is inf"),
        (["a", "b"], [1, 2], "must be numbers"),
    ],
)
def test_bad_points_get_one_clear_error(compute: list[float], metric: list[float], words: str) -> None:
    with pytest.raises(DualResError, match=words):
        auc_policy(compute, metric)


def test_notes_warn_about_what_makes_the_value_doubtful() -> None:
    beta = np.linspace(0, 1, 11)
    clean = evaluate_points(1 + beta, 30 + 5 * np.sqrt(beta), beta)
    assert clean.notes == ()
    assert clean.n_points == 11
    assert clean.metric_span == pytest.approx(5)
    assert (clean.compute_low, clean.compute_high) == (1, 2)

    few = evaluate_points(*DY_YOLOV7, beta=[0.1, 0.5, 0.9, 1.0])
    assert any("only 4 points" in note for note in few.notes)
    assert any("no point at beta = 0:" in note for note in few.notes)
    assert any("beta = 0 and 1" in note for note in evaluate_points([1, 2], [1, 9], [0.2, 0.8]).notes)

    assert any("M1 - M0 is only 0.3" in note for note in evaluate_points([1, 2], [80.0, 80.3]).notes)
    assert any("M1 - M0 is only 0.003" in note for note in evaluate_points([1, 2], [0.8, 0.803]).notes)
    assert not any("M1 - M0" in note for note in evaluate_points([1, 2], [0.8, 0.82]).notes)
    assert any("smaller" in note for note in evaluate_points([1, 2], [40, 30]).notes)
    with pytest.raises(DualResError, match="2 points but 3 beta"):
        evaluate_points([1, 2], [1, 2], [0, 0.5, 1])


def test_metric_object_accumulates_resets_and_plots() -> None:
    torch = pytest.importorskip("torch")
    metric = AUCPolicy()
    with pytest.raises(DualResError, match="at least 2"):
        metric.compute()
    metric.update(torch.tensor([112.4, 181.7], dtype=torch.float64, requires_grad=True), [52.1, 53.9])
    metric.update(143.2, 53.3)
    metric.update([174.0], np.array([53.8]))
    assert metric.higher_is_better
    assert metric.compute() == pytest.approx(auc_policy(*DY_YOLOV7))
    assert metric.result().n_points == 4

    figure, ax = metric.plot()
    diagonal, line = ax.get_lines()
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]
    x, y = np.array(line.get_xdata()), np.array(line.get_ydata())
    assert np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2 == pytest.approx(metric.compute())
    assert metric.plot(figure.add_subplot())[0] is figure

    with pytest.raises(DualResError, match="1 compute values but 2"):
        metric.update(1.0, [1.0, 2.0])
    metric.reset()
    metric.update([0, 1, 2], [0, 1, 1])
    assert metric.compute() == pytest.approx(0.75)


def test_decimals_of() -> None:
    assert [decimals_of(v) for v in ([1, 20], [0.75, 1], [112.4, 174.0], [1 / 3])] == [0, 2, 1, 9]


# True values lie anywhere; printed values are those, rounded. Few different values, so that ties are common.
true_values = st.lists(st.tuples(st.floats(0, 3), st.floats(0, 4)), min_size=3, max_size=8)


@settings(max_examples=300)
@given(true_values, st.integers(0, 2), st.integers(0, 2))
@example([(0.4, 0.0), (0.6, 3.0), (1.4, 0.0), (2.6, 4.0)], 0, 0)
def test_band_holds_the_value_of_the_unrounded_points(
    points: list[tuple[float, float]], compute_decimals: int, decimals: int
) -> None:
    compute, metric = np.array(points).T
    assume(abs(metric[np.argmax(compute)] - metric[np.argmin(compute)]) > 1e-9)
    printed_f, printed_m = np.round(compute, compute_decimals), np.round(metric, decimals)
    try:
        value = auc_policy(compute, metric)
        low, high = rounding_band(printed_f, printed_m, decimals, compute_decimals)
    except DualResError:
        assume(False)
    assert low - 1e-9 <= value <= high + 1e-9


@given(curves(low=3, high=5))
def test_band_is_tight_where_compute_values_differ(curve: tuple[np.ndarray, np.ndarray]) -> None:
    """Every corner of the box, tried one by one, gives the same interval."""
    compute, metric = curve
    low, high = rounding_band(compute, metric, 1, 1)
    order = np.argsort(compute)
    f, m = compute[order], metric[order]
    corners = np.array(list(product((-0.05, 0.05), repeat=2 * len(f))))
    fs, ms = f + corners[:, : len(f)], m + corners[:, len(f) :]
    width = fs[:, -1] - fs[:, 0]
    keep = width > 1e-6
    area = (np.diff(fs) * (ms[:, 1:] + ms[:, :-1] - 2 * ms[:, :1])).sum(1)[keep] / 2
    values = area / (width * (ms[:, -1] - ms[:, 0]))[keep]
    assert values.min() == pytest.approx(low, abs=1e-9)
    assert values.max() == pytest.approx(high, abs=1e-9)


def test_band_of_published_points() -> None:
    low, high = rounding_band(*DY_YOLOV7, decimals=1)
    assert (low, high) == pytest.approx((0.5732, 0.6552), abs=5e-4)
    exact = rounding_band(*DY_YOLOV7, decimals=1, compute_decimals=9)
    assert low < exact[0] < auc_policy(*DY_YOLOV7) < exact[1] < high
    assert rounding_band([1, 2], [3, 4], 0) == (0.5, 0.5)
    assert rounding_band([1, 2, 3], [80.0, 80.1, 80.1], 1) == (-np.inf, np.inf)


def test_band_rejects_values_that_are_not_so_rounded() -> None:
    with pytest.raises(DualResError, match="metric has values with more than 1 decimals"):
        rounding_band([1, 2, 3], [1.25, 2, 3], 1)
    with pytest.raises(DualResError, match="compute has values with more than 0 decimals"):
        rounding_band([1, 2.5, 3], [1, 2, 3], 1, compute_decimals=0)
    with pytest.raises(DualResError, match="must be 0 to 15"):
        rounding_band([1, 2, 3], [1, 2, 3], -1)


def test_examples_in_the_documentation_run() -> None:
    results = [doctest.testmod(m) for m in (metric_module, rounding_module)]
    assert all(r.attempted >= 2 and r.failed == 0 for r in results)
