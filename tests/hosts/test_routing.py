"""Route, split, run each resolution once, merge; and what every routed host object keeps. On a host-free stand-in."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.resize import LowSize
from dualres_plugin.common.types import Decision
from dualres_plugin.hosts.routing import Routing, detector_attribute, run_routed
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


ROUTES = [True, False, True]


@pytest.fixture
def adapter() -> FakeAdapter:
    return FakeAdapter()


def batch_of(adapter: FakeAdapter) -> Any:
    return adapter.collate([photo(i, (48, 64)) for i in range(len(ROUTES))], 64)


def test_a_run_is_run_routed_and_its_decision_is_kept_and_told(adapter: FakeAdapter) -> None:
    told: list[Decision] = []
    routing, batch = Routing(forced(ROUTES), 0.5, told.append), batch_of(adapter)
    assert routing.decision is None
    raw, decision = routing.run(adapter, batch)
    assert torch.equal(raw, run_routed(adapter, batch, forced(ROUTES), 0.5))
    assert decision.high.tolist() == ROUTES and routing.decision is decision
    assert len(told) == 1 and told[0] is decision


def test_routing_alone_runs_no_detector(adapter: FakeAdapter) -> None:
    routing = Routing(forced(ROUTES), 0.5)
    decision, parts = routing.route(adapter, batch_of(adapter))
    assert decision.high.tolist() == ROUTES and routing.decision is decision
    expected = [[i for i, high in enumerate(ROUTES) if high is wanted] for wanted in (True, False)]
    assert [part.index.tolist() for part in parts] == expected and [part.step for part in parts] == [0, 1]
    assert adapter.images_seen == 0


@pytest.mark.parametrize("scale", [0.0, 1.0, -0.5])
def test_a_scale_that_is_no_ratio_is_refused(scale: float) -> None:
    with pytest.raises(DualResError, match="the low size must be smaller than the high size"):
        Routing(forced(ROUTES), scale)


class Gate(nn.Module):
    """A decision maker with a parameter, as the router's gate has them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: Any) -> Decision:
        return forced(ROUTES)(images)


def test_a_router_inside_moves_and_copies_with_the_host() -> None:
    routing = Routing(Gate(), 0.5)
    assert [name for name, _ in routing.named_parameters()] == ["decide.weight"]
    assert routing.double().decide.weight.dtype == torch.float64
    assert copy.deepcopy(routing).decide is not routing.decide


class Routed(nn.Module):
    def __init__(self, detector: nn.Module):
        super().__init__()
        self.detector = detector

    def __getattr__(self, name: str) -> Any:
        return detector_attribute(self, name, super().__getattr__)


def test_what_the_module_has_not_is_its_detectors() -> None:
    detector = nn.Conv2d(3, 8, 1)
    routed = Routed(detector)
    assert routed.detector is detector and routed.weight is detector.weight and routed.out_channels == 8
    with pytest.raises(AttributeError, match="'Conv2d' object has no attribute 'nothing'"):
        _ = routed.nothing


def test_a_module_that_is_not_built_yet_has_nothing() -> None:
    """Copying and unpickling ask for attributes before there are any."""
    empty = Routed.__new__(Routed)
    assert not hasattr(empty, "detector") and not hasattr(empty, "weight")
    assert copy.deepcopy(Routed(nn.Conv2d(3, 8, 1))).out_channels == 8


def test_a_low_size_in_pixels_is_set_against_the_high_size_of_the_batch(adapter: FakeAdapter) -> None:
    class Told(FakeAdapter):
        def high_size(self, batch: Any) -> int:
            return int(batch.images.shape[-1])

    host, low = Told(), LowSize.of(32, 64)
    for size in (64, 96, 128):
        batch = host.collate(pictures(2), size)
        expected = host.predict(host.resize(batch, torch.arange(2), 32 / size))
        assert torch.equal(run_routed(host, batch, forced([False] * 2), low), expected)
        assert torch.equal(Routing(forced([False] * 2), low).run(host, batch)[0], expected)
    batch = adapter.collate(pictures(2), 96)  # a host that does not tell: the ratio
    halved = adapter.predict(adapter.resize(batch, torch.arange(2), 0.5))
    assert torch.equal(run_routed(adapter, batch, forced([False] * 2), low), halved)
    with pytest.raises(DualResError, match=r"low=32: .* 32 pixels here"):
        run_routed(host, host.collate(pictures(2), 32), forced([True] * 2), low)
