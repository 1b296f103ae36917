"""A small labelled set on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import write_coco


@pytest.fixture
def data(tmp_path: Path) -> tuple[Path, Path]:
    return write_coco(tmp_path, 10)
