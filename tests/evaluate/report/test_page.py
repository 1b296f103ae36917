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

from dualres_plugin.evaluate.evaluation import Evaluation
from dualres_plugin.evaluate.report.page import amount, embed, percent
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
