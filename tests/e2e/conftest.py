"""A real browser for the tests of the report: the machine's own Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update"]


class Visit(Protocol):
    """Opens a page of a folder."""

    def __call__(self, folder: Path, name: str = "report.html") -> Page: ...


def find_chromium() -> str | None:
    """`$CHROMIUM`, or a Chromium or Chrome on the path."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for path in map(shutil.which, NAMES) if path), None)


# Not for the session: while Playwright is at work its event loop counts as running, and others' would not start.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window; skips where there is none."""
    path = find_chromium()
    if path is None:
        pytest.skip("needs Chromium or Chrome (scripts/install_browser.sh installs it, $CHROMIUM names one)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens a page of a folder; afterwards there must be no complaint and no request but for the file itself."""
    complaints: list[str] = []
    requests: list[str] = []
    visitor = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            complaints.append(message.text)

    visitor.on("console", heard)
    visitor.on("weberror", lambda error: complaints.append(str(error.error)))
    visitor.on("request", lambda request: requests.append(request.url))

    def visit(folder: Path, name: str = "report.html") -> Page:
        page = visitor.new_page()
        page.goto((folder / name).resolve().as_uri())
        return page

    yield visit
    for page in visitor.pages:
        page.evaluate("new Promise(requestAnimationFrame)")  # what it had to say has arrived
    opened = [page.url for page in visitor.pages]
    visitor.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == opened
