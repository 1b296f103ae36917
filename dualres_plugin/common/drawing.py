"""Drawing detections and routes on photos."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dualres_plugin.common.errors import one_line
from dualres_plugin.common.types import Detections

# Okabe and Ito's palette: told apart with every kind of colour vision.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442"]
ROUTE_COLOURS = {"high": "#C75300", "low": "#0072B2"}  # as in report.html
LIGHT = ("#F0E442", "#56B4E9", "#E69F00")  # these take black text

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw(
    pixels: np.ndarray,
    found: Detections,
    names: dict[int, str] | None,
    caption: str = "",
    least_score: float = 0.25,
    route: str | None = None,
) -> Image.Image:
    """The photo with boxes, class names and scores, and a caption in the upper left corner.

    Args:
        pixels: (H, W, 3) RGB uint8.
        found: in pixels of the photo.
        names: label -> class name; None shows the label.
        caption: e.g. the route; none when empty.
        least_score: detections below this are left out.
        route: "high" or "low" colours the caption.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels))
    canvas = ImageDraw.Draw(image)
    unit = max(1, round(min(image.size) / 240))
    font = ImageFont.load_default(size=max(11, 5 * unit + 6))
    for box, score, label in zip(found.boxes.tolist(), found.scores, found.labels):
        if score < least_score:
            continue
        colour = COLOURS[int(label) % len(COLOURS)]
        corners = (box[0], box[1], max(box[0], box[2]), max(box[1], box[3]))
        canvas.rectangle(corners, outline=colour, width=max(2, unit))
        name = one_line((names or {}).get(int(label), label))
        tag(canvas, (box[0], box[1]), f"{name} {score:.2f}", colour, font, above=True)
    if caption:
        tag(canvas, (0, 0), caption, ROUTE_COLOURS.get(route or "", "#000000"), font, above=False)
    return image


def plain_text(text: str) -> str:
    """A name as matplotlib shows it word for word: between two `$` it would read mathematics, and fail on most.

    Args:
        text: of a title, label or legend.
    """
    return one_line(text).replace("$", r"\$")


def tag(canvas: ImageDraw.ImageDraw, at: tuple[float, float], text: str, colour: str, font: Font, above: bool) -> None:
    """Text on a filled box, kept inside the picture on the left, right and top.

    Args:
        canvas: is drawn on.
        at: (x, y) in pixels of the box's lower (`above`) or upper left corner.
        text: one line.
        colour: of the box, "#RRGGBB"; the text is black or white.
        font: of the text.
        above: the box stands on `at` instead of hanging from it.
    """
    x0, y0, x1, y1 = canvas.textbbox((0, 0), text, font=font)
    width, height = x1 - x0 + 6, y1 - y0 + 4
    left = max(0.0, min(at[0], canvas.im.size[0] - width))
    top = max(0.0, at[1] - height) if above else at[1]
    canvas.rectangle((left, top, left + width, top + height), fill=colour)
    canvas.text((left + 3 - x0, top + 2 - y0), text, fill="black" if colour in LIGHT else "white", font=font)
