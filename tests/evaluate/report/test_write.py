"""What an evaluation leaves behind: the same numbers everywhere, nothing half-written, nothing from outside."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.evaluation import Evaluation
from dualres_plugin.evaluate.report.figure import save_curve
from dualres_plugin.evaluate.report.write import verdict, write_evaluation
from dualres_plugin.profile.table import Profile
from tests.evaluate.report.helpers import RUN, TIMES

# -- the files -----------------------------------------------------------------------------------------------


def test_all_files_are_there_and_nothing_else(out: Path) -> None:
    assert sorted(p.name for p in out.iterdir()) == [
        "curve.csv",
        "curve.png",
        "examples",
        "metrics.json",
        "report.html",
    ]
    assert Image.open(out / "curve.png").size == (1440, 960)


def test_metrics_are_those_of_the_evaluation_and_say_what_was_run(out: Path, evaluation: Evaluation) -> None:
    metrics = json.loads((out / "metrics.json").read_text())
    own = evaluation.metrics()
    assert {key: metrics[key] for key in own} == json.loads(json.dumps(own))
    assert metrics["run"]["command"] == RUN["command"] and metrics["run"]["seed"] == 3
    assert metrics["run"]["detector"]["high"] == 640 and metrics["run"]["data"]["images"] == 30
    assert metrics["run"]["versions"]["numpy"] == np.__version__
    beta = evaluation.routed["beta"]
    assert metrics["timings_ms"]["routed"] == pytest.approx(12 + 30 * beta)


def test_curve_csv_holds_every_point_of_every_policy(out: Path, evaluation: Evaluation) -> None:
    with (out / "curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for curve in (evaluation.router, evaluation.oracle, evaluation.random, *evaluation.others):
        mine = [row for row in rows if row["policy"] == curve.name]
        assert [float(row["ap"]) for row in mine] == curve.ap.tolist()
        assert [float(row["beta"]) for row in mine] == curve.beta.tolist()
        assert [float(row["gflops"]) for row in mine] == (2 * curve.gmacs).tolist()
    assert {row["policy"] for row in rows} == {"router", "oracle", "random", "cascade"}


def test_the_same_evaluation_gives_the_same_files(
    out: Path, profile: Profile, evaluation: Evaluation, tmp_path: Path
) -> None:
    write_evaluation(tmp_path, evaluation, profile, title="A & B", run=RUN, gallery=12, timings=TIMES)
    for name in ("metrics.json", "report.html", "curve.csv"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()


def test_a_second_run_replaces_the_first_and_spares_other_files(
    profile: Profile, evaluation: Evaluation, tmp_path: Path
) -> None:
    (tmp_path / "examples").mkdir()
    for name in ("01_high_old.jpg", "mine.jpg", "99_notes.jpg"):
        (tmp_path / "examples" / name).write_text("x")
    (tmp_path / "notes.txt").write_text("keep")
    (tmp_path / "metrics.json").write_text("old")
    write_evaluation(tmp_path, evaluation, profile, title="t", run={}, gallery=3)
    assert json.loads((tmp_path / "metrics.json").read_text())["n_images"] == 30
    left = {path.name for path in (tmp_path / "examples").iterdir()}
    assert "01_high_old.jpg" not in left and {"mine.jpg", "99_notes.jpg"} < left
    assert (tmp_path / "notes.txt").read_text() == "keep"


def test_a_failure_leaves_the_old_files_alone(profile: Profile, evaluation: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("old")
    no_text: Any = None  # the numbers are written by then, the figure fails
    with pytest.raises(TypeError):
        write_evaluation(tmp_path, evaluation, profile, title=no_text, run={}, gallery=0)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("metrics.json", "old")]


# -- odd input -------------------------------------------------------------------------------------------------


def test_scores_of_another_profile_are_refused(profile: Profile, evaluation: Evaluation, tmp_path: Path) -> None:
    with pytest.raises(DualResError, match=r"29 scores.*30 images"):
        write_evaluation(tmp_path, replace(evaluation, scores=evaluation.scores[1:]), profile, title="t", run={})


def test_missing_timings_are_named(profile: Profile, evaluation: Evaluation, tmp_path: Path) -> None:
    with pytest.raises(DualResError, match="timings lack t_router, t_high"):
        write_evaluation(tmp_path, evaluation, profile, title="t", run={}, timings={"t_low": 1.0})


def test_an_output_that_is_a_file_is_one_error(profile: Profile, evaluation: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(DualResError, match="cannot write"):
        write_evaluation(tmp_path / "out", evaluation, profile, title="t", run={})


# -- words and numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "words"),
    [((0.6, 0.7), "above"), ((0.1, 0.2), "below"), ((0.1, 0.7), "includes"), ((np.nan, np.nan), "Without an interval")],
)
def test_the_verdict_compares_the_interval_with_random(
    evaluation: Evaluation, interval: tuple[float, float], words: str
) -> None:
    assert words in verdict(replace(evaluation, ci95=interval, random_auc=0.5))


def test_names_that_matplotlib_would_read_as_mathematics(evaluation: Evaluation, tmp_path: Path) -> None:
    save_curve(tmp_path / "curve.png", evaluation, r"$x_{$.pt on $\data", "a$b$ and\nc")
    assert Image.open(tmp_path / "curve.png").size == (1440, 960)
