"""Real photos, and a router that tells them apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualres_plugin.router.network import ResolutionRouter
from tests.adapters.ultralytics.helpers import val_photos
from tests.fakes import lively_router


@pytest.fixture(scope="module")
def photos() -> list[Path]:
    return val_photos(6)


@pytest.fixture(scope="module")
def router(photos: list[Path]) -> ResolutionRouter:
    return lively_router(photos)
