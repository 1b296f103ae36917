"""What the tests of the Pareto figures share."""

from __future__ import annotations

import json
from pathlib import Path

POINTS = [(0.0, 0.8, 0.30), (0.5, 2.0, 0.36), (1.0, 3.2, 0.375)]


def write_metrics(folder: Path, as_objects: bool) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    points = [dict(zip(("β", "gmacs", "ap"), p)) for p in POINTS] if as_objects else POINTS
    path = folder / "metrics.json"
    path.write_text(json.dumps({"auc_policy": 0.6, "points": points}), encoding="utf-8")
    return path
