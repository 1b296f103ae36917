"""Operating points from the files that people have."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.published.points_file import read_points, written_decimals


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
