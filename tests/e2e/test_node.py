"""An exported file in Node: the routes and boxes of Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ultralytics")
pytest.importorskip("onnxruntime")

from dualres_plugin import DualResWrapper
from dualres_plugin.common.images.decode import read_image
from dualres_plugin.export.web.build import write_node
from dualres_plugin.runtime.session import DualResSession
from tests.fakes import lively_router
from tests.shared import require_shared


@pytest.fixture(scope="module")
def node() -> str:
    """Node with onnxruntime-node."""
    found = shutil.which("node")
    if found is None or subprocess.run([found, "-e", "require('onnxruntime-node')"], capture_output=True).returncode:
        pytest.skip(
            "needs Node with onnxruntime-node: ONNXRUNTIME_NODE_INSTALL=skip npm install onnxruntime-node, "
            "and NODE_PATH set to its node_modules"
        )
    return found


@pytest.fixture(scope="module")
def photos() -> list[Path]:
    return sorted(require_shared("data", "coco_mini", "images", "val2017").iterdir())[:6]


@pytest.fixture(scope="module", params=["inside", "outside"])
def model(photos: list[Path], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    from ultralytics import YOLO

    wrapper = DualResWrapper(YOLO(str(require_shared("weights", "yolo11n.pt"))), lively_router(photos))
    out = tmp_path_factory.mktemp("node") / "model.onnx"
    return wrapper.export(out, images=photos[0].parent, photos=2, thumbnail=request.param)


def run(node: str, script: Path, photo: Path, *thresholds: float) -> dict[str, Any]:
    pixels = read_image(photo)
    height, width = pixels.shape[:2]
    raw = script.with_name("photo.rgba")
    raw.write_bytes(np.dstack([pixels, np.full((height, width), 255, np.uint8)]).tobytes())
    command = [node, str(script), str(raw), str(width), str(height), *map(str, thresholds)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=120)
    assert not done.returncode, done.stderr
    return dict(json.loads(done.stdout))


def test_routes_scores_and_boxes_are_those_of_python(node: str, model: Path, photos: list[Path]) -> None:
    script = write_node(model, model.parent / "page")
    session, boxes = DualResSession(model), 0
    for photo, result in zip(photos, session.predict([str(p) for p in photos]), strict=True):
        found = run(node, script, photo)
        assert found["route"] == result.route
        assert found["score"] == pytest.approx(result.score, abs=0.02 * max(1, abs(result.score)))
        for box, score, label in zip(result.boxes, result.scores, result.labels):
            # Bilinear of detect.js and of cv2 differ by a grey level where a photo is scaled, as from 612 px to 640.
            same = [d for d in found["found"] if d["label"] == label and abs(d["score"] - score) < 2e-2]
            assert score < 0.27 or any(np.allclose(d["box"], box, atol=0.5) for d in same), (photo.name, box, same)
            boxes += 1
    assert boxes > 10
    assert [run(node, script, photos[0], limit)["route"] for limit in (-1e9, 1e9)] == ["high", "low"]
