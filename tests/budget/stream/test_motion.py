"""Matched boxes, and where they go."""

from __future__ import annotations

import numpy as np

from dualres_plugin.budget.stream.motion import Objects, follow, iou, pairs
from dualres_plugin.profile.gains import iou_matrix


def objects(*boxes: tuple[float, float, float, float], labels: tuple[int, ...] | None = None) -> Objects:
    scores = np.linspace(0.9, 0.5, len(boxes))
    return Objects.still(np.array(boxes), scores, np.array(labels or [0] * len(boxes)))


def test_the_overlap_is_that_of_profiles() -> None:
    rng = np.random.default_rng(0)
    a, b = (np.sort(rng.random((n, 2, 2)), axis=1).reshape(n, 4).astype(np.float32) for n in (7, 5))
    assert np.allclose(iou(a, b), iou_matrix(a, b), atol=1e-6)
    assert iou(np.zeros((1, 4)), np.zeros((1, 4))).item() == 0


def test_only_boxes_of_one_class_are_the_same_object_and_each_once() -> None:
    before = objects((0.1, 0.1, 0.3, 0.3), (0.1, 0.1, 0.29, 0.3), labels=(1, 1))
    rows, columns = pairs(before, objects((0.1, 0.1, 0.3, 0.3), labels=(2,)))
    assert not len(rows)
    rows, columns = pairs(before, objects((0.1, 0.1, 0.3, 0.3), labels=(1,)))
    assert rows.tolist() == [0] and columns.tolist() == [0], "the better of the two"


def test_a_box_that_goes_at_constant_velocity_is_where_it_should_be() -> None:
    seen = objects((0.1, 0.2, 0.3, 0.5))
    for number in range(1, 4):
        step = 0.02 * number
        seen = follow(seen, objects((0.1 + step, 0.2 + step, 0.3 + step, 0.5 + step)), 1)
    assert np.allclose(seen.moved(2).boxes, [[0.2, 0.3, 0.4, 0.6]], atol=6e-3)


def test_frames_between_two_looks_are_counted() -> None:
    seen = follow(objects((0.1, 0.1, 0.3, 0.3)), objects((0.16, 0.1, 0.36, 0.3)), 3)
    assert np.allclose(seen.velocity, [[0.01, 0, 0.01, 0]], atol=1e-6), "half of 0.02 is believed at once"


def test_a_new_box_goes_with_the_others() -> None:
    before = objects((0.1, 0.1, 0.3, 0.3), (0.6, 0.6, 0.8, 0.8))
    found = objects((0.11, 0.1, 0.31, 0.3), (0.61, 0.6, 0.81, 0.8), (0.4, 0.1, 0.5, 0.2))
    assert np.allclose(follow(before, found, 1).velocity, 3 * [[0.005, 0, 0.005, 0]], atol=1e-6)


def test_what_leaves_the_frame_is_gone() -> None:
    seen = follow(objects((0.7, 0.1, 0.9, 0.3)), objects((0.8, 0.1, 1.0, 0.3)), 1)
    assert np.allclose(seen.moved(3).boxes, [[0.95, 0.1, 1, 0.3]], atol=1e-6)
    assert not len(seen.moved(4))
