"""`Predictor` on a host-free stand-in: order, flat memory, and nothing lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.sources import iter_source
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
