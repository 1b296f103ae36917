"""The plot, whose labels do not overlap."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from dualres_plugin.evaluate.published.figures import figures
from dualres_plugin.evaluate.published.labels import place_labels
from dualres_plugin.evaluate.published.pareto import read_curve
from dualres_plugin.evaluate.published.plot import plot_pareto
from tests.evaluate.published.helpers import write_metrics


@pytest.mark.parametrize("index", [0, 1])
def test_labels_of_the_figures_do_not_overlap(index: int, tmp_path: Path) -> None:
    calls = []

    def record(ax, points):
        boxes = place_labels(ax, points)
        calls.append((ax, points, boxes))
        return boxes

    figure = figures(None, [], [str(write_metrics(tmp_path / "run", True))])[index]
    plot_pareto(figure.series, figure.title, figure.subtitle, figure.zoom, record)
    expected = sum(bool(point.label) for one in figure.series for point in one.points)
    assert len(calls[-1][2]) == expected
    for ax, points, boxes in calls:
        frame = ax.get_window_extent()
        legend = ax.get_legend()
        for box in boxes:
            assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            assert legend is None or not box.overlaps(legend.get_window_extent())
        assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
        pixels = ax.transData.transform([point[:2] for point in points])
        assert not any(box.contains(*pixel) for box in boxes for pixel in pixels)


def test_plot_without_any_detector_or_label(tmp_path: Path) -> None:
    figure = plot_pareto([read_curve(str(write_metrics(tmp_path / "run", True)))], "mine")
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["run (yours)", "random mix of the two ends"]
