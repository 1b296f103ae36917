"""`dualres demo`, whole, on fewer scenes: the first command of the README."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.cli import dualres


def test_the_demo_runs_the_whole_job(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = dualres("demo", "--images", 24, "--out", out)
    assert done.status == 0, done.err[-2000:]
    assert "AUC-Policy" in done.out and "look at" in done.out
    assert (out / "report.html").read_text().startswith("<!doctype html>")
    ends = json.loads((out / "metrics.json").read_text())
    assert 0 < ends["ap_low"] < ends["ap_high"]  # the detector is trained: high sees more
    drawn = {path.name for path in (out / "predict").iterdir()}
    assert {"contact_sheet.jpg", "routes.csv", "detections.json", "000001.jpg"} <= drawn
