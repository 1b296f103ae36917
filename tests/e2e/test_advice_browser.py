"""advice.html in a real browser: the way and the slider move everything, and nothing is fetched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page

from dualres_plugin.evaluate.ladder.advise import Advice, advise
from dualres_plugin.evaluate.report.advice import write_advice
from dualres_plugin.evaluate.scoring import score_profile
from tests.e2e.conftest import Visit
from tests.evaluate.helpers import bright_router
from tests.fakes import planted_ladder


@pytest.fixture(scope="module")
def case(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Advice]:
    """Depends on the browser so that nothing is computed where there is none."""
    folder = tmp_path_factory.mktemp("advice")
    profile, router = planted_ladder(folder / "p", 60), bright_router()
    found = advise(profile, router, bootstrap=20, every=True)
    write_advice(folder, found, profile, score_profile(router, profile, profile.originals))
    return folder, found


@pytest.fixture
def page(visit: Visit, case: tuple[Path, Advice]) -> Page:
    return visit(case[0], "advice.html")


def text(page: Page, selector: str) -> str:
    return (page.locator(selector).text_content() or "").strip()


def to(page: Page, way: int, step: int) -> None:
    """Choose a way, and move the slider along it with the keyboard."""
    page.evaluate(f"document.getElementById('way-{way}').click()")
    page.evaluate("document.getElementById('step').focus()")
    page.keyboard.press("Home")
    for _ in range(step):
        page.keyboard.press("ArrowRight")


def test_it_opens_at_the_advice(page: Page, case: tuple[Path, Advice]) -> None:
    folder, found = case
    stored: dict[str, Any] = json.loads((folder / "advice.json").read_text())
    assert text(page, "#advice").replace("\xa0", " ").lower() == found.sentence.lower() == stored["sentence"].lower()
    assert text(page, "#now-ap") == f"{100 * found.choice.ap:.1f}"
    assert text(page, "#now-cost") == f"{found.choice.cost:.2f}"
    assert (folder / "frontier.png").is_file()


def test_everything_follows_the_slider(page: Page, case: tuple[Path, Advice]) -> None:
    ways = list(case[1].ways.values())
    for way, step in ((0, 0), (1, 2), (2, 1)):
        to(page, way, step)
        wanted = ways[way][step]
        assert text(page, "#now-ap") == f"{100 * wanted.ap:.1f}"
        rows = page.locator("#sizes tbody tr").all_text_contents()
        assert [row.split(" px")[0] for row in rows] == [str(size) for size in wanted.sizes]
        assert [row.endswith(f"{100 * share:.0f} %") for row, share in zip(rows, wanted.shares)] == [True] * len(rows)
        if len(wanted.sizes) > 1:
            assert text(page, "#command") == wanted.command
        shown = set(page.evaluate("[...document.querySelectorAll('#groups .card')].map(c => +c.dataset.size)"))
        assert shown <= set(wanted.sizes) and shown
    page.click("#reset")
    assert text(page, "#now-cost") == f"{case[1].choice.cost:.2f}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(page: Page, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") != scheme
