"""advice.html: which sizes at which budget, as one file that asks nothing of the network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from dualres_plugin.common.files.atomic import atomic_dir, make_dir, write_json, write_text
from dualres_plugin.evaluate.ladder.advise import Advice
from dualres_plugin.evaluate.ladder.difference import Difference
from dualres_plugin.evaluate.ladder.plot import draw_frontiers
from dualres_plugin.evaluate.ladder.steps import Step
from dualres_plugin.evaluate.report.gallery import GRID, SIDE, flat, sure
from dualres_plugin.evaluate.report.matching import judge
from dualres_plugin.evaluate.report.page import asset, framed
from dualres_plugin.evaluate.report.pictures import data_uri, picture, small_jpeg
from dualres_plugin.profile.table import Profile

SHOWN = 60  # photos in the page
GROUP = 8  # of one size at a time
FOLDS_SAID = "The photos chose sizes and thresholds for one another, in five folds: none chose its own."
# The classes that the lines of the figure are drawn with.
KINDS = {
    "one size (host)": "fixed-host",
    "one size (high frame scaled)": "fixed-ours",
    "two sizes": "two",
    "three sizes": "three",
    "four sizes": "four",
}


def write_advice(out: Path, advice: Advice, profile: Profile, scores: np.ndarray) -> None:
    """Write `advice.html`, `advice.json` and `frontier.png`.

    Args:
        out: the folder; made if it is missing.
        advice: with its `ways`.
        profile: gave the figures; where the detections and photos are.
        scores: (n,) of its original images.
    """
    title = f"{profile.meta['detector']} on {profile.meta['dataset']}"
    sizes = ", ".join(str(p.size) for p in profile.passes)
    images = _images(profile, scores)
    body = Template(asset("advice.html")).substitute(
        sentence=escape(f"{advice.sentence[:1].upper()}{advice.sentence[1:]}").replace(" %", "&nbsp;%"),
        unit=escape(advice.unit),
        shown=len(images),
        n=advice.n,
        chosen=f"{advice.chosen_on} other photos chose sizes and thresholds." if advice.chosen_on else FOLDS_SAID,
    )
    subtitle = f"Which sizes to run: {sizes} px, {advice.n} photos"
    page = framed(body, title, subtitle, "advice.json", _data(advice, profile, images), ("dom.js", "advice.js"))
    with atomic_dir(make_dir(out)) as temporary:
        write_json(temporary / "advice.json", advice.to_dict())
        draw_frontiers(temporary / "frontier.png", advice, title)
        write_text(temporary / "advice.html", page)


def _data(advice: Advice, profile: Profile, images: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the page's script draws from."""
    ways = {name: list(steps) for name, steps in advice.ways.items()}
    start = _start(ways, advice.choice)
    largest = ways["one size"][-1]
    return {
        "unit": advice.unit,
        "sizes": [p.size for p in profile.passes],
        "largest": {"cost": largest.cost, "ap": largest.ap},
        "ways": [{"name": name, "steps": [_step(step) for step in steps]} for name, steps in ways.items()],
        "curves": [{"name": name, "kind": KINDS[name], "points": points} for name, points in advice.frontiers.items()],
        "start": {"way": start[0], "step": start[1]},
        "group": GROUP,
        "images": images,
    }


def _start(ways: dict[str, list[Step]], choice: Step) -> tuple[int, int]:
    """Where the advice lies; a step that is not among them is put there, so that the page starts with it."""
    for number, steps in enumerate(ways.values()):
        if choice in steps:
            return number, steps.index(choice)
    number = min(len(choice.sizes), len(ways)) - 1
    steps = list(ways.values())[number]
    place = sum(step.cost < choice.cost for step in steps)
    steps.insert(place, choice)
    return number, place


def _step(step: Step) -> dict[str, Any]:
    return {
        "sizes": step.sizes,
        "thresholds": step.thresholds,
        "shares": step.shares,
        "cost": step.cost,
        "ap": step.ap,
        "fixed": _ends(step.against_fixed),
        "high": _ends(step.against_high),
        "command": step.command,
    }


def _ends(found: Difference) -> list[float]:
    """Rounded, so that no −0.0 of the arithmetic is shown."""
    return [round(value, 3) + 0.0 for value in (found.mean, found.low, found.high)]


def _images(profile: Profile, scores: np.ndarray) -> list[dict[str, Any]]:
    """Some photos, evenly spread over the scores, highest first; with what each size found on them."""
    order = np.argsort(-scores, kind="stable")
    ranks = np.unique(np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int))
    return [_image(profile, int(profile.originals[i]), float(scores[i])) for i in order[ranks]]


def _image(profile: Profile, row: int, score: float) -> dict[str, Any]:
    """Keys are short because they are repeated: n file name, w and h size on the grid, u picture, s score, p by size:
    b detections (x0 y0 x1 y1 verdict)*, m missed objects (x0 y0 x1 y1)*."""
    pixels, _ = picture(profile, row)
    height, width = pixels.shape[:2]
    grid = GRID / max(height, width)
    targets = profile.targets(row)
    found = {}
    for one in profile.passes:
        detections = sure(profile.detections(one.name, row))
        verdicts, seen = judge(detections, targets)
        missed = targets.boxes[~seen & ~targets.ignore]
        found[str(one.size)] = {"b": flat(detections.boxes * grid, (verdicts,)), "m": flat(missed * grid)}
    return {
        "n": profile.image_path(row).name,
        "w": round(width * grid),
        "h": round(height * grid),
        "u": data_uri(small_jpeg(pixels, SIDE)),
        "s": round(score, 5),
        "p": found,
    }
