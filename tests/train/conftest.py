"""Profiles with a planted order, one to learn from and one to test on."""

from __future__ import annotations

import pytest

from dualres_plugin.profile.table import Profile
from tests.fakes import planted_profile


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return planted_profile(tmp_path_factory.mktemp("train") / "p", 120)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return planted_profile(tmp_path_factory.mktemp("test") / "p", 60, seed=1)
