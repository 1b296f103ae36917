"""A session that remembers its stream: the same file, without torch."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.runtime.session import DualResSession
from tests.budget.stream.test_stream import head
from tests.small_models import pictures, same

STILL = 5  # frames of a photo


@pytest.fixture
def frames() -> list[np.ndarray]:
    return [picture for picture in pictures(3) for _ in range(STILL)]


def routes(session: DualResSession, frames: list[np.ndarray]) -> list[str]:
    return [result.route for result in session.stream(frames)]


@pytest.mark.parametrize("form", ["cond", "pair"])
def test_a_still_scene_shows_its_last_boxes_again(models: dict[str, Path], form: str, frames: list[np.ndarray]) -> None:
    found = DualResSession(models[form], threshold=0.0, skip=2).predict(frames)
    assert [r.route == "skip" for r in found] == 3 * [False, False, True, True, False]
    for before, now in pairwise(found):
        if now.route == "skip":
            assert np.allclose(now.boxes, before.boxes, atol=0.02) and np.array_equal(now.labels, before.labels)
            assert now.score == before.score and (now.step, now.size) == (-1, None)


@pytest.mark.parametrize("form", ["cond", "pair"])
def test_the_first_frame_of_a_scene_is_the_files_own_decision(
    models: dict[str, Path], form: str, frames: list[np.ndarray]
) -> None:
    """The head's line from thumbnail scores to gains is taken into the thresholds that the file gets."""
    plain = DualResSession(models[form])
    middle = float(np.median([r.score for r in plain.predict(frames[::STILL])]))
    expected = plain.predict(frames[::STILL], threshold=middle)
    always = head(first=[2.0, 1.0], one_bias=100.0, both_bias=100.0)
    session = DualResSession(models[form], threshold=2 * middle + 1, memory=always)
    found = session.predict(frames)
    assert all(same(a, b) or a.score != b.score for a, b in zip(expected, found[::STILL]))
    assert [r.route for r in found[::STILL]] == [r.route for r in expected]
    assert [r.score for r in found[::STILL]] == pytest.approx([2 * r.score + 1 for r in expected])
    assert all(r.route == "high" and r.score == 100 for i, r in enumerate(found) if i % STILL)


def test_without_a_slope_the_head_alone_decides(models: dict[str, Path], frames: list[np.ndarray]) -> None:
    for bias, route in ((1.0, "high"), (-1.0, "low")):
        never = head(first=[0.0, bias], one_bias=-1.0, both_bias=-1.0)
        assert routes(DualResSession(models["cond"], threshold=0.0, memory=never), frames)[::STILL] == 3 * [route]


def test_a_rate_is_held_with_the_skipped_frames_in_it(models: dict[str, Path], frames: list[np.ndarray]) -> None:
    session = DualResSession(models["cond"], target_high_rate=0.5, hold_rate=True, memory=head(), skip=1)
    found = routes(session, 20 * frames)
    assert session.controller is not None and session.controller.state.images == len(found)
    assert session.controller.state.high == found.count("high")
    assert sum(session.controller.state.counts) == len(found) - found.count("skip") < len(found)
    assert session.controller.state.rate == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("option", [{"skip": 2}, {"memory": head()}])
def test_the_graph_itself_is_for_sessions_without_a_memory(models: dict[str, Path], option: dict[str, Any]) -> None:
    session = DualResSession(models["cond"], threshold=0.0, **option)
    with pytest.raises(DualResError, match="remembers"):
        session.run(np.zeros((1, 3, 160, 160), np.float32))
    assert [r.route for r in session.predict_batch(pictures(2))] == [r.route for r in session.predict(pictures(2))]
