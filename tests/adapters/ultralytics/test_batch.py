"""Letterboxed batches, and where the photo lies in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("ultralytics")

from dualres_plugin.adapters.ultralytics import UltralyticsAdapter
from dualres_plugin.adapters.ultralytics.batch import content_box
from tests.adapters.ultralytics.helpers import random_yolo
from tests.fakes import photo

QUIET = {"verbose": False}


def test_batches_are_letterboxed_as_predict_does_it() -> None:
    yolo = random_yolo()
    adapter = UltralyticsAdapter(yolo)
    taken: list[torch.Tensor] = []
    hook = None

    def remember(predictor: Any) -> None:
        nonlocal hook
        model = predictor.model.backend.model
        hook = model.register_forward_pre_hook(lambda module, args: taken.append(args[0].clone()))

    yolo.add_callback("on_predict_start", remember)
    for size in ((90, 120), (120, 90), (33, 200), (64, 64)):
        picture = photo(3, size)
        yolo.predict(picture[..., ::-1].copy(), imgsz=128, **QUIET)
        assert torch.allclose(adapter.collate([picture], 128).images, taken[-1], atol=1e-6)
        assert adapter.input_shape(size, 128) == tuple(taken[-1].shape[2:])


@settings(max_examples=40)
@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([64, 96, 128]), st.booleans(), st.integers(0, 20))
def test_the_border_is_found_whatever_the_shape(h: int, w: int, size: int, square: bool, seed: int) -> None:
    from ultralytics.data.augment import LetterBox

    box = LetterBox(size, auto=not square, stride=32)
    marker = np.full((h, w, 3), 200, np.uint8)
    seen = np.argwhere((box(image=marker) == 200).all(axis=2))
    (y0, x0), (y1, x1) = seen.min(axis=0), seen.max(axis=0) + 1
    picture = np.clip(photo(seed, (h, w)), 130, 255)
    tensor = torch.from_numpy(box(image=picture)).permute(2, 0, 1).float() / 255
    assert content_box(tensor) == (x0, y0, x1, y1)


@pytest.mark.parametrize("edge", ["top", "bottom", "left", "right", "all", "middle"])
def test_photos_with_grey_edges_of_their_own_keep_them(edge: str) -> None:
    """The letterbox pads both sides alike, so grey on one side more than on the other is the photo's."""
    from ultralytics.data.augment import LetterBox

    picture = np.clip(photo(5, (60, 100)), 130, 255)
    grey = {
        "top": np.s_[:20],
        "bottom": np.s_[-20:],
        "left": np.s_[:, :20],
        "right": np.s_[:, -20:],
        "all": np.s_[:],
        "middle": np.s_[20:30],
    }
    picture[grey[edge]] = 114
    tensor = torch.from_numpy(LetterBox(96, auto=False)(image=picture)).permute(2, 0, 1).float() / 255
    x0, y0, x1, y1 = content_box(tensor)
    if edge == "all":
        assert (x0, y0, x1, y1) == (0, 0, 96, 96)
    else:
        assert abs(x0) <= 1 and abs(x1 - 96) <= 1 and abs(y0 - 19) <= 1 and abs(y1 - 77) <= 1
