"""The small models, exported once for the tests of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.small_models import make_parts, write_models


@pytest.fixture(scope="session")
def parts() -> dict[str, Any]:
    """The small router and detector, eager and traced."""
    return make_parts()


@pytest.fixture(scope="session")
def models(parts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every exported form of them."""
    return write_models(parts, tmp_path_factory.mktemp("models"))
