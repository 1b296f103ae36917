"""report.html in a real browser: everything follows the slider, with mouse and keys, and nothing is fetched."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page

from dualres_plugin.common.types import Detections
from dualres_plugin.evaluate.evaluation import Evaluation
from dualres_plugin.evaluate.report.write import write_evaluation
from tests.fakes import make_profile, truth
from tests.report_case import build_profile, evaluate_case

TIMES = {"t_router": 2.0, "t_low": 10.0, "t_high": 40.0}
Visit = Callable[[Path], Page]


@pytest.fixture(scope="module")
def out(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on 30 photos; depends on the browser so that nothing is computed where there is none."""
    folder = tmp_path_factory.mktemp("report")
    profile = build_profile(folder / "case")
    write_evaluation(folder, evaluate_case(profile), profile, title="Photos", run={}, gallery=12, timings=TIMES)
    return folder


@pytest.fixture(scope="module")
def metrics(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "metrics.json").read_text()))


@pytest.fixture
def page(visit: Visit, out: Path) -> Page:
    """The report of `out`, just opened."""
    return visit(out)


def text(page: Page, selector: str) -> str:
    """What the one element of a selector says."""
    return (page.locator(selector).text_content() or "").strip()


def settle(page: Page) -> None:
    """Wait until the page has been laid out and drawn anew."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def prefer(page: Page, scheme: Literal["light", "dark"]) -> None:
    """What the system asks for."""
    page.emulate_media(color_scheme=scheme)
    settle(page)


def readouts(page: Page) -> dict[str, str]:
    return {key: text(page, f"#now-{key}") for key in ("beta", "ap", "gmacs", "ms", "kept", "saved")}


def expected(metrics: dict[str, Any], i: int) -> dict[str, str]:
    """What the page must say at one point of metrics.json."""
    point = metrics["points"][i]
    beta, gmacs, ap = point["beta"], point["gmacs"], point["ap"]
    kept = (ap - metrics["ap_low"]) / (metrics["ap_high"] - metrics["ap_low"])
    return {
        "beta": f"{100 * beta:.0f} %",
        "ap": f"{100 * ap:.1f}",
        "gmacs": f"{gmacs:.2f} ({2 * gmacs:.2f})",
        "ms": f"{12 + 30 * beta:.1f}",
        "kept": f"{100 * kept:.0f} %",
        "saved": f"{abs(100 * (1 - gmacs / metrics['high_gmacs'])):.0f} %",
    }


def move_to(page: Page, i: int) -> None:
    """Move the slider with the keyboard."""
    page.evaluate("document.getElementById('beta').focus()")
    page.keyboard.press("Home")
    for _ in range(i):
        page.keyboard.press("ArrowRight")


def cards(page: Page, group: str, what: str = "route") -> list[tuple[int, str]]:
    """(rank, route or drawn view) of the cards of a group."""
    script = f"[...document.querySelectorAll('#{group} .card')].map(c => [+c.dataset.rank, c.dataset.{what}])"
    return [(rank, value) for rank, value in page.evaluate(script)]


def test_the_headline_is_that_of_the_metrics(page: Page, metrics: dict[str, Any]) -> None:
    lower, upper = metrics["auc_policy_ci95"]
    assert page.locator(".tile .figure").all_text_contents() == [
        f"{100 * metrics['ap_routed']:.1f}",
        f"{metrics['routed']['gmacs']:.2f} GMACs",
        f"{metrics['auc_policy']:.3f}",
    ]
    detail = page.locator(".tile .detail").all_text_contents()[2]
    random = metrics["random"]
    for part in (
        f"{lower:.3f} to {upper:.3f}",
        f"random {random['auc_policy']:.3f} ± {random['sd']:.3f}",
        f"oracle {metrics['oracle']['auc_policy']:.3f}",
        f"n = {metrics['n_images']}",
    ):
        assert part in detail


@pytest.mark.parametrize("i", [0, 3, 17, 30])
def test_the_numbers_follow_the_slider(page: Page, metrics: dict[str, Any], i: int) -> None:
    move_to(page, i)
    assert readouts(page) == expected(metrics, i)
    beta = f"{100 * metrics['points'][i]['beta']:.0f} % of the images at high"
    assert beta in page.evaluate("document.getElementById('beta').getAttribute('aria-valuetext')")
    assert f"reaches AP {100 * metrics['points'][i]['ap']:.1f}" in text(page, "#curve-says")


def test_the_marker_moves_along_the_curve(page: Page, metrics: dict[str, Any]) -> None:
    places = []
    for i in (0, 15, 30):
        move_to(page, i)
        places.append(
            page.evaluate("['cx','cy'].map(k => +document.querySelector('#curve .point.now').getAttribute(k))")
        )
        assert text(page, "#curve .name.now") == f"{100 * metrics['points'][i]['ap']:.1f}"
    x = [place[0] for place in places]
    gmacs = [metrics["points"][i]["gmacs"] for i in (0, 15, 30)]
    assert (x[1] - x[0]) / (x[2] - x[0]) == pytest.approx((gmacs[1] - gmacs[0]) / (gmacs[2] - gmacs[0]), abs=0.01)
    assert places[2][1] < places[0][1]  # all high has the better AP: higher up


def test_the_histogram_splits_at_the_threshold(page: Page, metrics: dict[str, Any]) -> None:
    script = "['low','high'].map(c => [...document.querySelectorAll(`#histogram .bin.${c}`)]"
    script += ".reduce((sum, bar) => sum + +bar.getAttribute('height'), 0))"
    for i in (0, 10, 30):
        move_to(page, i)
        low, high = page.evaluate(script)
        assert high / (low + high) == pytest.approx(metrics["points"][i]["beta"], abs=1e-6)
        assert text(page, "#n-high").startswith(f"{round(metrics['points'][i]['beta'] * 30)} image")
    outcome = page.evaluate("[...document.querySelectorAll('#outcome tbody td')].map(c => +c.textContent)")
    assert outcome[3:] == [0, 0, 0] and sum(outcome[:3]) == 27  # three photos have no objects


def test_ap_by_size_follows(page: Page, metrics: dict[str, Any]) -> None:
    for i, key in ((0, "ap_low"), (30, "ap_high")):
        move_to(page, i)
        for name, size in metrics["by_size"].items():
            value = f"{100 * size[key]:.1f}" if size["objects"] else "–"
            assert text(page, f"#size-{name} .routed") == value
    move_to(page, 15)
    small = metrics["by_size"]["small"]
    routed = float(text(page, "#size-small .routed"))
    assert 100 * small["ap_low"] < routed < 100 * small["ap_high"]


def test_the_pictures_follow_the_slider(page: Page) -> None:
    seen = []
    for i in (4, 15, 26):
        move_to(page, i)
        border = cards(page, "border")
        seen.append([rank for rank, _ in border])
        assert [rank for rank, _ in border] == list(range(i - 2, i + 2))
        for group in ("highest", "border", "lowest", "worst"):
            assert all(route == ("high" if rank < i else "low") for rank, route in cards(page, group))
            assert all(drawn == ("hi" if rank < i else "lo") for rank, drawn in cards(page, group, "drawn"))
    assert seen[0] != seen[1] != seen[2]
    assert [rank for rank, _ in cards(page, "highest")] == [0, 1, 2, 3]
    assert [rank for rank, _ in cards(page, "lowest")] == [26, 27, 28, 29]


def test_where_routing_hurts_lists_the_largest_losses_at_low(page: Page, out: Path) -> None:
    gains = page.evaluate("JSON.parse(document.getElementById('data').textContent).gains")
    for i in (0, 12, 25):
        move_to(page, i)
        lost = sorted((g for g in gains[i:] if g is not None and g > 0.0005), reverse=True)
        assert [gains[rank] for rank, _ in cards(page, "worst")] == lost[:4]
        assert text(page, "#hurts-says").startswith(f"{len(lost)} of the {30 - i} images")
    move_to(page, 30)
    assert cards(page, "worst") == [] and "nothing can be lost" in text(page, "#hurts-says")


def test_the_view_changes_what_is_drawn(page: Page) -> None:
    move_to(page, 15)
    page.evaluate("document.querySelector('#view input').focus()")
    counts = {}
    for view in ("lo", "hi", "truth"):
        page.keyboard.press("ArrowRight")
        assert {drawn for _, drawn in cards(page, "highest", "drawn")} == {view}
        script = "[...document.querySelectorAll('#highest .box')].map(b => b.classList[1])"
        counts[view] = page.evaluate(script)
    assert set(counts["truth"]) == {"truth"}
    for view in ("lo", "hi"):  # each object is either found or missed
        found = counts[view].count("right") + counts[view].count("missed")
        assert found == len(counts["truth"])
    assert counts["lo"].count("missed") > counts["hi"].count("missed")


def test_an_image_opens_with_the_keyboard(page: Page) -> None:
    move_to(page, 15)
    page.evaluate("document.querySelector('#highest .card').focus()")
    page.keyboard.press("Enter")
    assert page.evaluate("document.getElementById('viewer').open")
    first = text(page, "#viewer-name")
    assert page.evaluate("document.querySelectorAll('#viewer image').length") == 2
    assert "the route at this budget" in page.locator("#viewer figcaption").all_text_contents()[1]
    page.keyboard.press("ArrowRight")
    assert text(page, "#viewer-name") != first and text(page, "#viewer-place") == "2 of 4"
    page.keyboard.press("Escape")
    assert not page.evaluate("document.getElementById('viewer').open")
    assert page.evaluate("document.activeElement.className") == "card"


def test_every_control_is_reached_with_tab(page: Page) -> None:
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert reached[:4] == ["theme", "beta", "reset", "SUMMARY"]
    assert page.evaluate("document.activeElement.name || document.activeElement.className") in ("view", "card")


def test_dragging_in_the_curve_moves_the_budget(page: Page, metrics: dict[str, Any]) -> None:
    page.locator("#curve").scroll_into_view_if_needed()
    box = page.locator("#curve").bounding_box()
    assert box
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.5 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 2, y)
    page.mouse.up()
    assert readouts(page) == expected(metrics, 0)
    page.evaluate("document.getElementById('reset').click()")
    start = min(range(31), key=lambda i: abs(metrics["points"][i]["beta"] - metrics["routed"]["beta"]))
    assert readouts(page) == expected(metrics, start)


def test_the_theme_follows_the_system_until_somebody_chooses(page: Page) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    prefer(page, "dark")
    dark = page.evaluate(colour)
    assert light != dark and text(page, "#theme") == "Light theme"
    page.evaluate("document.getElementById('theme').click()")
    assert page.evaluate(colour) == light
    prefer(page, "light")
    assert page.evaluate(colour) == light and text(page, "#theme") == "Dark theme"


@pytest.mark.parametrize("width", [320, 400, 800])
def test_nothing_is_wider_than_a_narrow_window(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    rights = page.evaluate("[...document.querySelectorAll('.chart svg')].map(s => s.getBoundingClientRect().right)")
    assert len(rights) == 2 and max(rights) <= width
    heights = page.evaluate("[...document.querySelectorAll('.chart text')].map(t => t.getBoundingClientRect().height)")
    assert min(heights) >= 12  # charts are drawn anew, not shrunk


def test_the_bar_is_one_line_of_numbers_on_a_narrow_window(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    settle(page)
    tops = page.evaluate("[...document.querySelectorAll('.readouts dd')].map(d => d.getBoundingClientRect().top)")
    assert len(tops) == 6 and max(tops) - min(tops) < 1
    assert page.evaluate("document.getElementById('budget').offsetHeight") < 110


def test_what_was_run_unfolds(page: Page) -> None:
    assert not page.locator("#run .run").is_visible()
    page.locator("#run summary").click()
    assert page.locator("#run .run").is_visible()


def test_a_very_wide_interval_is_cut_and_says_so(visit: Visit, page: Page, tmp_path: Path) -> None:
    assert page.locator("#tile-auc .cut").count() == 0
    profile = build_profile(tmp_path / "case")
    wide = replace(evaluate_case(profile), ci95=(-0.8, 4.0))
    write_evaluation(tmp_path, wide, profile, title="Wide", run={}, gallery=0)
    page = visit(tmp_path)
    assert page.locator("#tile-auc .cut").count() == 2
    assert "the interval goes on beyond this line" in text(page, ".tile:nth-child(3)")
    assert "−0.800 to 4.000" in text(page, ".tile:nth-child(3)")
    assert "beats chance" in text(page, ".caveat")


@pytest.mark.parametrize("width", [390, 1280])
def test_texts_of_the_tiles_stay_inside_and_apart(visit: Visit, tmp_path: Path, width: int) -> None:
    profile = build_profile(tmp_path / "case")
    result = evaluate_case(profile, bootstrap=0)
    close = replace(result, ap_high=result.ap_low + 0.006)  # low and high at one end of the strip, routed at the other
    write_evaluation(tmp_path, close, profile, title="Close", run={}, gallery=0)
    page = visit(tmp_path)
    page.set_viewport_size({"width": width, "height": 800})
    settle(page)
    script = "[...document.querySelectorAll('.tile')].map(t => [t, ...t.querySelectorAll('.strip span')]"
    script += ".map(e => e.getBoundingClientRect()).map(r => [r.left, r.top, r.right, r.bottom]))"
    for tile, *labels in page.evaluate(script):
        assert all(tile[0] <= box[0] and box[2] <= tile[2] for box in labels)
        assert not any(overlap(a, b) for i, a in enumerate(labels) for b in labels[:i])


def overlap(a: list[float], b: list[float]) -> bool:
    """Whether two boxes share an area."""
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


def test_labels_in_an_opened_image_do_not_cover_each_other(visit: Visit, tmp_path: Path) -> None:
    boxes = [(100, 100, 160, 140, 1, False)] * 3
    found = Detections.from_arrays([b[:4] for b in boxes], [0.9, 0.8, 0.7], [1, 1, 1])
    rows = [{"size": (300, 400), "truth": truth(boxes), "high": found, "low": Detections.empty()}]
    rows.append({"size": (300, 400), "truth": truth(boxes[:1]), "high": found, "low": found})
    profile = make_profile(tmp_path / "profile", rows)
    write_evaluation(tmp_path, evaluate_case(profile, bootstrap=0), profile, title="Crowded", run={})
    page = visit(tmp_path)
    page.evaluate("document.querySelector('#highest .card').click()")
    script = "[...document.querySelectorAll('#viewer svg')].map(s => [...s.querySelectorAll('.tag')]"
    script += ".map(e => e.getBoundingClientRect()).map(r => [r.left, r.top + 3, r.right, r.bottom - 3]))"
    seen = page.evaluate(script)
    assert max(map(len, seen)) >= 3
    for labels in seen:
        assert not any(overlap(a, b) for i, a in enumerate(labels) for b in labels[:i])


def test_compute_that_is_added_is_not_called_saved(page: Page, metrics: dict[str, Any]) -> None:
    assert text(page, "#saved-name") == "saved"
    move_to(page, 30)  # all high, and the router on top
    assert text(page, "#saved-name") == "added" and text(page, "#now-saved") == "1 %"


def test_a_thousand_images_stay_small(visit: Visit, tmp_path: Path) -> None:
    profile = build_profile(tmp_path / "case", count=1000)
    write_evaluation(tmp_path, evaluate_case(profile, bootstrap=0), profile, title="Many", run={})
    assert (tmp_path / "report.html").stat().st_size < 10_000_000
    page = visit(tmp_path)
    assert 200 <= page.evaluate("JSON.parse(document.getElementById('data').textContent).images.length") < 400
    assert "of 1000 images" in text(page, "#pool")
    for i in (10, 90):
        move_to(page, i)
        border = [rank for rank, _ in cards(page, "border")]
        assert min(border) < 10 * i <= max(border) and max(border) - min(border) < 150
        assert len(cards(page, "worst")) == 8


def test_plain_evaluations_have_no_milliseconds_and_no_pictures_if_so_wished(
    visit: Visit, out: Path, tmp_path: Path
) -> None:
    profile = build_profile(tmp_path / "case")
    result: Evaluation = evaluate_case(profile, bootstrap=0)
    write_evaluation(tmp_path, result, profile, title="Plain", run={}, gallery=0)
    page = visit(tmp_path)
    hidden = "['now-ms-box', 'gallery', 'hurts'].map(id => document.getElementById(id).hidden)"
    assert page.evaluate(hidden) == [True, True, True]


def test_fewer_images_than_cards(visit: Visit, tmp_path: Path) -> None:
    profile = build_profile(tmp_path / "case", count=3)
    write_evaluation(tmp_path, evaluate_case(profile, bootstrap=0), profile, title="Few", run={})
    page = visit(tmp_path)
    for i in range(4):
        move_to(page, i)
        assert [route for _, route in cards(page, "border")] == ["high"] * i + ["low"] * (3 - i)
