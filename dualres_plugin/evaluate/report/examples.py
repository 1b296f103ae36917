"""examples/: a few photos, low beside high, for slides and for a first look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dualres_plugin.common.drawing import draw
from dualres_plugin.common.files.atomic import atomic_write, make_dir
from dualres_plugin.evaluate.report.gallery import Ranked
from dualres_plugin.evaluate.report.pictures import picture
from dualres_plugin.profile.table import Profile

PANEL = 640  # px, the longer side of each of the two panels
GAP, BAR = 8, 34


def write_examples(folder: Path, profile: Profile, ranked: Ranked, at_high: int, count: int = 6) -> list[Path]:
    """Draw the first, the middle and the last images of the router's order, low beside high.

    Files of an earlier run with our names are replaced or removed.

    Args:
        folder: gets `01_high_NAME.jpg`, …
        profile: where the detections and photos are.
        ranked: all images.
        at_high: how many images of the order go high.
        count: about how many pictures.

    Returns:
        The files written.
    """
    make_dir(folder)
    written = []
    for number, rank in enumerate(pick(ranked, at_high, count), 1):
        route = "high" if rank < at_high else "low"
        row = int(ranked.rows[rank])
        path = folder / f"{number:02d}_{route}_{profile.image_path(row).stem}.jpg"
        image = _side_by_side(profile, row, route, float(ranked.scores[rank]))
        with atomic_write(path) as temporary:
            image.save(temporary, "JPEG", quality=88)
        written.append(path)
    for old in folder.glob("[0-9][0-9]_*.jpg"):
        if old not in written and old.name[3:].startswith(("high_", "low_")):
            old.unlink()
    return written


def pick(ranked: Ranked, at_high: int, count: int) -> list[int]:
    """Ranks: the highest scores, those about the threshold, and the lowest, of images that show objects.

    Args:
        ranked: all images.
        at_high: how many of them go high.
        count: about how many to choose.

    Returns:
        Ranks, ascending.
    """
    shown = np.flatnonzero(~np.isnan(ranked.gain))
    if not len(shown):
        shown = np.arange(len(ranked))
    third = max(1, count // 3)
    border = int(np.searchsorted(shown, at_high)) - third // 2
    border = min(max(0, border), max(0, len(shown) - third))
    chosen = {*shown[:third], *shown[border : border + third], *shown[-third:]}
    return sorted(map(int, chosen))


def _side_by_side(profile: Profile, row: int, route: str, score: float) -> Image.Image:
    pixels, _ = picture(profile, row)
    panels = []
    for which in ("low", "high"):
        panel = draw(pixels, profile.detections(which, row), profile.categories)
        panel.thumbnail((PANEL, PANEL), Image.Resampling.LANCZOS)
        panels.append(panel)
    width, height = panels[0].size
    sheet = Image.new("RGB", (2 * width + GAP, height + BAR), "white")
    canvas = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=16)
    for i, (which, panel) in enumerate(zip(("low", "high"), panels)):
        left = i * (width + GAP)
        sheet.paste(panel, (left, BAR))
        taken = which == route
        text = f"{which}: the router's choice, score {score:+.2f}" if taken else which
        canvas.text((left + 4, BAR / 2), text, fill="#1f2933" if taken else "#7b8794", font=font, anchor="lm")
    return sheet
