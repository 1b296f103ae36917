"""Which series make up a figure."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from dualres_plugin.evaluate.published.figures import figures
from dualres_plugin.evaluate.published.pareto import csv_text
from tests.evaluate.published.helpers import write_metrics


def test_default_figures_and_their_csv(tmp_path: Path) -> None:
    drawn = figures(None, [], [str(write_metrics(tmp_path / "run", True))])
    assert [figure.name for figure in drawn] == ["pareto_detectors", "pareto_efficientdet"]
    assert drawn[1].zoom == (6.1, 11.0)
    for figure in drawn:
        assert [one.name for one in figure.series if one.kind == "curve"] == ["run"]
    kinds = {one.kind for figure in drawn for one in figure.series}
    assert kinds == {"detector", "dynamic", "mix", "curve"}

    unique = dict.fromkeys(one for figure in drawn for one in figure.series)
    rows = list(csv.DictReader(io.StringIO(csv_text(unique))))
    assert len(rows) == sum(len(one.points) for one in unique)
    for row in rows:
        assert float(row["gflops"]) == pytest.approx(2 * float(row["gmacs"]), rel=1e-4)
    yolo = next(row for row in rows if row["model"] == "YOLO11n")
    assert (yolo["gmacs"], yolo["reported"], yolo["reported_unit"], yolo["ap"]) == (
        "3.25",
        "6.5",
        "2xMAC",
        "39.5",
    )
    assert yolo["source"] and yolo["note"]


def test_one_figure_with_chosen_families_and_mixes() -> None:
    (figure,) = figures(["YOLO11", "DynamicDet"], [("YOLO11n", "YOLO11s")], [])
    assert figure.name == "pareto"
    assert [one.kind for one in figure.series] == ["detector", "dynamic", "dynamic", "dynamic", "mix"]
    assert figure.series[-1].name == "random mix YOLO11n / YOLO11s"
