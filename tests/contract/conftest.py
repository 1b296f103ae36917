"""Every contract case runs for every host."""

from __future__ import annotations

from typing import Any

import pytest

from dualres_plugin.hosts.contract import HostAdapter
from tests.contract.hosts import HOSTS, Host, require, shared_adapter


@pytest.fixture(params=HOSTS, ids=lambda h: h.name)
def host(request: pytest.FixtureRequest) -> Host:
    require(request.param)
    return request.param


@pytest.fixture
def adapter(host: Host) -> HostAdapter[Any]:
    return shared_adapter(host.name)
