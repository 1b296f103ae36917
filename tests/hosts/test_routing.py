"""Route, split, run each resolution once, merge: on a host-free stand-in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dualres_plugin.common.types import Decision
from dualres_plugin.hosts.routing import run_routed
from tests.fakes import FakeAdapter, forced, photo


def pictures(count: int = 5) -> list[np.ndarray]:
    return [photo(i, ((48, 64), (64, 48), (30, 90))[i % 3]) for i in range(count)]


@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_each_image_gets_the_answer_of_its_route_in_order(routes: list[bool]) -> None:
    host = FakeAdapter()
    batch = host.collate(pictures(len(routes)), 64)
    merged = run_routed(host, batch, forced(routes), 0.5)
    for i, high in enumerate(routes):
        alone = host.select(batch, torch.tensor([i]))
        part = alone if high else host.resize(alone, torch.tensor([0]), 0.5)
        assert torch.allclose(merged[i], host.predict(part)[0])


@pytest.mark.parametrize(("routes", "passes"), [([True] * 4, 1), ([False] * 4, 1), ([True, False, True, True], 2)])
def test_each_resolution_runs_once(routes: list[bool], passes: int) -> None:
    host = FakeAdapter()
    seen: list[int] = []
    host.on_pass = lambda batch: seen.append(len(batch.images))
    told: list[Decision] = []
    run_routed(host, host.collate(pictures(4), 64), forced(routes), 0.5, told.append)
    assert len(seen) == passes and sum(seen) == 4
    assert told[0].high.tolist() == routes


def test_an_empty_batch_stays_empty() -> None:
    host = FakeAdapter()
    batch = host.select(host.collate(pictures(2), 64), torch.zeros(0, dtype=torch.long))
    assert run_routed(host, batch, forced([]), 0.5).shape == (0, 2)
