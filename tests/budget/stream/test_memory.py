"""What one stream remembers, forgets at a cut, measures and keeps."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dualres_plugin.budget.stream import cuts
from dualres_plugin.budget.stream.features import NAMES, OLDEST
from dualres_plugin.budget.stream.memory import StreamMemory
from dualres_plugin.common.errors import DualResError
from tests.fakes import photo

SCENE, OTHER = (cuts.sketch(photo(seed, (180, 320))) for seed in (0, 1))
NOTHING = np.zeros((0, 4)), np.zeros(0), np.zeros(0)
BOX = np.array([[0.1, 0.1, 0.3, 0.3]]), np.array([0.8]), np.array([2])


def feature(memory: StreamMemory, name: str) -> float:
    return float(memory.features()[NAMES.index(name)])


def test_sketches_do_not_depend_on_size_or_type_and_a_lamp_is_no_cut() -> None:
    picture = photo(0, (180, 320))
    assert np.allclose(cuts.sketch(picture), cuts.sketch(picture / 255.0), atol=1e-6)
    assert cuts.change(cuts.sketch(picture), cuts.sketch(photo(0, (360, 640)))) < 0.01
    assert cuts.sketch(photo(0, (8, 8))).shape == cuts.GRID
    assert cuts.is_cut(SCENE, OTHER)
    assert not cuts.is_cut(SCENE, SCENE * 0.5 + 0.3)
    black = np.zeros(cuts.GRID, np.float32)
    assert cuts.is_cut(SCENE, black) and not cuts.is_cut(black, black)


def test_what_is_small_and_comes_in_stirs_a_cell() -> None:
    picture = photo(0, (360, 640))
    before = cuts.sketch(picture)
    picture[100:130, 200:230] = 255 - picture[100:130, 200:230]
    after = cuts.sketch(picture)
    assert cuts.change(before, after) < 0.01 < 0.06 < cuts.stir(before, after)


def test_the_first_frame_and_a_cut_know_nothing() -> None:
    memory = StreamMemory()
    assert memory.arrive(SCENE) and not memory.known
    memory.saw(0, *BOX)
    assert not memory.arrive(SCENE) and memory.known
    assert memory.arrive(OTHER) and not memory.known and memory.last is None
    assert not memory.features()[:-1].any(), "all but the change of the picture"


def test_features_tell_of_the_last_boxes() -> None:
    memory = StreamMemory()
    memory.arrive(SCENE)
    memory.saw(1, *BOX)
    memory.arrive(SCENE)
    assert feature(memory, "low_present") == 1 and feature(memory, "high_present") == 0
    assert feature(memory, "low_sure_large") == pytest.approx(np.log(2))
    assert feature(memory, "low_smallest_sure") == pytest.approx(-np.log(0.2))
    assert feature(memory, "low_doubt") == pytest.approx(np.sqrt(0.16))
    assert feature(memory, "low_age") == pytest.approx(1 / OLDEST)
    assert feature(memory, "compared") == 0


def test_low_beside_high_measures_what_low_loses() -> None:
    memory = StreamMemory()
    memory.arrive(SCENE)
    memory.saw(0, *BOX)
    memory.arrive(SCENE)
    memory.saw(1, *NOTHING)
    assert memory.lost == pytest.approx(np.sqrt(0.8)), "all of it"
    memory.arrive(SCENE)
    memory.saw(1, *BOX)
    assert memory.lost == pytest.approx(0.0, abs=1e-6), "none of it"
    memory.arrive(SCENE)
    assert feature(memory, "lost_age") == pytest.approx(1 / OLDEST)


def test_sizes_seen_too_far_apart_are_not_compared_and_the_old_is_forgotten() -> None:
    memory = StreamMemory()
    memory.arrive(SCENE)
    memory.saw(0, *BOX)
    for _ in range(OLDEST + 1):
        memory.arrive(SCENE)
        memory.skipped()
        assert memory.lost is None
    assert not memory.known


def test_the_memory_survives_a_restart() -> None:
    memory = StreamMemory()
    for step in (0, 1, 1):
        memory.arrive(SCENE)
        memory.saw(step, BOX[0] + 0.01 * step, *BOX[1:], score=0.5)
    again = StreamMemory.from_dict(json.loads(json.dumps(memory.to_dict())))
    for one in (memory, again):
        one.arrive(SCENE * 0.9)
    assert np.array_equal(memory.features(), again.features())
    assert np.array_equal(memory.recalled().boxes, again.recalled().boxes)
    assert again.score == 0.5


@pytest.mark.parametrize(
    "change", [{"sketch": [[0.0]]}, {"more": 1}, {"high": {"age": 1}}, {"high": {"boxes": [[0, 0, 1, 1]]}}]
)
def test_what_is_no_memory_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(DualResError, match="no saved memory"):
        StreamMemory.from_dict({**StreamMemory().to_dict(), **change})
