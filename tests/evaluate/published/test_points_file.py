"""Operating points from the files that people have."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.published.points_file import name_column, read_groups, read_points, written_decimals


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
        ("gmacs,ap\n1,2\n3,-\n", "point 2: '-' in column 'ap' is no number, or none within"),
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


ODD = {
    "nan": ("gmacs,ap\n1,nan\n2,3\n", "point 1: 'nan' in column 'ap' is no number, or none within"),
    "infinite": ("gmacs,ap\n1,2\n1e999,3\n", "point 2: '1e999' in column 'gmacs' is no number, or none within"),
    "two columns of one name": ("gmacs,ap,ap\n1,2,3\n", "two columns 'ap'"),
    "a cell without end": ('gmacs,ap\n1,"' + "2" * 200_000 + "\n", "cannot read"),
    "a superscript": ("gmacs,ap\n1,²\n", "point 1: '²' in column 'ap' is no number, or none within"),
    "no points at all": ("# a comment\n", "is empty"),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_tables_are_one_error(case: str, tmp_path: Path) -> None:
    text, message = ODD[case]
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DualResError, match=message):
        read_points(tmp_path / "p.csv")


def test_a_folder_and_names_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    for path in (tmp_path, tmp_path / "loop.csv", tmp_path / ("a" * 300)):
        for read in (read_points, name_column):
            with pytest.raises(DualResError, match=r"cannot read .* as a text table"):
                read(path)


def test_json_points_without_the_column_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('[{"m": "a", "gmacs": 1, "ap": 2}, {"gmacs": 1, "ap": 2}]')
    with pytest.raises(DualResError, match="point 2: nothing in column 'm'"):
        read_groups(tmp_path / "p.json", "m")


def test_decimals_without_end_are_bounded() -> None:
    assert written_decimals("1e-999999999") == 30
