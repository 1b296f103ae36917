"""Right and wrong boxes."""

from __future__ import annotations

import numpy as np

from dualres_plugin.common.types import Detections, Targets
from dualres_plugin.evaluate.report.matching import NEUTRAL, RIGHT, WRONG, judge


def test_boxes_are_judged_as_coco_would() -> None:
    targets = Targets(
        np.array([[0, 0, 10, 10], [50, 50, 60, 60], [100, 100, 200, 200]], np.float32),
        np.array([1, 1, 1]),
        np.array([False, False, True]),
    )
    boxes = [[0, 0, 10, 9], [0, 0, 10, 10], [50, 50, 60, 60], [50, 50, 60, 52], [110, 110, 130, 130]]
    found = Detections.from_arrays(boxes, [0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 2, 1, 1])
    verdicts, seen = judge(found, targets)
    # right; the same object again; another class; too little overlap; inside the crowd
    assert verdicts.tolist() == [RIGHT, WRONG, WRONG, WRONG, NEUTRAL]
    assert seen.tolist() == [True, False, False]


def test_nothing_to_judge() -> None:
    none, some = Detections.empty(), Detections.from_arrays([[0, 0, 5, 5]], [0.5], [1])
    targets = Targets(np.array([[0, 0, 5, 5]], np.float32), np.array([1]))
    nothing = Targets(np.zeros((0, 4), np.float32), np.zeros(0, int))
    assert judge(none, targets)[1].tolist() == [False]
    assert judge(some, nothing)[0].tolist() == [WRONG]
