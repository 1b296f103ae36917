"""The Pareto figures: data in one unit, own curves from files, and a plot whose labels do not overlap."""

from __future__ import annotations

import csv
import io
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.published.figures import figures
from dualres_plugin.evaluate.published.labels import place_labels
from dualres_plugin.evaluate.published.pareto import csv_text, family_names, mix_series, published_series, read_curve
from dualres_plugin.evaluate.published.plot import plot_pareto
from dualres_plugin.evaluate.published.points_file import read_points, written_decimals


def test_efficientdet_has_all_eight_points_on_both_splits() -> None:
    for split, d7 in (("val", 53.4), ("test", 53.7)):
        (series,) = published_series(["efficientdet"], split)
        assert [point.label for point in series.points] == [f"EfficientDet-D{i}" for i in range(8)]
        assert series.points[-1].ap == d7
        assert np.all(np.diff([point.gmacs for point in series.points]) > 0)


def test_one_source_per_family() -> None:
    """A series carries one citation and one unit, so a family must not mix sources."""
    from dualres_plugin.evaluate.published.catalog import detectors

    for family in family_names():
        assert len({d.source.name for d in detectors() if d.family == family}) <= 1


def test_dynamic_models_carry_beta_and_the_right_split() -> None:
    val = published_series(["DynamicDet"], "val")
    test = published_series(["DynamicDet"], "test")
    assert [one.name for one in val] == [one.name for one in test] == ["Dy-YOLOv7", "Dy-YOLOv7-X", "Dy-YOLOv7-W6"]
    assert val[0].points[0].ap == 51.4 and test[0].points[0].ap == 52.1
    assert [point.beta for point in val[0].points] == [0.1, 0.5, 0.9, 1.0]
    assert val[0].points[0].gmacs == pytest.approx(56.2)


def test_mix_is_the_straight_line_between_two_models() -> None:
    mix = mix_series("D2", "efficientdet-d1")
    middle = mix.points[len(mix.points) // 2]
    assert middle.beta == 0.5
    assert middle.gmacs == pytest.approx((6.1 + 11.0) / 2)
    assert middle.ap == pytest.approx((40.2 + 42.5) / 2)
    with pytest.raises(DualResError, match="no published model 'D9'"):
        mix_series("D1", "D9")
    with pytest.raises(DualResError, match="cost the same"):
        mix_series("YOLO11n", "YOLO12n")


def test_unknown_names_are_listed() -> None:
    with pytest.raises(DualResError, match=r"no family 'foo' on COCO val2017\. Families: EfficientDet"):
        published_series(["foo"])
    with pytest.raises(DualResError, match="unknown split 'train'"):
        published_series(None, "train")
    with pytest.raises(DualResError, match="test-dev2017"):
        published_series(["YOLO11"], "test")


POINTS = [(0.0, 0.8, 0.30), (0.5, 2.0, 0.36), (1.0, 3.2, 0.375)]


def write_metrics(folder: Path, as_objects: bool) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    points = [dict(zip(("β", "gmacs", "ap"), p)) for p in POINTS] if as_objects else POINTS
    path = folder / "metrics.json"
    path.write_text(json.dumps({"auc_policy": 0.6, "points": points}), encoding="utf-8")
    return path


@pytest.mark.parametrize("as_objects", [True, False])
def test_curve_from_metrics_json_or_its_folder(tmp_path: Path, as_objects: bool) -> None:
    path = write_metrics(tmp_path / "plates", as_objects)
    for text in (str(path), str(path.parent)):
        curve = read_curve(text)
        assert curve.name == "plates"
        found = [(p.beta, p.gmacs, p.ap / 100) for p in curve.points]
        np.testing.assert_allclose(np.array(found), POINTS)
    assert read_curve(f"mine={path}").name == "mine"


def test_curve_from_csv_converts_gflops_and_keeps_percent(tmp_path: Path) -> None:
    path = tmp_path / "run7.csv"
    path.write_text("share;GFLOPs;mAP50-95\n1;6.4;37.5\n0;1.6;30\n", encoding="utf-8")
    curve = read_curve(str(path))
    assert curve.name == "run7"
    assert [(p.gmacs, p.ap, p.beta) for p in curve.points] == [(0.8, 30, None), (3.2, 37.5, None)]
    assert "GFLOPs x 0.5" in curve.note


def test_bad_curves_get_one_clear_error(tmp_path: Path) -> None:
    latency = tmp_path / "latency.csv"
    latency.write_text("ms,ap\n1,2\n3,4\n", encoding="utf-8")
    with pytest.raises(DualResError, match="needs compute in GMACs, found column 'ms'"):
        read_curve(str(latency))
    zero = tmp_path / "zero.csv"
    zero.write_text("gmacs,ap\n0,2\n3,nan\n", encoding="utf-8")
    with pytest.raises(DualResError, match="must be positive"):
        read_curve(str(zero))
    with pytest.raises(DualResError, match=r"neither metrics.json nor curve.csv"):
        read_curve(str(tmp_path))
    with pytest.raises(DualResError, match="does not exist"):
        read_curve("name=nowhere.csv")
    (tmp_path / "metrics.json").write_text('{"auc_policy": 1}', encoding="utf-8")
    with pytest.raises(DualResError, match="has no list of points"):
        read_curve(str(tmp_path))
    write_metrics(tmp_path / "a", True)
    with pytest.raises(DualResError, match="named alike"):
        figures(None, [], [str(tmp_path / "a"), str(tmp_path / "a" / "metrics.json")])


def test_points_files_of_many_dialects(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    for text, names in (
        ("FLOPs (G),Top-1 acc\n1.5,70.25%\n2,72%\n", ("FLOPs (G)", "Top-1 acc")),
        ("# made by hand\nmodel\tlatency_ms\tAP_val\na\t1.5\t70.25\nb\t2\t72\n", ("latency_ms", "AP_val")),
        ("\ufeffap,router_gmacs,gmacs\n70.25,9,1.5\n72,9,2\n", ("gmacs", "ap")),
        ("compute,metric,metric_name\n1.5,70.25,AP\n2,72,AP\n", ("compute", "metric")),
    ):
        path.write_text(text, encoding="utf-8")
        points = read_points(path)
        assert (points.compute_name, points.metric_name) == names
        assert points.compute == (1.5, 2) and points.metric == (70.25, 72)
        assert (points.compute_decimals, points.metric_decimals) == (1, 2)


def test_bad_points_files_name_file_point_and_column(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    for text, words in (
        ("", "is empty"),
        ("gmacs,ap\n", "holds no points"),
        ("gmacs,ap\n1,2\n3\n", "point 2: 1 cells under 2 columns"),
        ("gmacs,ap\n1,2\n3,-\n", "point 2: '-' in column 'ap' is no number"),
        ("size,ap\n1,2\n", "no compute column recognised. Columns found: size, ap"),
        ("gmacs,b\n1,2\n", "no metric column recognised"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DualResError, match=words):
            read_points(path)
    with pytest.raises(DualResError, match=r"no column 'x'\. Columns found: gmacs, b"):
        read_points(path, metric="x")
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(DualResError, match="cannot read"):
        read_points(path)


def test_written_decimals() -> None:
    assert [written_decimals(text) for text in ("12", "53.30", "1.2e-2", "1.25e1", "-0.5")] == [0, 2, 3, 1, 1]


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
