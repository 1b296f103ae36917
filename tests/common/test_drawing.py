"""Boxes, captions and contact sheets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualres_plugin.common.drawing import COLOURS, ROUTE_COLOURS, Area, draw, free_place, plain_text
from dualres_plugin.common.types import Detections, ImageDecision
from dualres_plugin.predict.contact_sheet import ContactSheet
from tests.fakes import photo


def test_drawing_changes_the_picture_but_not_the_array() -> None:
    picture = np.full((60, 80, 3), 128, np.uint8)
    found = Detections.from_arrays([[10, 10, 40, 40], [5, 5, 9, 9]], [0.9, 0.1], [0, 1])
    made = np.asarray(draw(picture, found, {0: "cat"}, "low", 0.25))
    assert made.shape == picture.shape and (picture == 128).all()
    assert tuple(made[39, 25]) == (0, 114, 178), "the first colour along the lower edge"
    assert (made[5:9, 60:80] == 128).all()
    assert (np.asarray(draw(picture, Detections.empty(), None)) == 128).all()
    tiny = draw(np.zeros((1, 40, 3), np.uint8), Detections.from_arrays([[0, 0, 40, 1]], [0.9], [0]), None, "low")
    assert tiny.size == (40, 1)


def test_the_caption_has_the_colour_of_the_route() -> None:
    picture = np.full((120, 160, 3), 128, np.uint8)
    for step, colour in enumerate(ROUTE_COLOURS.values()):
        made = np.asarray(draw(picture, Detections.empty(), None, "somewhere", step=step))
        assert tuple(made[0, 1]) == tuple(bytes.fromhex(colour[1:]))


def test_a_label_stays_inside_the_picture() -> None:
    picture = np.full((120, 160, 3), 128, np.uint8)
    found = Detections.from_arrays([[150, 60, 160, 80]], [0.9], [0])
    made = np.asarray(draw(picture, found, {0: "a long name"}))
    text = (made > 200).all(axis=2)
    assert text[:, :150].sum() > 60, "moved to the left, not cut off at the edge"


def test_labels_of_boxes_that_lie_on_each_other_do_not() -> None:
    picture = np.full((240, 320, 3), 128, np.uint8)
    found = Detections.from_arrays([[100, 100, 200, 180]] * 4, [0.9, 0.8, 0.7, 0.6], [0, 1, 2, 3])
    alone = [Detections(found.boxes[[i]], found.scores[[i]], found.labels[[i]]) for i in range(4)]
    ink = [filled(np.asarray(draw(picture, one, None)), i) for i, one in enumerate(alone)]
    made = np.asarray(draw(picture, found, None))
    for i in range(4):
        assert filled(made, i) >= 0.95 * ink[i] - 2 * 2 * (100 + 80), f"label {i} is covered"


def filled(pixels: np.ndarray, label: int) -> int:
    """How many pixels have the colour of a label and its box."""
    return int((pixels == tuple(bytes.fromhex(COLOURS[label][1:]))).all(axis=2).sum())


areas = st.tuples(*[st.floats(-20, 320)] * 4).map(lambda b: (b[0], b[1], max(b[0], b[2]), max(b[1], b[3])))


@given(areas, st.lists(areas, max_size=5))
def test_a_free_place_is_inside_and_prefers_the_old_one(box: Area, taken: list[Area]) -> None:
    x, y = free_place(box, (60.0, 12.0), (320.0, 240.0), taken)
    assert 0 <= x <= 260 and 0 <= y <= 228
    assert free_place(box, (60.0, 12.0), (320.0, 240.0), []) == (
        min(max(0.0, box[0]), 260.0),
        min(max(0.0, box[1] - 12), 228.0),
    )


def sheet_of(scores: list[float], **options: int) -> ContactSheet:
    sheet = ContactSheet(**options)
    for i, score in enumerate(scores):
        route = ImageDecision("high" if score > 0 else "low", score, 0.0, int(score <= 0))
        sheet.add(f"{i}.jpg", photo(i), Detections.from_arrays([[4, 4, 30, 30]], [0.9], [0]), route)
    return sheet


def borders(sheet: ContactSheet, count: int) -> list[str]:
    """The route whose colour each cell has, in reading order."""
    pixels = np.asarray(sheet.draw()).astype(int)
    colours = {name: np.array(list(bytes.fromhex(c[1:]))) for name, c in ROUTE_COLOURS.items()}
    found = []
    row = 70
    while row < len(pixels):
        line = pixels[row]
        start = 0
        names = [next((n for n, c in colours.items() if (p == c).all()), "") for p in line]
        for i, name in enumerate([*names, ""]):
            if i and name == "" and names[i - 1] and i - start > 100:
                found.append(names[i - 1])
            if i and (name == "" or names[i - 1] == ""):
                start = i
        row += 1
        if len(found) >= count:
            return found
        if any(names):
            while row < len(pixels) and any((pixels[row] == c).all(axis=1).any() for c in colours.values()):
                row += 1
    return found


def test_the_sheet_is_sorted_by_score() -> None:
    got = borders(sheet_of([-1.0, 2.0, -0.5, 1.0, -2.0, 0.5]), 6)
    assert got == ["high", "high", "high", "low", "low", "low"]


@given(st.integers(0, 300), st.integers(1, 20))
def test_a_sheet_keeps_few_images_evenly_spaced(count: int, most: int) -> None:
    sheet = ContactSheet(most=most)
    picture = np.zeros((4, 4, 3), np.uint8)
    for i in range(count):
        sheet.add(str(i), picture, Detections.empty(), ImageDecision("low", float(i), 0.0, 1))
    kept = [int(t.name) for t in sheet._kept]
    assert len(kept) <= most and len(kept) >= min(count, max(1, most // 2))
    assert sheet.seen == count and len(set(np.diff(kept))) <= 1
    assert kept[:1] == ([0] if count else []) and (count == 0 or count - kept[-1] <= sheet._every)


def test_the_sheet_says_what_it_leaves_out() -> None:
    assert str(sheet_of([1.0, -1.0, -1.0])) == "1 of 3 images at high (33.3%)"
    assert str(sheet_of([-1.0] * 9, most=4)) == "0 of 9 images at high (0.0%); this sheet shows 3 of them evenly spaced"


@pytest.mark.parametrize(("count", "most_pixels"), [(0, 2e5), (1, 4e5), (200, 8e6)])
def test_the_size_of_a_sheet_is_bounded(count: int, most_pixels: float) -> None:
    width, height = sheet_of([0.1] * count).draw().size
    assert width * height < most_pixels


@pytest.mark.parametrize("name", ["$x$", r"$\frac{$ and $_", "one $", "a\nb", r"\$5 to \$9"])
def test_matplotlib_shows_names_word_for_word(name: str) -> None:
    from io import BytesIO

    from matplotlib.figure import Figure

    figure = Figure()
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], label=plain_text(name))
    ax.legend()
    figure.text(0, 0, plain_text(name))
    figure.savefig(BytesIO(), format="png")


def test_class_names_with_a_line_break_are_drawn() -> None:
    found = Detections.from_arrays([[10, 10, 40, 40]], [0.9], [0])
    draw(np.zeros((60, 80, 3), np.uint8), found, {0: "traffic\nlight\x00"}, "low")


def test_boxes_under_a_pixel_wide_are_drawn() -> None:
    found = Detections.from_arrays([[10, 10, 10.2, 40], [5, 5, 4.9, 4.9]], [0.9, 0.9], [0, 1])
    picture = np.zeros((600, 800, 3), np.uint8)
    draw(picture, found, None, "low")
    sheet = ContactSheet()
    sheet.add("a.jpg", picture, found, ImageDecision("low", -1.0, 0.0, 1))
    sheet.draw()
