"""The low input: its size, its pixels, and the way back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.photo import router_images_of
from dualres_plugin.common.resize import (
    LowSize,
    axis_ratio,
    check_scale,
    low_size,
    make_thumbnails,
    resize_images,
    scale_boxes,
    to_unit,
)
from tests.fakes import photo

sides = st.integers(1, 2000)
scales = st.floats(0.05, 0.99)
strides = st.sampled_from([1, 8, 16, 32, 64, 128])


def test_known_sizes() -> None:
    assert low_size((480, 640), 0.5, 32) == (256, 320)  # 240 is no multiple of 32
    assert low_size((640, 640), 0.5, 32) == (320, 320)
    assert low_size((640, 640), 0.55, 32) == (352, 352)  # 640 * .55 = 352.00000000000006
    assert low_size((768, 768), 640 / 768, 128) == (640, 640)


@given(sides, sides, scales, strides)
def test_low_size_is_the_least_multiple_of_the_stride_that_holds_the_scaled_side(
    h: int, w: int, scale: float, stride: int
) -> None:
    for side, low in zip((h, w), low_size((h, w), scale, stride)):
        assert low % stride == 0 and low >= stride
        assert low >= side * scale - 1e-6 * side
        assert low - stride < side * scale or low == stride
        assert low <= math.ceil(side / stride) * stride


@given(sides, scales, scales, strides)
def test_low_size_grows_with_the_scale(side: int, a: float, b: float, stride: int) -> None:
    small, large = sorted((a, b))
    assert low_size((side, side), small, stride) <= low_size((side, side), large, stride)


@given(st.integers(32, 900), st.integers(32, 900), scales)
def test_boxes_come_back_to_high_pixels(h: int, w: int, scale: float) -> None:
    high, low = (h, w), low_size((h, w), scale, 32)
    down, up = axis_ratio(low, high), axis_ratio(high, low)
    boxes = torch.tensor([[0.0, 0.0, w, h], [w / 4, h / 3, w / 2, h / 2]])
    shrunk = scale_boxes(boxes, down)
    assert torch.allclose(shrunk[0], torch.tensor([0.0, 0.0, low[1], low[0]]), rtol=1e-5)
    assert torch.allclose(scale_boxes(shrunk, up), boxes, rtol=1e-4, atol=1e-3)


def test_antialiasing_averages_what_shrinks_into_one_pixel() -> None:
    lines = torch.zeros(1, 1, 8, 8)
    lines[..., ::2] = 1.0
    smooth = resize_images(lines, (8, 2), antialias=True)
    assert (smooth - 0.5).abs().max() < 0.08
    sparse = torch.zeros(1, 1, 16, 16)
    sparse[..., 0] = 1.0
    kept = resize_images(sparse, (16, 4), antialias=True).mean()
    lost = resize_images(sparse, (16, 4), antialias=False).mean()
    assert kept > 0 and lost == 0


def test_the_same_size_is_the_same_tensor() -> None:
    images = torch.rand(2, 3, 32, 64)
    assert resize_images(images, (32, 64)) is images


@pytest.mark.parametrize("scale", [0.0, 1.0, 1.5, -0.5, float("nan")])
def test_a_scale_outside_0_to_1_is_refused(scale: float) -> None:
    with pytest.raises(DualResError, match="must be smaller than the high size"):
        check_scale(scale)


def test_thumbnails_match_what_an_image_library_makes() -> None:
    picture = photo(2, (120, 90))
    expected = np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.BILINEAR))
    made = make_thumbnails(router_images_of([picture]), 32)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(made - expected).max() < 1.5


def test_thumbnails_of_different_shapes_share_a_batch_and_stay_in_range() -> None:
    pictures = [photo(i, size) for i, size in enumerate([(40, 64), (64, 40), (1, 50), (17, 17)])]
    made = make_thumbnails(router_images_of(pictures), 24)
    assert made.shape == (4, 3, 24, 24)
    assert made.min() >= 0 and made.max() <= 1
    one_by_one = torch.cat([make_thumbnails(router_images_of([p]), 24) for p in pictures])
    assert torch.equal(made, one_by_one)


def test_pixels_become_floats_from_0_to_1() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_unit(pixels), pixels.float() / 255) and to_unit(pixels).dtype == torch.float32
    already = torch.tensor([0.0, 255.0])
    assert to_unit(already).tolist() == [0.0, 1.0] and already.tolist() == [0.0, 255.0], "its argument stays as it is"


def test_a_thumbnail_of_its_own_size_is_the_photo() -> None:
    images = router_images_of([photo(3, (24, 24))])
    assert torch.equal(make_thumbnails(images, 24)[0], images.images[0])


def test_a_low_size_in_pixels_is_that_size_at_any_high_size() -> None:
    low = LowSize.of(320, 640)
    assert (low.ratio, low.at(None), low.at(640), low.at(960), str(low)) == (0.5, 0.5, 0.5, 1 / 3, "320 px")
    ratio = LowSize.of(0.5, 640)
    assert (ratio.at(960), ratio.at(None), str(ratio)) == (0.5, 0.5, "0.5") and LowSize.of(low, 100) is low
    for high in (320, 319):
        with pytest.raises(DualResError, match=f"low=320: the low size must be smaller .* {high} pixels here"):
            low.at(high)
    for wrong in (640, 1e9, math.inf, math.nan, 0, 1, -3):
        with pytest.raises(DualResError, match="must be smaller than the high size"):
            LowSize.of(wrong, 640)
