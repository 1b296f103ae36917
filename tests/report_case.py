"""A small evaluated profile with real photo files, for the tests of the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from dualres_plugin.common.types import Detections
from dualres_plugin.evaluate.evaluation import Evaluation, evaluate_scores
from dualres_plugin.profile.gains import compute_gain
from dualres_plugin.profile.table import Profile
from tests.fakes import CATEGORIES, make_profile, truth

SIZES = ((300, 400), (400, 300))  # height, width


def build_profile(
    folder: Path, count: int = 30, seed: int = 0, sides: tuple[int, int] = (12, 150), **meta: Any
) -> Profile:
    """Photos with coloured squares; high finds most of them, low loses the small ones.

    Args:
        sides: least and most side of an object in pixels.
    """
    rng = np.random.default_rng(seed)
    photos = folder / "photos"
    photos.mkdir(parents=True)
    rows, paths = [], []
    for i in range(count):
        height, width = SIZES[i % 2]
        objects = _objects(rng, height, width, sides) if i % 10 != 9 else []
        pixels = rng.integers(60, 190, (height, width, 3), dtype=np.uint8)  # noise: photos that hardly compress
        for x0, y0, x1, y1, category, _ in objects:
            pixels[y0:y1, x0:x1] = (220, 60, 40) if category == 1 else (40, 90, 220)
        paths.append(str(photos / f"photo_{i:04d}.jpg"))
        Image.fromarray(pixels).save(paths[-1], quality=80)
        rows.append(
            {
                "size": (height, width),
                "truth": truth(objects),
                "high": _found(rng, objects, 0.9),
                "low": _found(rng, [o for o in objects if o[2] - o[0] > rng.uniform(20, 70)], 0.7),
            }
        )
    profile = make_profile(folder / "profile", rows, **meta)
    column = profile.table.schema.get_field_index("path")
    return Profile(profile.meta, profile.table.set_column(column, "path", pa.array(paths)), profile.path)


def _objects(rng: np.random.Generator, height: int, width: int, sides: tuple[int, int]) -> list[Any]:
    objects = []
    for _ in range(int(rng.integers(1, 5))):
        side = int(rng.integers(*sides))
        x, y = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
        objects.append((x, y, x + side, y + side, int(rng.choice(list(CATEGORIES))), False))
    return objects


def _found(rng: np.random.Generator, objects: list[Any], surest: float) -> Detections:
    boxes = [np.array(o[:4]) + rng.normal(0, 0.03 * (o[2] - o[0]), 4) for o in objects]
    stray = [10, 10, 40, 40]
    scores = [*rng.uniform(0.3, surest, len(boxes)), 0.28]
    return Detections.from_arrays([*boxes, stray], scores, [*(o[4] for o in objects), 1])


def evaluate_case(profile: Profile, bootstrap: int = 10, seed: int = 0) -> Evaluation:
    """Scores that know part of the truth."""
    rng = np.random.default_rng(seed)
    gain = np.nan_to_num(compute_gain("ap", profile, profile.originals))
    scores = 2 * gain + rng.normal(0, 0.4, len(gain))
    return evaluate_scores(profile, scores, 0.05, bootstrap=bootstrap, permutations=3)
