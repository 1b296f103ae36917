"""The demo's detector and scenes that it never saw."""

from __future__ import annotations

import pytest
from torchvision.models.detection import FCOS

from dualres_plugin.demo.detector import (
    build_demo_detector,
)
from dualres_plugin.demo.scenes import Scene, generate_scenes


@pytest.fixture(scope="module")
def model() -> FCOS:
    return build_demo_detector()


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return list(generate_scenes(11, "unit-test", 24))
