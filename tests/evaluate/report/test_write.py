"""What an evaluation leaves behind: the same numbers everywhere, nothing half-written, nothing from outside."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.types import Detections, Targets
from dualres_plugin.evaluate.evaluation import Evaluation
from dualres_plugin.evaluate.report import gallery as gallery_module
from dualres_plugin.evaluate.report import write as report
from dualres_plugin.evaluate.report.by_size import ap_by_size
from dualres_plugin.evaluate.report.examples import pick
from dualres_plugin.evaluate.report.gallery import Ranked, build_gallery, choose, costliest
from dualres_plugin.evaluate.report.matching import NEUTRAL, RIGHT, WRONG, judge
from dualres_plugin.evaluate.report.page import amount, embed, percent
from dualres_plugin.evaluate.report.write import verdict, write_evaluation
from dualres_plugin.profile.coco_ap import MixedAP
from dualres_plugin.profile.table import Profile
from tests.report_case import build_profile, evaluate_case

RUN = {"command": "dualres evaluate a b --out c", "seed": 3, "router": {"backbone": "tiny", "notes": []}}
TIMES = {"t_router": 2.0, "t_low": 10.0, "t_high": 40.0}


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return build_profile(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def evaluation(profile: Profile) -> Evaluation:
    return evaluate_case(profile)


@pytest.fixture(scope="module")
def out(profile: Profile, evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "new"
    write_evaluation(folder, evaluation, profile, title="A & B", run=RUN, gallery=12, timings=TIMES)
    return folder


def page_data(folder: Path) -> dict[str, Any]:
    """What the page's script gets."""
    html = (folder / "report.html").read_text()
    found = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert len(found) == 1
    return dict(json.loads(found[0]))


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


def test_the_page_has_the_numbers_of_the_metrics(out: Path) -> None:
    metrics, data = json.loads((out / "metrics.json").read_text()), page_data(out)
    points = {curve["name"]: curve["points"] for curve in data["curves"]}
    for name, theirs in (("router", metrics), ("random", metrics["random"]), ("oracle", metrics["oracle"])):
        assert points[name] == [[p["beta"], p["gmacs"], p["ap"]] for p in theirs["points"]]
    assert data["timings"] == metrics["timings_ms"]
    assert {s["name"]: s["points"] for s in data["sizes"]} == {
        name: size["points"] for name, size in metrics["by_size"].items()
    }
    html = (out / "report.html").read_text()
    for number in (f"{100 * metrics['ap_routed']:.1f}", f"{metrics['auc_policy']:.3f}", f"n = {metrics['n_images']}"):
        assert number in html


def test_scores_and_counts_follow_the_routers_order(out: Path, evaluation: Evaluation) -> None:
    data = page_data(out)
    assert data["scores"] == sorted(data["scores"], reverse=True)
    assert data["counts"][0] == 0 and data["counts"][-1] == evaluation.n
    assert [count / evaluation.n for count in data["counts"]] == pytest.approx(evaluation.router.beta)
    assert data["counts"][data["start"]] == round(evaluation.routed["beta"] * evaluation.n)


