"""A contact sheet: which images went high, which low, sorted by the router's score."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dualres_plugin.budget.share import routes_text
from dualres_plugin.common.drawing import COLOURS, Font, step_colour
from dualres_plugin.common.errors import one_line
from dualres_plugin.common.files.atomic import atomic_write
from dualres_plugin.common.types import Detections, ImageDecision

MOST = 200  # thumbnails on a sheet: still told apart, and at most 40 MB in memory
WIDE, NARROW, SHEET = 300, 160, 1800  # widest and narrowest thumbnail, and about the width of a sheet, in pixels
MARGIN, BORDER, BAR, NAME = 10, 5, 22, 18
PAPER, INK, SOFT = "#FFFFFF", "#18212B", "#586572"


@dataclass(frozen=True)
class _Thumb:
    name: str
    route: ImageDecision
    pixels: Image.Image
    boxes: np.ndarray  # (N, 4) xyxy as shares of the thumbnail's width and height
    labels: np.ndarray


class ContactSheet:
    """Thumbnails of a stream with boxes, route and score.

    Keeps at most `most` images, evenly spaced over the stream, so that neither memory nor the picture grows with it.

    Args:
        most: thumbnails on the sheet.
        least_score: detections below this are left out.
    """

    def __init__(self, most: int = MOST, least_score: float = 0.25):
        self.most = most
        self.least_score = least_score
        self.seen = 0
        self.routes: Counter[str] = Counter()
        self._names: dict[int, str] = {}  # of the sizes that were seen
        self._every = 1
        self._kept: list[_Thumb] = []

    def add(self, name: str, pixels: np.ndarray, found: Detections, route: ImageDecision) -> None:
        """Note one image.

        Args:
            name: of the file.
            pixels: (H, W, 3) RGB uint8.
            found: in pixels of the image.
            route: that it took.
        """
        number, self.seen = self.seen, self.seen + 1
        self.routes[route.route] += 1
        self._names[route.step] = route.route
        if number % self._every:
            return
        if len(self._kept) == self.most:  # every other one makes room
            self._kept = self._kept[::2]
            self._every *= 2
            if number % self._every:
                return
        small = Image.fromarray(np.ascontiguousarray(pixels))
        small.thumbnail(_box(WIDE))
        chosen = found.scores >= self.least_score
        size = np.array([pixels.shape[1], pixels.shape[0]] * 2, dtype=np.float32)
        self._kept.append(_Thumb(one_line(name), route, small, found.boxes[chosen] / size, found.labels[chosen]))

    def __str__(self) -> str:
        if self._two:
            share = self.routes["high"] / self.seen if self.seen else 0.0
            text = f"{self.routes['high']} of {self.seen} images at high ({share:.1%})"
        else:
            text = routes_text(self.routes)
        return text + (f"; this sheet shows {len(self._kept)} of them evenly spaced" if self._every > 1 else "")

    @property
    def _two(self) -> bool:
        return set(self.routes) <= {"high", "low"}

    def draw(self) -> Image.Image:
        """The sheet; the highest score comes first."""
        shown = sorted(self._kept, key=lambda t: -t.route.score)
        columns = min(max(1, len(shown)), max(4, math.ceil(math.sqrt(1.3 * len(shown)))), SHEET // NARROW)
        width = min(WIDE, SHEET // columns)
        cell_width, cell_height = width + 2 * BORDER + MARGIN, _box(width)[1] + 2 * BORDER + BAR + NAME + MARGIN
        title, small = ImageFont.load_default(size=20), ImageFont.load_default(size=13)
        top = 62
        rows = math.ceil(len(shown) / columns)
        total_width = max(columns * cell_width + MARGIN, 560)
        sheet = Image.new("RGB", (total_width, top + rows * cell_height + MARGIN), PAPER)
        canvas = ImageDraw.Draw(sheet)
        canvas.text((MARGIN, 8), str(self), fill=INK, font=_fitting(canvas, str(self), total_width, title, small))
        self._legend(canvas, shown, small)
        for i, thumb in enumerate(shown):
            at = (MARGIN + i % columns * cell_width, top + i // columns * cell_height)
            _draw_cell(sheet, canvas, thumb, at, width, small)
        return sheet

    def _legend(self, canvas: ImageDraw.ImageDraw, shown: list[_Thumb], font: Font) -> None:
        x = float(MARGIN)
        names = {0: "high", 1: "low"} if self._two else self._names
        for step, route in sorted(names.items()):
            canvas.rectangle((x, 38, x + 14, 52), fill=step_colour(step))
            canvas.text((x + 20, 37), route, fill=INK, font=font)
            x += 34 + canvas.textlength(route, font=font)
        limits = {t.route.threshold for t in shown}
        text = "highest score first; the number is the router's score"
        if len(limits) == 1:
            text += f", images above {limits.pop():+.2f} go {names.get(0, 'to the largest size')}"
        canvas.text((x, 37), text, fill=SOFT, font=font)

    def save(self, path: Path) -> None:
        """Write the sheet.

        Args:
            path: JPEG or PNG, by its suffix.
        """
        with atomic_write(path) as temporary:
            self.draw().save(temporary, quality=88)


def _box(width: int) -> tuple[int, int]:
    """Width and height that a thumbnail must fit in."""
    return width, width * 3 // 4


def _fitting(canvas: ImageDraw.ImageDraw, text: str, width: int, large: Font, small: Font) -> Font:
    return large if canvas.textlength(text, font=large) <= width - 2 * MARGIN else small


def _draw_cell(
    sheet: Image.Image, canvas: ImageDraw.ImageDraw, thumb: _Thumb, at: tuple[int, int], width: int, font: Font
) -> None:
    x, y = at
    colour = step_colour(thumb.route.step)
    box = _box(width)
    right, bottom = x + width + 2 * BORDER, y + box[1] + 2 * BORDER + BAR
    canvas.rectangle((x, y, right - 1, bottom - 1), fill=colour)
    inside = Image.new("RGB", box, "#EEF0F2")
    picture = thumb.pixels.copy()
    picture.thumbnail(box)
    left, above = (box[0] - picture.width) // 2, (box[1] - picture.height) // 2
    inside.paste(picture, (left, above))
    pen = ImageDraw.Draw(inside)
    for (x0, y0, x1, y1), label in zip(thumb.boxes.tolist(), thumb.labels.tolist()):
        upper_left = (left + x0 * picture.width, above + y0 * picture.height)
        lower_right = (left + x1 * picture.width - 1, above + y1 * picture.height - 1)
        lower_right = (max(lower_right[0], upper_left[0]), max(lower_right[1], upper_left[1]))  # under a pixel wide
        pen.rectangle((upper_left, lower_right), outline=COLOURS[label % len(COLOURS)], width=2)
    sheet.paste(inside, (x + BORDER, y + BORDER + BAR))
    canvas.text((x + BORDER + 2, y + 5), f"{thumb.route.route}  {thumb.route.score:+.2f}", fill="white", font=font)
    canvas.text((x, bottom + 1), _shortened(canvas, thumb.name, right - x, font), fill=SOFT, font=font)


def _shortened(canvas: ImageDraw.ImageDraw, name: str, width: int, font: Font) -> str:
    """The name, or its end behind an ellipsis: numbers stand at the end."""
    kept = name
    while kept and canvas.textlength(kept if kept == name else f"…{kept}", font=font) > width:
        kept = kept[1:]
    return kept if kept == name else f"…{kept}"
