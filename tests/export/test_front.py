"""Sizes that are computed in the graph."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dualres_plugin.common.resize import low_size


@given(st.integers(1, 80), st.integers(1, 80), st.sampled_from([0.25, 0.5, 0.55, 0.75, 320 / 608, 416 / 640, 1 / 3]))
def test_the_low_size_in_the_graph_is_that_of_resize(h: int, w: int, scale: float) -> None:
    from dualres_plugin.export.front import ROUND_UP_SLACK

    sides = np.array([h, w], np.float32)  # in strides; the graph computes in float32
    low = np.ceil(sides * np.float32(scale) - np.float32(ROUND_UP_SLACK)).astype(int) * 32
    assert tuple(np.maximum(low, 32)) == low_size((32 * h, 32 * w), scale, 32)
