"""The page: its numbers, and nothing from outside."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualres_plugin.evaluate.curve import Curve
from dualres_plugin.evaluate.evaluation import Evaluation
from dualres_plugin.evaluate.report.page import amount, embed, gain_kept, percent, saving
from dualres_plugin.evaluate.report.write import write_evaluation
from dualres_plugin.profile.table import Profile
from tests.evaluate.report.helpers import page_data
from tests.report_case import build_profile, evaluate_case


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


def headline(evaluation: Evaluation, profile: Profile, folder: Path) -> str:
    """What the page says first, without its markup."""
    write_evaluation(folder, evaluation, profile, title="t", run={}, gallery=0)
    html = (folder / "report.html").read_text()
    found = re.findall(r'<p class="(?:lead|caveat)">(.*?)</p>', html)
    return re.sub(r"<[^>]+>", "", " ".join(found)).replace("&nbsp;", " ")


def test_a_headline_that_is_sure_quotes_the_gain(profile: Profile, evaluation: Evaluation, tmp_path: Path) -> None:
    text = headline(replace(evaluation, ci95=(0.7, 0.8), random_auc=0.5), profile, tmp_path)
    assert "keeps 89 % of what high gains over low, with 36 % less compute" in text and "Take care" not in text


@pytest.mark.parametrize(
    ("interval", "doubt"),
    [
        ((-0.8, 4.0), "do not show that the router beats chance"),
        ((0.1, 0.3), "the order is worse than chance"),
        ((np.nan, np.nan), "Without an interval nobody can tell"),
    ],
)
def test_a_headline_that_is_not_sure_says_so_and_quotes_no_gain(
    profile: Profile, evaluation: Evaluation, tmp_path: Path, interval: tuple[float, float], doubt: str
) -> None:
    text = headline(replace(evaluation, ci95=interval, random_auc=0.5), profile, tmp_path)
    assert "Take care: " in text and doubt in text
    assert "keeps" not in text and "has AP 82.5 (low 71.7, high 83.9)" in text
    assert "of the gain kept" not in (tmp_path / "report.html").read_text()


def test_a_step_that_is_noise_is_not_divided_by(profile: Profile, evaluation: Evaluation, tmp_path: Path) -> None:
    flat = replace(evaluation, ap_high=evaluation.ap_low + 0.006, ci95=(0.7, 0.8), random_auc=0.5)
    assert np.isnan(gain_kept(flat.metrics()))
    assert "High is 0.6 AP above low on these 30 images" in headline(flat, profile, tmp_path / "flat")
    worse = replace(flat, ap_high=evaluation.ap_low - 0.01)
    assert "High is 1.0 AP below low" in headline(worse, profile, tmp_path / "worse")


def test_more_than_all_of_the_gain_is_all(profile: Profile, evaluation: Evaluation, tmp_path: Path) -> None:
    lucky = {**evaluation.routed, "ap": evaluation.ap_high + 0.01}
    text = headline(replace(evaluation, routed=lucky, ci95=(0.7, 0.8), random_auc=0.5), profile, tmp_path)
    assert "keeps all of what high gains" in text


def test_a_fixed_size_that_is_better_is_in_the_headline(
    profile: Profile, evaluation: Evaluation, tmp_path: Path
) -> None:
    ends = evaluation.ap_low, evaluation.ap_high
    fixed = Curve("fixed size", np.array([0, 0.4, 1]), np.array([1, 2.2, 4]), np.array([ends[0], 0.83, ends[1]]))
    sure = replace(evaluation, ci95=(0.7, 0.8), random_auc=0.5)
    text = headline(replace(sure, others=[fixed]), profile, tmp_path / "better")
    assert "Take care: One fixed size, without a router, has AP 83.0 for 2.20 GMACs" in text
    assert "not the host's imgsz" in text.replace("&#x27;", "'")
    fixed.gmacs[1] = 1.03 * sure.routed["gmacs"]  # a step of the stride above
    assert "has AP 83.0" in headline(replace(sure, others=[fixed]), profile, tmp_path / "near")
    fixed.gmacs[1] = 1.2 * sure.routed["gmacs"]
    assert "Take care" not in headline(replace(sure, others=[fixed]), profile, tmp_path / "dear")
    fixed.gmacs[1], fixed.ap[1] = 2.2, 0.8
    assert "Take care" not in headline(replace(sure, others=[fixed]), profile, tmp_path / "worse")


def test_compute_that_is_added_is_not_called_saved(profile: Profile, evaluation: Evaluation, tmp_path: Path) -> None:
    assert [saving(x) for x in (0.37, 0.001, -0.001, -0.03)] == [
        "37 % less compute",
        "0 % less compute",
        "0 % less compute",
        "3 % more compute",
    ]
    dear = {**evaluation.routed, "gmacs": 1.03 * evaluation.high_gmacs}
    text = headline(replace(evaluation, routed=dear), profile, tmp_path)
    assert "3 % more compute than running everything at high" in text
    assert not re.search("[-−]3 %", (tmp_path / "report.html").read_text())


def test_the_slider_starts_at_the_point_of_the_headline(tmp_path: Path) -> None:
    profile = build_profile(tmp_path / "case", count=130)
    result = evaluate_case(profile, 0)
    counts = np.round(result.router.beta * 130)
    at_high = next(k for k in range(131) if k not in counts)  # a threshold may cut between two points of the curve
    between = {"beta": at_high / 130, "ap": 0.8, "gmacs": 2.0, "threshold": 0.1, "target_high_rate": 0.5}
    for routed in (between, result.routed):
        write_evaluation(tmp_path, replace(result, routed=routed), profile, title="t", run={}, gallery=0)
        data = page_data(tmp_path)
        steps, start = data["curves"][0]["points"], data["start"]
        assert steps[start] == [routed["beta"], routed["gmacs"], routed["ap"]]
        assert len(steps) == len(data["counts"]) and data["counts"] == sorted(set(data["counts"]))
        assert data["counts"][start] == round(routed["beta"] * 130)
        assert all([p["beta"], p["gmacs"], p["ap"]] in steps for p in result.router.points())


def test_what_was_run_is_folded(out: Path) -> None:
    html = (out / "report.html").read_text()
    assert re.search(r'<details class="wide panel" id="run">\s*<summary><h2>What was run</h2></summary>', html)


def test_the_page_refers_to_nothing_outside(out: Path) -> None:
    html = (out / "report.html").read_text()
    assert set(re.findall(r"https?://[^\s\"'<)]+", html)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(|\ssrc=", html)
    assert re.findall(r'<link[^>]+href="([^"]*)"', html) == ["data:,"]
    assert "default-src 'none'" in html


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


def test_numbers_are_short() -> None:
    assert [amount(x) for x in (0.0499, 1.5687, 24.04, 512.3, float("nan"))] == ["0.050", "1.57", "24.0", "512", "–"]
    assert [percent(x) for x in (0.5, -0.001, 1.1, float("nan"))] == ["50 %", "0 %", "110 %", "–"]