def test_the_page_refers_to_nothing_outside(out: Path) -> None:
    html = (out / "report.html").read_text()
    assert set(re.findall(r"https?://[^\s\"'<)]+", html)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(|\ssrc=", html)
    assert re.findall(r'<link[^>]+href="([^"]*)"', html) == ["data:,"]
    assert "default-src 'none'" in html


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


def test_examples_show_both_resolutions_and_name_the_route(out: Path, evaluation: Evaluation) -> None:
    files = sorted(path.name for path in (out / "examples").iterdir())
    assert [name[:2] for name in files] == [f"{i:02d}" for i in range(1, len(files) + 1)]
    assert len(files) == 6 and "_high_" in files[0] and "_low_" in files[-1]
    assert Image.open(out / "examples" / files[0]).width in (2 * 300 + 8, 2 * 400 + 8)


# -- odd input -------------------------------------------------------------------------------------------------


def test_names_cannot_leave_their_place(evaluation: Evaluation, tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    profile = build_profile(tmp_path / "case", categories={1: evil, 2: "<!--"}, dataset=evil)
    write_evaluation(tmp_path, evaluate_case(profile, 0), profile, title=evil, run={"<b>": evil}, gallery=3)
    html = (tmp_path / "report.html").read_text()
    assert "alert(1)</script>" not in html and "<b>:" not in html
    assert html.count("</script>") == 2
    assert page_data(tmp_path)["classes"] == {"1": evil, "2": "<!--"}


@given(st.text(), st.floats(), st.lists(st.floats()))
def test_embedded_data_comes_back(text: str, number: float, numbers: list[float]) -> None:
    embedded = embed({"text": text, "number": number, "numbers": (numbers,)})
    assert "<" not in embedded
    back = json.loads(embedded)
    assert back["text"] == text
    finite = [x if np.isfinite(x) else None for x in [number, *numbers]]
    assert [back["number"], *back["numbers"][0]] == finite


def test_without_interval_the_page_says_so(profile: Profile, evaluation: Evaluation, tmp_path: Path) -> None:
    none = replace(evaluation, ci95=(float("nan"), float("nan")))
    write_evaluation(tmp_path, none, profile, title="t", run={}, gallery=0)
    assert json.loads((tmp_path / "metrics.json").read_text())["auc_policy_ci95"] == [None, None]
    assert "no interval computed" in (tmp_path / "report.html").read_text()


def test_no_gallery_means_no_picture_at_all(profile: Profile, evaluation: Evaluation, tmp_path: Path) -> None:
    write_evaluation(tmp_path, evaluation, profile, title="t", run={}, gallery=0)
    assert "data:image" not in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "examples").exists()


def test_photos_that_are_gone_are_replaced_by_thumbnails(tmp_path: Path) -> None:
    profile = build_profile(tmp_path / "case")
    gone = sorted((tmp_path / "case" / "photos").iterdir())[:4]
    for path in gone:
        path.unlink()
    write_evaluation(tmp_path, evaluate_case(profile, 0), profile, title="t", run={}, gallery=12)
    assert len(page_data(tmp_path)["images"]) == 30
    assert "Not found where they were profiled: 4 photos" in (tmp_path / "report.html").read_text()


def test_a_score_that_is_no_number_comes_last(profile: Profile, evaluation: Evaluation, tmp_path: Path) -> None:
    scores = evaluation.scores.copy()
    scores[7] = np.nan
    write_evaluation(tmp_path, replace(evaluation, scores=scores), profile, title="t", run={}, gallery=3)
    data = page_data(tmp_path)
    assert data["scores"][-1] is None and None not in data["scores"][:-1]


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


# -- AP by size --------------------------------------------------------------------------------------------------


def test_ends_by_size_are_the_plain_evaluations(profile: Profile, evaluation: Evaluation) -> None:
    for curve in ap_by_size(profile, evaluation.scores):
        assert (curve.ap[0], curve.ap[-1]) == pytest.approx(MixedAP(profile, area=curve.name).ends())
        assert curve.at(0.5) == pytest.approx(np.interp(0.5, curve.beta, curve.ap))


def test_a_size_without_objects_has_no_numbers(tmp_path: Path) -> None:
    profile = build_profile(tmp_path / "case", sides=(10, 30))  # nothing above 32 x 32
    write_evaluation(tmp_path, evaluate_case(profile, 0), profile, title="t", run={}, gallery=0)
    sizes = json.loads((tmp_path / "metrics.json").read_text())["by_size"]
    assert sizes["small"]["objects"] > 0 and sizes["small"]["ap_high"] > sizes["small"]["ap_low"]
    empty = {"objects": 0, "ap_low": None, "ap_high": None, "ap_routed": None, "points": []}
    assert sizes["medium"] == sizes["large"] == empty


# -- right and wrong boxes ------------------------------------------------------------------------------------------


def test_boxes_are_judged_as_coco_would() -> None:
    targets = Targets(
        np.array([[0, 0, 10, 10], [50, 50, 60, 60], [100, 100, 200, 200]], np.float32),
        np.array([1, 1, 1]),
        np.array([False, False, True]),
    )
    boxes = [[0, 0, 10, 9], [0, 0, 10, 10], [50, 50, 60, 60], [50, 50, 60, 52], [110, 110, 130, 130]]
    found = Detections.from_arrays(boxes, [0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 2, 1, 1])
    verdicts, seen = judge(found, targets)
    # right; the same object again; another class; too little overlap; inside the crowd
    assert verdicts.tolist() == [RIGHT, WRONG, WRONG, WRONG, NEUTRAL]
    assert seen.tolist() == [True, False, False]


def test_nothing_to_judge() -> None:
    none, some = Detections.empty(), Detections.from_arrays([[0, 0, 5, 5]], [0.5], [1])
    targets = Targets(np.array([[0, 0, 5, 5]], np.float32), np.array([1]))
    nothing = Targets(np.zeros((0, 4), np.float32), np.zeros(0, int))
    assert judge(none, targets)[1].tolist() == [False]
    assert judge(some, nothing)[0].tolist() == [WRONG]


# -- which images ----------------------------------------------------------------------------------------------------

gains = st.lists(st.one_of(st.floats(-1, 1), st.just(float("nan"))), min_size=1, max_size=60)


def ranked_of(values: list[float]) -> Ranked:
    n = len(values)
    return Ranked(np.arange(n), np.linspace(1, 0, n), np.zeros(n), np.array(values))


@given(gains, st.integers(0, 60), st.integers(1, 8))
def test_costliest_are_the_largest_gains_at_low(values: list[float], at_high: int, shown: int) -> None:
    found = costliest(np.array(values), at_high, shown)
    left = sorted((v for v in values[at_high:] if v > 0), reverse=True)
    assert [values[rank] for rank in found] == left[:shown]
    assert all(rank >= at_high for rank in found)


@given(gains, st.integers(1, 8), st.integers(1, 40))
def test_whatever_the_budget_the_costliest_images_are_in_the_page(values: list[float], shown: int, limit: int) -> None:
    ranked, counts = ranked_of(values), range(len(values) + 1)
    chosen = choose(ranked, counts, shown, limit)
    assert len(chosen) == len(set(chosen)) and set(chosen) <= set(range(len(values)))
    needed = {rank for count in counts for rank in costliest(ranked.gain, count, shown)}
    needed |= {*range(len(values))[:shown], *range(len(values))[-shown:]}
    assert needed <= set(chosen)
    assert len(chosen) <= max(limit, len(needed))
    if limit >= len(values):
        assert len(chosen) == len(values)


def test_pictures_stop_at_their_limit_of_bytes(profile: Profile) -> None:
    rows = profile.originals
    ranked = Ranked(rows, np.linspace(1, 0, len(rows)), np.zeros(len(rows)), np.zeros(len(rows)))
    whole, _ = build_gallery(profile, ranked, [0], 2)
    part, _ = build_gallery(profile, ranked, [0], 2, max_bytes=60_000)
    assert len(whole) == 30 and 0 < len(part) < 30
    assert sum(len(json.dumps(entry)) for entry in part) < 70_000


@given(st.integers(8, 300), st.integers(8, 300))
def test_a_choice_that_is_cut_short_is_still_spread(n: int, limit: int) -> None:
    chosen = choose(ranked_of([0.0] * n), [0], 1, limit)
    assert len(chosen) == min(n, limit)
    half = sorted(chosen[: len(chosen) // 2 + 1])
    assert max(np.diff([-1, *half, n])) <= 4 * n / len(half) + 1


def test_boxes_lie_on_the_grid_of_the_picture(profile: Profile) -> None:
    rows = profile.originals
    ranked = Ranked(rows, np.linspace(1, 0, len(rows)), np.zeros(len(rows)), np.zeros(len(rows)))
    entry = build_gallery(profile, ranked, [0], 2)[0][0]
    targets, high = profile.targets(int(rows[0])), profile.detections("high", int(rows[0]))
    assert max(entry["w"], entry["h"]) == gallery_module.GRID and entry["n"] == "photo_0000.jpg"
    objects = np.array(entry["t"]).reshape(-1, 7)
    assert objects[:, :4] == pytest.approx(targets.boxes * 2.5, abs=0.5)  # 400 px -> 1000
    found = np.array(entry["hi"]).reshape(-1, 7)
    assert found[:, :4] == pytest.approx(high.boxes * 2.5, abs=0.5)
    assert found[:, 5] == pytest.approx(100 * high.scores, abs=0.5)
    assert found[:, 6].sum() == objects[:, 6].sum()  # as many right boxes as found objects


@given(st.integers(1, 40), st.integers(0, 40), st.integers(1, 9))
def test_examples_are_images_of_the_set(n: int, at_high: int, count: int) -> None:
    values = [0.1 if i % 3 else float("nan") for i in range(n)]
    chosen = pick(ranked_of(values), min(at_high, n), count)
    assert chosen and set(chosen) <= set(range(n)) and len(chosen) <= max(3, count)
    if n > 1:
        assert not np.isnan(np.array(values)[chosen]).any()


# -- words and numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "words"),
    [((0.6, 0.7), "above"), ((0.1, 0.2), "below"), ((0.1, 0.7), "includes"), ((np.nan, np.nan), "Without an interval")],
)
def test_the_verdict_compares_the_interval_with_random(
    evaluation: Evaluation, interval: tuple[float, float], words: str
) -> None:
    assert words in verdict(replace(evaluation, ci95=interval, random_auc=0.5))


def test_numbers_are_short() -> None:
    assert [amount(x) for x in (0.0499, 1.5687, 24.04, 512.3, float("nan"))] == ["0.050", "1.57", "24.0", "512", "–"]
    assert [percent(x) for x in (0.5, -0.001, 1.1, float("nan"))] == ["50 %", "0 %", "110 %", "–"]
