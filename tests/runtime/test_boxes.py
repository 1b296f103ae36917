"""Boxes out: NMS and both layouts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dualres_plugin.common.card import Postprocess
from dualres_plugin.runtime.boxes import nms, select


@given(st.integers(0, 10**6), st.integers(0, 60), st.sampled_from([0.3, 0.5, 0.7]))
def test_nms_is_torchvisions(seed: int, count: int, iou: float) -> None:
    from torchvision.ops import nms as reference

    random = np.random.default_rng(seed)
    corner, side = random.uniform(0, 50, (count, 2)), random.uniform(0, 40, (count, 2))
    boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
    scores = random.permutation(count).astype(np.float32)
    expected = reference(torch.from_numpy(boxes), torch.from_numpy(scores), iou).numpy()
    assert nms(boxes, scores, iou, 10**6).tolist() == expected.tolist()
    assert nms(boxes, scores, iou, 5).tolist() == expected[:5].tolist()


def test_select_reads_both_layouts() -> None:
    anchors = np.zeros((1, 6, 3), np.float32)  # two classes
    anchors[0, :4] = np.array([[10, 10, 4, 4], [10, 10, 4, 4], [50, 50, 8, 2]]).T
    anchors[0, 4:] = np.array([[0.9, 0.2], [0.1, 0.8], [0.3, 0.6]]).T
    boxes, scores, labels = select(anchors, Postprocess(), 0.25, 0.7)
    assert scores.tolist() == pytest.approx([0.9, 0.8, 0.6]) and labels.tolist() == [0, 1, 1]
    assert boxes[0].tolist() == [8, 8, 12, 12] and boxes[2].tolist() == [46, 49, 54, 51]
    many = select(anchors, Postprocess(multi_label=True), 0.25, 0.7)
    assert many[2].tolist() == [0, 1, 1, 0]
    rows = np.array(
        [[[0, 0, 2, 2, 0.9, 3], [0, 0, 2, 2, 0.8, 3], [5, 5, 5, 9, 0.7, 1], [0, 0, 0, 0, 0, 0]]], np.float32
    )
    assert select(rows, Postprocess(layout="rows", nms=False), 0.0, 0.5)[2].tolist() == [3, 3, 1]
    assert select(rows, Postprocess(layout="rows"), 0.0, 0.5)[2].tolist() == [3, 1]
    assert select(rows, Postprocess(layout="rows", drop_empty=True), 0.0, 0.5)[2].tolist() == [3]
    assert select(rows, Postprocess(layout="rows"), 0.95, 0.5)[0].shape == (0, 4)
    assert select(rows, Postprocess(layout="rows"), 0.0, 0.5, (0, 0, 1, 1))[0].max() == 1
