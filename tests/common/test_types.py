"""Small types."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dualres_plugin.common.types import Detections, Targets


@given(st.lists(st.floats(0, 1, width=32), max_size=30), st.one_of(st.none(), st.integers(0, 10)))
def test_detections_are_sorted_stably_and_cut(scores: list[float], limit: int | None) -> None:
    boxes = np.arange(4 * len(scores)).reshape(-1, 4)
    made = Detections.from_arrays(boxes, scores, np.arange(len(scores)), limit)
    expected = sorted(range(len(scores)), key=lambda i: -np.float32(scores[i]))[:limit]
    assert made.labels.tolist() == expected
    assert made.boxes.shape == (len(expected), 4) and made.boxes.dtype == np.float32
    assert np.array_equal(made.boxes, boxes[expected])


def test_targets_that_a_loss_can_use() -> None:
    targets = Targets(np.zeros((4, 4)), np.array([0, -1, 3, 2]), np.array([False, False, True, False]))
    assert targets.trainable.labels.tolist() == [0, 2]
    assert not Targets(np.zeros((2, 4)), np.array([0, 1])).ignore.any()
