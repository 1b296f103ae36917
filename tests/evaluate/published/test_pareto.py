"""The Pareto figures: data in one unit, own curves from files, and a plot whose labels do not overlap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.published.figures import figures
from dualres_plugin.evaluate.published.pareto import family_names, mix_series, published_series, read_curve
from tests.evaluate.published.helpers import POINTS, write_metrics


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
    zero.write_text("gmacs,ap\n0,2\n3,4\n", encoding="utf-8")
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
