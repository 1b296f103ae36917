"""Streams over time in a real browser: in the report of a profile of clips, and beside a video of `predict`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from playwright.sync_api import Browser, Page

from dualres_plugin.common.card import SKIP, SKIPPED
from dualres_plugin.common.types import ImageDecision
from dualres_plugin.evaluate.report.write import write_evaluation
from dualres_plugin.predict.timeline import Timeline
from dualres_plugin.profile.table import Profile
from tests.e2e.conftest import Visit
from tests.fakes import photo
from tests.report_case import build_profile, evaluate_case


@pytest.fixture(scope="module")
def out(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two clips of 15 frames, and the page of a video with a cut and skipped frames."""
    folder = tmp_path_factory.mktemp("report")
    plain = build_profile(folder / "case")
    clips = pa.array([f"/v/{name}.mp4" for name in ("street", "yard") for _ in range(15)])
    table = plain.table.append_column("clip", clips)
    table = table.append_column("frame", pa.array([*range(15)] * 2, pa.int32()))
    profile = Profile({**plain.meta, "clips": True}, table, plain.path)
    write_evaluation(folder, evaluate_case(profile), profile, title="Clips", run={}, gallery=3)
    line = Timeline(rate=5, largest=640, budget=0.5)
    for i in range(40):
        step = SKIP if i % 4 == 3 else i % 2
        name, size = {0: ("high", 640), 1: ("low", 320), SKIP: (SKIPPED, None)}[step]
        line.add(ImageDecision(name, float(np.sin(i)), 0.1, step, size), photo(i // 20))
    line.save_page(folder / "timeline.html", "street <b>.mp4")
    return folder


def says(page: Page) -> str:
    return page.locator("#timeline-says").text_content() or ""


def drawn(page: Page) -> dict[str, int]:
    """How many of each kind are drawn."""
    kinds = ".run-of", ".cutline", ".budget-line", ".curve.score", ".curve.limit"
    return {kind: page.locator(f"#timeline {kind}").count() for kind in kinds}


def test_the_report_draws_each_clip_at_each_budget(visit: Visit, out: Path) -> None:
    page = visit(out)
    assert page.locator("#clip option").all_text_contents() == ["street.mp4", "yard.mp4"]
    first = says(page)
    assert first.startswith("15 frames")
    page.locator("#clip").select_option("1")
    assert says(page) != first and drawn(page)[".budget-line"] == 1
    page.locator("#beta").focus()
    page.keyboard.press("End")
    assert "15 at high" in says(page)
    assert page.locator("#timeline .run-of[data-step='1']").get_attribute("d") == ""
    page.keyboard.press("Home")
    assert ": 0 at high" in says(page)


def test_a_frame_is_read_under_the_pointer(visit: Visit, out: Path) -> None:
    page = visit(out, "timeline.html")
    whole = says(page)
    assert whole == "40 frames: 20 high, 10 low, 10 skip; 1 cuts; mean cost 56%, budget 50%."
    assert drawn(page) == {".run-of": 3, ".cutline": 1, ".budget-line": 1, ".curve.score": 1, ".curve.limit": 1}
    page.locator("#timeline").hover(position={"x": 300, "y": 60})
    assert says(page).startswith("seconds ") and "pixels of all high" in says(page)
    page.locator("h1").hover()
    assert says(page) == whole and page.locator("h1").text_content() == "street <b>.mp4"


@pytest.mark.parametrize("name", ["report.html", "timeline.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_follows_the_theme(visit: Visit, out: Path, name: str, scheme: str) -> None:
    page = visit(out, name)
    page.set_viewport_size({"width": 390, "height": 800})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.querySelector('#timeline svg').clientWidth") <= 390
    assert page.evaluate("document.documentElement.dataset.theme") == scheme


def test_photos_have_no_such_part(visit: Visit, tmp_path: Path) -> None:
    profile = build_profile(tmp_path / "case", 6)
    write_evaluation(tmp_path, evaluate_case(profile), profile, title="Photos", run={}, gallery=0)
    assert visit(tmp_path).locator("#over-time").count() == 0
