"""`Predictor` on a host-free stand-in: order, flat memory, and nothing lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dualres_plugin.budget.controller import BudgetController
from dualres_plugin.budget.pace import PacedController
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.photo import SourceImage
from dualres_plugin.common.images.sources import iter_source
from dualres_plugin.predict.predictor import Predictor
from dualres_plugin.router.gate import Gate
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


@pytest.mark.parametrize(("batch", "inside"), [(1, 0), (2, 4 * 2)])
def test_a_stream_is_read_as_it_is_used(router: ResolutionRouter, batch: int, inside: int) -> None:
    taken = 0

    def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield from iter_source(photo(taken))

    stream = predictor(router, batch=batch).stream(endless())
    for _ in range(6):
        next(stream)
    assert taken <= 6 + inside


def test_images_of_one_route_wait_for_each_other(router: ResolutionRouter) -> None:
    host, passes = FakeAdapter(), []
    host.on_pass = lambda batch: passes.append((len(batch.images), batch.low))
    mixed = [photo(i) for i in range(32)]
    made = predictor(router, host, batch=4)
    got = list(made.stream(iter_source(mixed)))
    high = sum(p.route.route == "high" for p in got)
    assert 8 < high < 24  # both routes, in turns
    assert sorted(passes) == sorted(
        (min(4, left), low) for low, count in ((False, high), (True, 32 - high)) for left in range(count, 0, -4)
    )


def test_what_is_held_is_decided_in_the_order_of_the_images(router: ResolutionRouter, tmp_path: Path) -> None:
    """Of photos of three shapes, at any batch: a controller learns from one image after the other."""
    write_photos(tmp_path, 24, [(48, 64), (64, 48), (50, 50)])

    class Shapes(FakeAdapter):
        def input_shape(self, image_size: tuple[int, int], size: int) -> tuple[int, int]:
            return image_size

    routes = []
    for batch in (1, 4):
        gate = Gate(router, controller=BudgetController((0.3, 0.7), router.quantiles))
        stream = Predictor(Shapes(), gate, 64, 0.5, batch=batch).stream(iter_source(tmp_path))
        routes.append([(p.image.name, p.route.route) for p in stream])
    assert routes[0] == routes[1] and {route for _, route in routes[0]} == {"high", "low"}


def test_a_rejected_image_costs_only_itself_in_any_batch(router: ResolutionRouter) -> None:
    """Rejected by the preprocessing, or by the pass in which it waited."""
    odd = {n: photo(n) for n in (3, 7)}

    class Picky(FakeAdapter):
        def collate(self, images: Sequence[np.ndarray], size: int, targets: Any = None) -> Any:
            if any(np.array_equal(image, odd[3]) for image in images):
                raise RuntimeError("cannot do this one")
            return super().collate(images, size, targets)

        def detections(self, raw: Any, batch: Any) -> Any:
            (mean, *_), _ = odd_answer
            if any(abs(row[0] - mean) < 1e-6 for row in raw.tolist()):
                raise RuntimeError("nor this one")
            return super().detections(raw, batch)

    plain = FakeAdapter()
    route = next(predictor(router, plain).stream(iter_source(odd[7]))).route
    whole = plain.collate([odd[7]], 64)
    part = whole if route.step == 0 else plain.resize(whole, torch.tensor([0]), 0.5)
    odd_answer = (plain.predict(part)[0].tolist(), route)
    skipped: list[str] = []
    stream = predictor(router, Picky(), batch=4).stream(iter_source([photo(i) for i in range(12)]), skipped.append)
    assert len(list(stream)) == 10 and len(skipped) == 2


def test_a_rejected_image_raises_without_a_listener(router: ResolutionRouter) -> None:
    class Picky(FakeAdapter):
        def collate(self, images: Sequence[np.ndarray], size: int, targets: Any = None) -> Any:
            if np.array_equal(images[0], photo(4)):
                raise RuntimeError("cannot do this one")
            return super().collate(images, size, targets)

    with pytest.raises(RuntimeError, match="cannot do this one"):
        list(predictor(router, Picky()).stream(iter_source(photo(4))))


def test_a_detector_that_fails_on_everything_is_no_matter_of_the_image(
    router: ResolutionRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = FakeAdapter()
    working = predictor(router, host)
    list(working.stream(iter_source(photo(1))))

    def lost(_: object) -> Any:
        raise RuntimeError("the GPU is lost")

    monkeypatch.setattr(host, "predict", lost)
    skipped: list[str] = []
    with pytest.raises(DualResError, match=r"fails at the high size, 64 px, on any photo: the GPU is lost"):
        list(working.stream(iter_source(photo(2)), skipped.append))
    assert not skipped


def test_frames_per_second_are_held_where_the_detector_becomes_slower(router: ResolutionRouter) -> None:
    """Through the whole predictor, with a clock that its passes move."""
    host, now, slow = FakeAdapter(), [0.0], [1.0]

    def on_pass(batch: Any) -> None:
        now[0] += slow[0] * (0.010 if batch.low else 0.040)

    host.on_pass = on_pass
    controller = PacedController(50, router.quantiles, clock=lambda: now[0])
    stream = Predictor(host, Gate(router, controller=controller), 64, 0.5).stream(
        SourceImage(str(i), photo(i % 40)) for i in range(900)
    )

    def rate(frames: int) -> float:
        begun = now[0]
        for _ in range(frames):
            next(stream)
        return frames / (now[0] - begun)

    rate(100)
    assert rate(200) == pytest.approx(50, rel=0.05)
    slow[0] = 1.7
    rate(100)
    assert rate(200) == pytest.approx(50, rel=0.05)
    assert controller.pace.times_ms == pytest.approx((68, 17)) and not controller.pace.missed
