"""Photos in: the letterbox, and what is no photo."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualres_plugin.common.card import Card, Postprocess, Preprocess
from dualres_plugin.common.errors import DualResError
from dualres_plugin.runtime.photo import letterbox_sizes, make_frame, resize
from tests.fakes import photo

CARD = Card("cond", "ultralytics", 640, 0.5, 32, 0.25, "0.1", Preprocess(multiple=32), Postprocess())


@given(st.integers(1, 2000), st.integers(1, 2000), st.sampled_from([320, 640]), st.sampled_from([0, 32]))
def test_letterbox_keeps_the_photo_inside_and_pads_to_the_stride(h: int, w: int, size: int, multiple: int) -> None:
    inner, outer, (x, y) = letterbox_sizes((h, w), size, Preprocess(multiple=multiple))
    assert max(inner) == size and all(i <= o <= size for i, o in zip(inner, outer))
    assert outer == (size, size) if not multiple else all(o % multiple == 0 for o in outer)
    assert 0 <= x <= outer[1] - inner[1] and 0 <= y <= outer[0] - inner[0]


def test_a_photo_of_the_right_size_is_not_touched() -> None:
    picture = photo(0, (480, 640))
    frame = make_frame(picture, CARD)
    assert frame.images.shape == (1, 3, 480, 640) and frame.content == (0, 0, 640, 480)
    assert np.array_equal(np.rint(frame.images[0] * 255).astype(np.uint8), picture.transpose(2, 0, 1))


@given(st.integers(20, 900), st.integers(20, 900))
def test_boxes_come_back_to_the_photo(h: int, w: int) -> None:
    frame = make_frame(np.zeros((h, w, 3), np.uint8), replace(CARD, high=320))
    x0, y0, x1, y1 = frame.content
    whole = frame.to_original(np.array([[x0, y0, x1, y1]], np.float32))
    assert np.allclose(whole, [[0, 0, w, h]], atol=0.01)


def test_without_opencv_a_photo_differs_by_one_grey_level_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    cv2 = pytest.importorskip("cv2")
    picture = photo(1, (97, 131))
    for size in [(64, 80), (97, 200), (200, 131)]:
        expected = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_LINEAR)
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "cv2", None)
            own = resize(picture, size)
        assert np.abs(own.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8), "no"]
)
def test_what_is_no_photo_is_refused(bad: Any) -> None:
    with pytest.raises(DualResError, match="an image must"):
        make_frame(bad, CARD)
    with pytest.raises(DualResError, match="uint8"):
        make_frame(np.zeros((4, 4, 3), np.float32), CARD)
