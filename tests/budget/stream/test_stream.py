"""Decisions about one stream: skipping where nothing stirs, no flicker, and the head."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualres_plugin.budget.controller import BudgetController
from dualres_plugin.budget.ladder import step_of
from dualres_plugin.budget.stream.features import NAMES
from dualres_plugin.budget.stream.head import StreamHead
from dualres_plugin.budget.stream.memory import StreamMemory
from dualres_plugin.budget.stream.stream import Stream, StreamOptions, steady
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.shipped import SHIPPED
from tests.budget.stream.test_memory import BOX, SCENE
from tests.fakes import photo

QUANTILES = [0.0, 1.0, 2.0, 3.0, 4.0]


def head(**change: Any) -> StreamHead:
    zeros = [0.0] * (1 + len(NAMES))
    values = {"first": [2.0, 1.0], "one": zeros, "one_bias": 0.25, "both": zeros, "both_bias": 0.5}
    return StreamHead(**{**values, "score_quantiles": QUANTILES, **change})


def run(stream: Stream, picture: np.ndarray, step: int = 0) -> bool:
    """One frame; whether it was skipped."""
    stream.arrive(picture)
    if stream.may_skip:
        stream.skip()
        return True
    stream.memory.saw(step, *BOX)
    return False


def test_a_still_scene_is_skipped_but_never_more_than_asked_in_a_row() -> None:
    stream = Stream(StreamOptions(skip=2), QUANTILES)
    assert [run(stream, photo(0)) for _ in range(9)] == [False, False, True, True, False, True, True, False, True]


def test_without_skip_every_frame_runs() -> None:
    stream = Stream(StreamOptions(), QUANTILES)
    assert not any(run(stream, photo(0)) for _ in range(9))


def test_what_stirs_runs_even_where_it_comes_little_by_little() -> None:
    stream = Stream(StreamOptions(skip=100), QUANTILES)
    shades = [np.full((90, 160, 3), 100, np.uint8) for _ in range(40)]
    for number, shade in enumerate(shades):
        shade[:, : 80 + number] = 130  # an edge that creeps on
    assert 0.2 < np.mean([run(stream, shade) for shade in shades]) < 0.9


def test_fast_objects_are_not_extrapolated() -> None:
    stream = Stream(StreamOptions(skip=5), QUANTILES)
    for number in range(4):
        stream.arrive(photo(0))
        assert not stream.may_skip
        stream.memory.saw(0, BOX[0] + 0.03 * number, *BOX[1:])


def test_a_cut_runs() -> None:
    stream = Stream(StreamOptions(skip=5), QUANTILES)
    for _ in range(3):
        run(stream, photo(0))
    assert stream.arrive(photo(7)) and not stream.may_skip


@given(
    score=st.floats(-3, 3),
    limits=st.lists(st.floats(-2, 2), min_size=1, max_size=3).map(lambda values: sorted(values, reverse=True)),
    last=st.integers(0, 3),
    margin=st.floats(0, 1),
)
def test_a_size_is_kept_within_the_margin_and_left_beyond(
    score: float, limits: list[float], last: int, margin: float
) -> None:
    kept = step_of(steady(score, limits, last, margin), limits)
    assert kept in (step_of(score, limits), last)
    assert step_of(steady(score, limits, None, margin), limits) == step_of(score, limits)
    if margin == 0:
        assert kept == step_of(score, limits)


def test_scores_that_tremble_about_the_threshold_do_not_flicker() -> None:
    stream = Stream(StreamOptions(hysteresis=0.2), QUANTILES)  # of a middle half that is 2 wide
    steps = []
    for number in range(20):
        stream.memory.arrive(SCENE)
        steps.append(stream.decide(2.0 + 0.3 * (-1) ** number, [2.0]))
        stream.memory.saw(steps[-1], *BOX)
    assert len(set(steps)) == 1
    stream.memory.arrive(SCENE)
    assert stream.decide(1.0, [2.0]) == 1, "clearly below"


def test_infinite_thresholds_are_exact() -> None:
    assert step_of(steady(5.0, [math.inf], 0, 1.0), [math.inf]) == 1
    assert step_of(steady(-5.0, [-math.inf], 1, 1.0), [-math.inf]) == 0


def test_the_controller_counts_what_is_skipped() -> None:
    stream, controller = Stream(StreamOptions(skip=1), QUANTILES), BudgetController(0.5, QUANTILES)
    stream.arrive(photo(0))
    stream.decide(5.0, controller.thresholds, controller)
    stream.memory.saw(0, *BOX)
    stream.arrive(photo(0))
    stream.skip(-0.5, controller)
    assert controller.state.images == 2 and controller.state.rate == pytest.approx(0.25)


@pytest.mark.parametrize("wrong", [{"skip": -1}, {"skip": 1.5}, {"hysteresis": 2}, {"still": float("nan")}])
def test_impossible_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DualResError, match=next(iter(wrong))):
        StreamOptions(**wrong)


def test_the_head_has_a_map_for_what_is_known() -> None:
    memory = StreamMemory()
    memory.arrive(SCENE)
    assert head().score(3.0, memory) == 7.0, "nothing: the thumbnail alone"
    memory.saw(0, *BOX)
    memory.arrive(SCENE)
    assert head().score(3.0, memory) == 0.25, "one size"
    memory.saw(1, *BOX)
    memory.arrive(SCENE)
    assert head().score(3.0, memory) == 0.5, "both"


def test_a_head_goes_through_its_file(tmp_path: Path) -> None:
    made = head(info={"clips": 3})
    path = made.save(tmp_path)
    assert StreamHead.load(tmp_path) == StreamHead.load(path) == made


@pytest.mark.parametrize("name", SHIPPED)
def test_a_router_that_ships_brings_a_head(name: str) -> None:
    shipped = StreamHead.load(name)
    assert len(shipped.score_quantiles) == 101 and shipped.info["spearman"] > shipped.info["spearman_of_thumbnail"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "router"}, "no stream head"),
        ({"features": ["a"]}, "other features"),
        ({"one": [0.0]}, "one"),
        ({"both_bias": "NaN"}, "both_bias"),
        ({"score_quantiles": [2.0, 1.0]}, "ascending"),
        ({"more": 1}, "more"),
    ],
)
def test_an_edited_head_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = head().save(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DualResError, match=said):
        StreamHead.load(tmp_path)


def test_a_router_without_a_head_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(DualResError, match="dualres train-stream"):
        StreamHead.load(tmp_path)
