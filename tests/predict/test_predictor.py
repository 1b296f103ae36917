"""`predict` on a host-free stand-in: order, budgets, and nothing lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualres_plugin.budget.cost import Budget
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images import iter_source
from dualres_plugin.predict.operating_point import choose_threshold, measure_ms
from dualres_plugin.router.network import ResolutionRouter
from tests.fakes import FakeAdapter, photo, write_photos
from tests.predicting_case import make_router, predictor


@pytest.fixture
def router() -> ResolutionRouter:
    return make_router()


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_any_batch_size_gives_the_same_in_order(router: ResolutionRouter, tmp_path: Path, batch: int) -> None:
    write_photos(tmp_path, 7)
    expected = list(predictor(router).stream(iter_source(tmp_path)))
    got = list(predictor(router, batch=batch).stream(iter_source(tmp_path)))
    assert [p.image.name for p in got] == [f"{i}.png" for i in range(7)]
    assert {p.route.route for p in got} == {"high", "low"}
    for a, b in zip(got, expected):
        assert a.route.route == b.route.route and a.route.score == pytest.approx(b.route.score, abs=1e-3)
        assert np.allclose(a.found.boxes, b.found.boxes, atol=1e-3)


def test_a_stream_is_read_as_it_is_used(router: ResolutionRouter) -> None:
    taken = 0

    def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield from iter_source(photo(taken))

    stream = predictor(router, batch=2).stream(endless())
    for _ in range(6):
        next(stream)
    assert taken <= 8


def test_a_rejected_image_raises_without_a_listener(router: ResolutionRouter) -> None:
    class Picky(FakeAdapter):
        def collate(self, images: Sequence[np.ndarray], size: int, targets: Any = None) -> Any:
            raise RuntimeError("cannot do this one")

    with pytest.raises(RuntimeError, match="cannot do this one"):
        list(predictor(router, Picky()).stream(iter_source(photo(4))))


def test_a_budget_in_milliseconds(
    router: ResolutionRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_photos(tmp_path, 3)
    measured = measure_ms(FakeAdapter(), router, [photo(i) for i in range(2)], 64, 0.5, repeats=1)
    assert set(measured) == {"t_router", "t_low", "t_high"} and all(v > 0 for v in measured.values())
    seen: list[int] = []

    def measure(adapter: Any, router: Any, images: Sequence[Any], size: int, scale: float) -> dict[str, float]:
        seen.append(len(images))
        return {"t_router": 1.0, "t_low": 10.0, "t_high": 30.0}

    monkeypatch.setattr("dualres_plugin.predict.operating_point.measure_ms", measure)
    caplog.set_level("INFO", "dualres")
    got = choose_threshold(router, FakeAdapter(), 64, 0.5, str(tmp_path), Budget(ms=16))
    assert got == pytest.approx(router.threshold_for(0.25)) and seen == [3]
    assert "25 % of the images may go high" in caplog.text
    with pytest.raises(DualResError, match="below the cheapest point, all low with the router: 11 ms"):
        choose_threshold(router, FakeAdapter(), 64, 0.5, str(tmp_path), Budget(ms=9))


def test_thresholds_of_every_budget(router: ResolutionRouter, tmp_path: Path) -> None:
    paths = write_photos(tmp_path, 3)

    def choose(rate: float | None = None, threshold: float | None = None, gmacs: float | None = None) -> float:
        return choose_threshold(router, FakeAdapter(), 64, 0.5, str(tmp_path), Budget(rate, threshold, gmacs))

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
