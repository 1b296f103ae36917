"""`dualres auc`, `tables` and `pareto` as a user runs them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dualres_plugin.cli import published
from dualres_plugin.common.errors import DualResError

POINTS = "gflops,ap\n112.4,52.1\n143.2,53.3\n174.0,53.8\n181.7,53.9\n"


@pytest.fixture
def run():
    app = typer.Typer()
    published.register(app)
    runner = CliRunner()

    def invoke(*words: object) -> str:
        result = runner.invoke(app, [str(word) for word in words], env={"COLUMNS": "120"}, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return invoke


@pytest.fixture
def points(tmp_path: Path) -> Path:
    path = tmp_path / "points.csv"
    path.write_text(POINTS, encoding="utf-8")
    return path


def test_auc_prints_value_band_and_notes(run, points: Path) -> None:
    text = run("auc", points, "--decimals", 1)
    assert "AUC-Policy  0.6142" in text
    assert "112.4 ... 181.7   (column 'gflops')" in text
    assert "rounding    0.5732 ... 0.6552" in text
    assert "note: only 4 points" in text
    assert "rounding" not in run("auc", points)


def test_auc_json_and_plot(run, points: Path, tmp_path: Path) -> None:
    plot = tmp_path / "new" / "auc.png"
    record = json.loads(run("auc", points, "--json", "--decimals", 1, "--compute-decimals", 6, "--plot", plot))
    assert record["auc_policy"] == pytest.approx(0.61420, abs=1e-5)
    assert record["n_points"] == 4
    assert record["rounding_band"][0] > 0.5732
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_auc_of_a_metrics_json_checks_its_end_points(run, tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"points": [[0.2, 1, 0.3], [0.6, 2, 0.35], [1, 3, 0.37]]}), encoding="utf-8")
    text = run("auc", path)
    assert "column 'gmacs'" in text and "no point at beta = 0" in text


def test_auc_by_method_and_unusual_columns(run, tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("method,size,quality of it\nA,1,0\nA,2,1\nA,3,1\nB,1,5\nlone,1,1\nB,2,6\n", encoding="utf-8")
    plot = tmp_path / "all.svg"
    records = json.loads(run("auc", path, "--by", "Method", "--compute", "SIZE", "--json", "--plot", plot))
    assert [record["name"] for record in records] == ["A", "B", "lone"]
    assert [record.get("auc_policy") for record in records] == [0.75, 0.5, None]
    assert "at least 2" in records[2]["error"]
    assert "<svg" in plot.read_text(encoding="utf-8")
    text = run("auc", path, "--by", "method", "--compute", "size")
    assert "lone\nno AUC-Policy: AUC-Policy needs at least 2" in text


def test_auc_errors_show_the_columns(run, tmp_path: Path, points: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("size,ap\n1,2\n2,3\n", encoding="utf-8")
    with pytest.raises(DualResError, match="Columns found: size, ap"):
        run("auc", path)
    with pytest.raises(DualResError, match=r"no column 'cost'\. Columns found: gflops, ap"):
        run("auc", points, "--compute", "cost")
    with pytest.raises(DualResError, match="does not exist"):
        run("auc", tmp_path / "missing.csv")
    with pytest.raises(DualResError, match=r"ends in .png"):
        run("auc", points, "--plot", tmp_path / "auc.xyz")


def test_help_teaches_with_examples(run) -> None:
    assert "112.4,52.1" in run("auc", "--help")
    assert "dualres pareto --curve runs/eval" in run("pareto", "--help")
    assert "dualres tables --csv" in run("tables", "--help")


def test_the_example_of_the_help_is_true(run, points: Path) -> None:
    text = run("auc", "--help")
    assert POINTS.replace("\n", " ").split() == [word for word in text.split() if word in POINTS.split()]
    assert "AUC-Policy 0.6142" in text and "0.573 ... 0.655" in text


def test_tables_on_screen_and_as_csv(run, tmp_path: Path) -> None:
    path = tmp_path / "tables.csv"
    text = run("tables", "--csv", path)
    assert "Table 1" in text and "Table 2" in text and "none public" in text
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    for row in rows:
        if row["ours"]:
            limit = 0.003 if row["method"] == "IMTA-MSDNet" else 0.001
            assert abs(float(row["ours"]) - float(row["paper"])) <= limit
    assert "DVT (DeiT-S) full sweep" in run("tables", "--all")


def test_pareto_writes_plots_and_csv(run, tmp_path: Path) -> None:
    curve = tmp_path / "curve.csv"
    curve.write_text("beta,gmacs,ap\n0,0.8,30\n0.5,2,36\n1,3.2,37.5\n", encoding="utf-8")
    out = tmp_path / "out"
    text = run("pareto", "--curve", f"routed={curve}", "--out", out)
    assert "your images" in text
    assert sorted(path.name for path in out.iterdir()) == [
        "pareto.csv",
        "pareto_detectors.png",
        "pareto_efficientdet.png",
    ]
    rows = list(csv.DictReader((out / "pareto.csv").open(encoding="utf-8")))
    assert [row["gmacs"] for row in rows if row["name"] == "routed"] == ["0.8", "2", "3.2"]
    assert any(row["name"] == "random mix EfficientDet-D1 / D2" for row in rows)


def test_pareto_families_and_list(run, tmp_path: Path) -> None:
    run("pareto", "--families", "yolo11, DynamicDet", "--mix", "YOLO11n,YOLO11s", "--out", tmp_path / "out")
    assert (tmp_path / "out" / "pareto.png").is_file()
    families = {row["family"] for row in csv.DictReader((tmp_path / "out" / "pareto.csv").open(encoding="utf-8"))}
    assert families == {"YOLO11", "DynamicDet", ""}
    assert "EfficientDet-D7" in run("pareto", "--list")
    with pytest.raises(DualResError, match="LOW,HIGH, got 'D1'"):
        run("pareto", "--mix", "D1", "--out", tmp_path)


def test_registering_imports_nothing_heavy() -> None:
    code = (
        "import sys, typer; from dualres_plugin.cli import published; published.register(typer.Typer());"
        "print([m for m in ('numpy', 'matplotlib', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
