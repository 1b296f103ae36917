"""From a budget to a gate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from dualres_plugin.budget.cost import Budget
from dualres_plugin.common.errors import DualResError
from dualres_plugin.predict.operating_point import choose_gate, choose_shares, measure_ms
from dualres_plugin.router.network import ResolutionRouter
from tests.fakes import FakeAdapter, photo, write_photos
from tests.predicting_case import make_router


@pytest.fixture
def router() -> ResolutionRouter:
    return make_router()


def test_a_budget_in_milliseconds(router: ResolutionRouter, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_photos(tmp_path, 3)
    measured = measure_ms(FakeAdapter(), router, [photo(i) for i in range(2)], 64, 0.5, repeats=1)
    assert set(measured) == {"t_router", "t_low", "t_high"} and all(v > 0 for v in measured.values())
    seen: list[int] = []

    def measure(adapter: Any, router: Any, images: Sequence[Any], size: int, scale: float) -> dict[str, float]:
        seen.append(len(images))
        return {"t_router": 1.0, "t_low": 10.0, "t_high": 30.0}

    def choose(ms: float) -> float:
        return choose_shares(router, FakeAdapter(), 64, 0.5, str(tmp_path), Budget(ms=ms), measure)[0]

    caplog.set_level("INFO", "dualres")
    assert choose(16) == pytest.approx(0.25) and seen == [3]
    assert "25 % of the images may go high" in caplog.text
    with pytest.raises(DualResError, match="below the cheapest point, all low with the router: 11 ms"):
        choose(9)


def test_thresholds_of_every_budget(router: ResolutionRouter, tmp_path: Path) -> None:
    paths = write_photos(tmp_path, 3)

    def choose(rate: float | None = None, threshold: float | None = None, gmacs: float | None = None) -> float:
        budget = Budget(rate, threshold, gmacs)
        return choose_gate(router, FakeAdapter(), 64, 0.5, str(tmp_path), budget).threshold

    assert choose() == router.threshold_for(0.5)
    assert choose(rate=0.2) == router.threshold_for(0.2)
    assert choose(threshold=7.0) == 7.0
    low, high = 32 * 32 / 1e4, 64 * 64 / 1e4
    budget = router.gmacs() + low + 0.3 * (high - low)
    assert choose(gmacs=budget) == pytest.approx(router.threshold_for(0.3))
    assert choose(gmacs=100) == float("-inf")
    with pytest.raises(DualResError, match="below the cheapest point"):
        choose(gmacs=0.01)
    paths[0].write_bytes(b"")
    assert choose(gmacs=budget) == pytest.approx(router.threshold_for(0.3)), (
        "a damaged first image is no reason to stop"
    )
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(DualResError, match="holds no readable image"):
        choose(gmacs=budget)


def test_a_held_rate_has_a_controller_and_refuses_a_threshold(router: ResolutionRouter) -> None:
    gate = choose_gate(router, FakeAdapter(), 64, 0.5, photo(), Budget(target_high_rate=0.3), hold=True)
    assert gate.controller is not None and gate.controller.target == 0.3
    with pytest.raises(DualResError, match="give target_high_rate, not threshold"):
        choose_gate(router, FakeAdapter(), 64, 0.5, photo(), Budget(threshold=0.0), hold=True)


def test_the_gpu_is_waited_for_before_and_after_every_timed_part(
    router: ResolutionRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for an accelerator: between two waits there is one part, never two, and the router is one of them."""
    events: list[str] = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: events.append("wait"))

    class Watched(FakeAdapter):
        def router_images(self, batch: Any) -> Any:
            events.append("router")
            return super().router_images(batch)

        def predict(self, batch: Any) -> Any:
            events.append("low" if batch.low else "high")
            return super().predict(batch)

    measure_ms(Watched(), router, [photo(0)], 64, 0.5, repeats=1)
    assert events == 2 * ["wait", "router", "wait", "wait", "low", "wait", "wait", "high", "wait"]
