"""Every contract case runs for every host."""

from __future__ import annotations

import pytest

from tests.contract.hosts import HOSTS, Host, require


@pytest.fixture(params=HOSTS, ids=lambda h: h.name)
def host(request: pytest.FixtureRequest) -> Host:
    require(request.param)
    return request.param
