"""A gate that remembers: one stream and several, skipped frames, and what is kept over a restart."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from dualres_plugin.budget.controller import BudgetController
from dualres_plugin.budget.cost import Budget
from dualres_plugin.budget.pace import PacedController
from dualres_plugin.budget.stream.stream import StreamOptions
from dualres_plugin.common.card import SKIP
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.photo import router_images_of
from dualres_plugin.common.types import Decision, Detections
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.router.stream_gate import StreamGate, make_stream_gate, stream_options
from tests.budget.stream.test_stream import head
from tests.fakes import photo
from tests.router.helpers import loud, tiny

BOXES = Detections.from_arrays([[0.1, 0.1, 0.4, 0.5]], [0.8], [1])


@pytest.fixture
def router() -> ResolutionRouter:
    made = loud(tiny())
    made.calibrate([-1.0, 0.0, 1.0])
    return made


def frame(gate: StreamGate, *pictures: np.ndarray) -> Decision:
    """The next frame of each stream, in which the same is found as ever."""
    decision = gate(router_images_of(list(pictures)))
    gate.observe([BOXES] * len(pictures))
    return decision


def test_without_a_past_the_thumbnail_decides(router: ResolutionRouter) -> None:
    gate = StreamGate(router, StreamOptions(hysteresis=0), 0.0)
    for seed in range(4):
        alone = router.decide(router_images_of([photo(seed)]), (0.0,))
        decision = frame(gate, photo(seed))
        assert decision.scores == pytest.approx(alone.scores) and decision.steps.tolist() == alone.steps.tolist()


def test_a_still_scene_gives_its_last_boxes_again(router: ResolutionRouter) -> None:
    gate = StreamGate(router, StreamOptions(skip=1), 0.0)
    decisions = [frame(gate, photo(0)) for _ in range(4)]
    assert [d.of(0).route == "skip" for d in decisions] == [False, False, True, False]
    skipped = decisions[2]
    assert skipped.steps.tolist() == [SKIP] and not skipped.high.any()
    kept = skipped.recalled[0]
    assert kept is not None and np.allclose(kept.boxes, BOXES.boxes) and kept.labels.tolist() == [1]
    assert skipped.of(0).score == decisions[1].of(0).score and skipped.of(0).size is None


def test_streams_do_not_see_each_other(router: ResolutionRouter) -> None:
    together = StreamGate(router, StreamOptions(head(), skip=1), 0.3)
    together.take(["a", "b"])
    alone = [StreamGate(router, StreamOptions(head(), skip=1), 0.3) for _ in range(2)]
    for number in range(6):
        pictures = photo(0), photo(number // 2)
        decision = frame(together, *pictures)
        for i, gate in enumerate(alone):
            assert frame(gate, pictures[i]).of(0) == decision.of(i)


def test_two_frames_of_one_stream_do_not_share_a_batch(router: ResolutionRouter) -> None:
    gate = StreamGate(router, StreamOptions(), 0.0)
    with pytest.raises(DualResError, match="batch=1"):
        gate(router_images_of([photo(0), photo(1)]))
    with pytest.raises(DualResError, match="one frame of each"):
        gate.take(["a", "a"])


def test_copies_of_the_host_share_the_memory(router: ResolutionRouter) -> None:
    gate = StreamGate(router, StreamOptions(), 0.0)
    frame(copy.deepcopy(gate), photo(0))
    assert gate.streams.of("0").memory.frames == 1


def test_it_goes_on_where_it_was_saved(router: ResolutionRouter) -> None:
    def made() -> StreamGate:
        return StreamGate(router, StreamOptions(head(), skip=2), controller=BudgetController(0.5, router.quantiles))

    pictures = [photo(i // 5) for i in range(40)]
    whole, first, second = made(), made(), made()
    expected = [frame(whole, p).of(0) for p in pictures]
    before = [frame(first, p).of(0) for p in pictures[:17]]
    second.resume(json.loads(json.dumps(first.saved())))
    assert before + [frame(second, p).of(0) for p in pictures[17:]] == expected
    with pytest.raises(DualResError, match="no saved state"):
        second.resume({"streams": {}, "controller": None})


def test_shares_are_read_off_the_heads_own_calibration(router: ResolutionRouter) -> None:
    options = StreamOptions(head())
    assert make_stream_gate(router, options, Budget(0.25)).threshold == 3.0  # of 0, 1, 2, 3, 4
    assert make_stream_gate(router, options, Budget(threshold=0.7)).threshold == 0.7
    held = make_stream_gate(router, StreamOptions(head(), skip=3), Budget(0.5), 2, True, lambda: [4.0, 1.0])
    assert held.controller is not None and held.skip_cost == pytest.approx(-1 / 3)
    assert held.expected_shares == (0.5, 0.5)


def test_what_a_user_asks_for(router: ResolutionRouter, tmp_path: Path) -> None:
    assert stream_options(False, 0, router) is None
    assert stream_options(False, 3, router) == StreamOptions(skip=3)
    assert stream_options(head(), 0, router) == StreamOptions(head())
    head().save(tmp_path)
    assert stream_options(True, 0, tmp_path) == stream_options(tmp_path, 0, router) == StreamOptions(head())
    with pytest.raises(DualResError, match="memory=FOLDER"):
        stream_options(True, 0, router)


def test_frames_per_second_are_held_beside_memory_and_skips(router: ResolutionRouter) -> None:
    gate = make_stream_gate(router, StreamOptions(skip=1), Budget(fps=20))
    for _ in range(6):
        frame(gate, photo(0))
    controller = gate.controller
    assert isinstance(controller, PacedController) and controller.state.images == 6
    assert controller.pace.skip_ms > 0 and sum(controller.state.counts) == 4, "skipped frames are timed by themselves"
    again = make_stream_gate(router, StreamOptions(skip=1), Budget(fps=20))
    again.resume(json.loads(json.dumps(gate.saved())))
    assert again.controller is not None and again.controller.state == controller.state
    gate.take(["a", "b"])
    with pytest.raises(DualResError, match="a detector for each camera"):
        gate(router_images_of([photo(0), photo(1)]))
