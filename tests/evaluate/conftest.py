"""A profile with a planted gain."""

from __future__ import annotations

import pytest

from dualres_plugin.profile.coco_ap import MixedAP
from dualres_plugin.profile.table import Profile
from tests.evaluate.helpers import N
from tests.fakes import planted_profile


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return planted_profile(tmp_path_factory.mktemp("planted") / "p", N)


@pytest.fixture(scope="module")
def mixed(profile: Profile) -> MixedAP:
    return MixedAP(profile)
