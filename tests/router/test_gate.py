"""A router at its operating point, and the count of its decisions."""

from __future__ import annotations

import copy

import torch

from dualres_plugin.common.types import Decision
from dualres_plugin.router.gate import RouteLog


def test_the_log_counts_through_copies() -> None:
    log = RouteLog()
    twin = copy.deepcopy(log)
    twin(Decision(torch.zeros(4), torch.tensor([True, False, False, False]), 0.0))
    assert (log.images, log.high, log.rate) == (4, 1, 0.25)
    assert RouteLog().rate == 0.0
