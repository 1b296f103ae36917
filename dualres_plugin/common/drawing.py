"""Drawing detections and routes on photos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dualres_plugin.common.errors import one_line
from dualres_plugin.common.types import Detections

# Okabe and Ito's palette: told apart with every kind of colour vision.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442"]
ROUTE_COLOURS = {"high": "#C75300", "low": "#0072B2"}  # as in report.html
STEP_COLOURS = (*ROUTE_COLOURS.values(), "#1B7A43", "#6A4C93", "#5A5A5A")  # of several sizes, largest first
LIGHT = ("#F0E442", "#56B4E9", "#E69F00")  # these take black text

Area = tuple[float, float, float, float]  # x0, y0, x1, y1
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw(
    pixels: np.ndarray,
    found: Detections,
    names: dict[int, str] | None,
    caption: str = "",
    least_score: float = 0.25,
    step: int | None = None,
) -> Image.Image:
    """The photo with boxes, class names and scores, and a caption in the upper left corner.

    Args:
        pixels: (H, W, 3) RGB uint8.
        found: in pixels of the photo.
        names: label -> class name; None shows the label.
        caption: e.g. the route; none when empty.
        least_score: detections below this are left out.
        step: 0 for the largest size, 1 for the next smaller one, …: colours the caption.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels))
    canvas = ImageDraw.Draw(image)
    unit = max(1, round(min(image.size) / 240))
    font = ImageFont.load_default(size=max(11, 5 * unit + 6))
    taken: list[Area] = []
    labels = []
    shown = [i for i in np.argsort(-found.scores, kind="stable") if found.scores[i] >= least_score]
    for i in shown[::-1]:  # the surest last, on top
        x0, y0, x1, y1 = found.boxes[i].tolist()
        corners = (x0, y0, max(x0, x1), max(y0, y1))
        colour = COLOURS[int(found.labels[i]) % len(COLOURS)]
        canvas.rectangle(corners, outline=colour, width=max(2, unit))
        name = one_line((names or {}).get(int(found.labels[i]), found.labels[i]))
        labels.append((corners, f"{name} {found.scores[i]:.2f}", colour))
    if caption:
        taken.append(_tag(canvas, (0, 0), caption, "#000000" if step is None else step_colour(step), font))
    for corners, text, colour in reversed(labels):  # the surest choose their place first
        at = free_place(corners, _tag_size(canvas, text, font), image.size, taken)
        taken.append(_tag(canvas, at, text, colour, font))
    return image


def step_colour(step: int) -> str:
    """The colour of a size: 0 for the largest ("high"), 1 for the next smaller one, …; grey of a skipped frame, -1."""
    return STEP_COLOURS[min(step, len(STEP_COLOURS) - 1)]


def plain_text(text: str) -> str:
    """A name as matplotlib shows it word for word: between two `$` it would read mathematics, and fail on most.

    Args:
        text: of a title, label or legend.
    """
    return one_line(text).replace("$", r"\$")


def free_place(
    box: Area, size: tuple[float, float], picture: tuple[float, float], taken: Sequence[Area]
) -> tuple[float, float]:
    """Where the label of a box covers no other label, or the least of them: above, inside or below, left or right.

    Args:
        box: x0, y0, x1, y1 in pixels.
        size: width and height of the label.
        picture: width and height of the picture, which no label leaves on the left, right and top.
        taken: x0, y0, x1, y1 of the labels so far.

    Returns:
        x and y of the label's upper left corner.
    """
    x0, y0, x1, y1 = box
    width, height = size
    places = [
        (min(max(0.0, x), max(0.0, picture[0] - width)), min(max(0.0, y), max(0.0, picture[1] - height)))
        for x in (x0, x1 - width)
        for y in (y0 - height, y0, y1, y1 - height)
    ]

    def covered(at: tuple[float, float]) -> float:
        x, y = at
        shared = ((min(x + width, c) - max(x, a), min(y + height, d) - max(y, b)) for a, b, c, d in taken)
        return sum(w * h for w, h in shared if w > 0 and h > 0)

    return min(places, key=covered)  # the first of those that cover equally much


def _tag_size(canvas: ImageDraw.ImageDraw, text: str, font: Font) -> tuple[float, float]:
    x0, y0, x1, y1 = canvas.textbbox((0, 0), text, font=font)
    return x1 - x0 + 6, y1 - y0 + 4


def _tag(canvas: ImageDraw.ImageDraw, at: tuple[float, float], text: str, colour: str, font: Font) -> Area:
    """Text on a filled box with its upper left corner `at`, black or white; returns where it is."""
    x0, y0, _, _ = canvas.textbbox((0, 0), text, font=font)
    width, height = _tag_size(canvas, text, font)
    left, top = at
    canvas.rectangle((left, top, left + width, top + height), fill=colour)
    canvas.text((left + 3 - x0, top + 2 - y0), text, fill="black" if colour in LIGHT else "white", font=font)
    return left, top, left + width, top + height
