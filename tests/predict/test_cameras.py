"""Several cameras through one detector give what each gives alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.predict.cameras import Cameras
from dualres_plugin.predict.predictor import Prediction
from dualres_plugin.predict.wrapper import DualResWrapper
from tests.adapters.ultralytics.helpers import real_yolo, val_photos
from tests.budget.stream.test_stream import head
from tests.fakes import FakeAdapter, lively_router, photo

SEEN = [photo(i, (90, 160)) for i in range(4)]


def cameras(**options: Any) -> Cameras:
    return Cameras.of(DualResWrapper(FakeAdapter(), lively_router(SEEN), target_high_rate=0.5, **options))


def camera(first: int, frames: int = 8) -> Iterator[np.ndarray]:
    """Three frames of a scene, then the next."""
    return iter([SEEN[(first + i // 3) % 4] for i in range(frames)])


def plain(found: Prediction) -> tuple[Any, ...]:
    boxes, labels = found.found.boxes.round(2).tolist(), found.found.labels.tolist()
    return found.route.route, round(found.route.score, 3), boxes, labels


def test_each_camera_gets_what_it_gets_alone() -> None:
    together = list(cameras(memory=head()).stream({"a": camera(0), "b": camera(1)}))
    for name, first in (("a", 0), ("b", 1)):
        alone = list(cameras(memory=head()).stream({name: camera(first)}))
        assert [plain(m[name]) for m in alone] == [plain(m[name]) for m in together]


def test_a_camera_that_ends_is_left_out() -> None:
    lengths = [set(m) for m in cameras(memory=head()).stream({"a": camera(0, 2), "b": camera(1, 4)})]
    assert lengths == [{"a", "b"}] * 2 + [{"b"}] * 2


def test_a_size_runs_once_for_all_cameras() -> None:
    passes: list[int] = []
    made = cameras(memory=head())
    assert isinstance(made.adapter, FakeAdapter)
    made.adapter.on_pass = lambda batch: passes.append(len(batch.images))
    made.step({str(i): SEEN[i] for i in range(4)})
    assert len(passes) == 2 and sum(passes) == 4, "half of the scenes went to each size"


def test_shapes_may_differ_and_the_answer_keeps_the_order() -> None:
    pytest.importorskip("ultralytics")
    wrapper = DualResWrapper(real_yolo(), lively_router(val_photos(4)), target_high_rate=0.5, skip=2)
    made = Cameras.of(wrapper)
    frames = {"wide": photo(0, (120, 320)), "tall": photo(1, (320, 120)), "wide too": photo(2, (120, 320))}
    for number in range(3):
        found = made.step(frames)
        assert list(found) == list(frames)
        assert {p.route.route for p in found.values()} == {"skip"} if number == 2 else True


def test_a_wrapper_without_memory_is_refused() -> None:
    with pytest.raises(DualResError, match="memory=True"):
        cameras()
