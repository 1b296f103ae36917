"""Images with random objects and detections, for tests of AP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dualres_plugin.common.types import Detections
from dualres_plugin.profile.table import Profile
from tests.fakes import make_profile, truth

CATEGORIES = {2: "a", 5: "b", 9: "c"}
Object = tuple[float, float, float, float, int, bool]


@dataclass
class Image:
    """One image: objects with their stated areas, and detections at both resolutions."""

    objects: list[Object]
    areas: list[float]
    high: Detections
    low: Detections


def random_image(rng: np.random.Generator, scores: Sequence[float]) -> Image:
    """Objects from 8 to 300 px; detections near them or anywhere, sometimes of another class."""
    objects: list[Object] = []
    for _ in range(int(rng.integers(0, 5))):
        x, y = rng.integers(0, 300, 2)
        w, h = np.exp(rng.uniform(np.log(8), np.log(300), 2)).round()
        objects.append((x, y, x + w, y + h, int(rng.choice(list(CATEGORIES))), bool(rng.random() < 0.15)))
    areas = [float((o[2] - o[0]) * (o[3] - o[1]) * rng.choice([1, 0.6])) for o in objects]
    return Image(objects, areas, _found(rng, objects, scores), _found(rng, objects, scores))


def _found(rng: np.random.Generator, objects: list[Object], scores: Sequence[float]) -> Detections:
    boxes, labels = [], []
    for o in objects:
        for _ in range(int(rng.integers(0, 3))):
            side = np.array([o[2] - o[0], o[3] - o[1]] * 2)
            boxes.append(np.array(o[:4]) + rng.normal(0, 0.08, 4) * side)
            labels.append(o[4] if rng.random() < 0.85 else int(rng.choice(list(CATEGORIES))))
    for _ in range(int(rng.integers(0, 3))):
        x, y, w, h = rng.integers(1, 200, 4)
        boxes.append(np.array([x, y, x + w, y + h]))
        labels.append(int(rng.choice(list(CATEGORIES))))
    return Detections.from_arrays(boxes, rng.choice(scores, len(boxes)), labels)


def random_images(seed: int, count: int, ties: bool) -> list[Image]:
    rng = np.random.default_rng(seed)
    if ties:
        return [random_image(rng, [0.1, 0.5, 0.9]) for _ in range(count)]
    images = [random_image(rng, [0.5]) for _ in range(count)]
    total = sum(len(i.high) + len(i.low) for i in images)
    fresh = iter((rng.permutation(total) + 1) / (total + 2))
    for image in images:
        for name in ("high", "low"):
            old = getattr(image, name)
            setattr(image, name, Detections.from_arrays(old.boxes, [next(fresh) for _ in old.scores], old.labels))
    return images


def profile_of(path: Path, images: Sequence[Image]) -> Profile:
    rows = [{"truth": truth(i.objects, i.areas), "high": i.high, "low": i.low} for i in images]
    return make_profile(path, rows, categories=CATEGORIES)
