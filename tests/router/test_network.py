"""The router: canonical input, Eq. 3, calibration, construction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.photo import router_images_of
from dualres_plugin.common.resize import make_thumbnails
from dualres_plugin.common.types import RouterImages
from dualres_plugin.router.config import RouterConfig
from dualres_plugin.router.network import ResolutionRouter
from tests.fakes import photo
from tests.router.helpers import loud, tiny

# -- input ------------------------------------------------------


def test_padding_never_reaches_the_router() -> None:
    picture = router_images_of([photo(1)])
    padded = torch.full((1, 3, 100, 120), 114 / 255)
    padded[0, :, 20:68, 30:94] = picture.images[0]
    router = tiny()
    inside = RouterImages(padded, [(30, 20, 94, 68)])
    assert torch.equal(router.score(inside), router.score(picture))
    assert not torch.equal(router.score(RouterImages(padded, [(0, 0, 120, 100)])), router.score(picture))


def test_an_empty_batch_has_no_scores() -> None:
    empty = RouterImages(torch.zeros(0, 3, 64, 64), [])
    assert tiny().score(empty).shape == (0,)
    assert tiny().decide(empty, 0.0).rate == 0.0
    assert make_thumbnails(empty, 32).shape == (0, 3, 32, 32)


# -- score, route, calibration ------------------------------------------------------


def test_scores_do_not_depend_on_the_rest_of_the_batch_nor_on_the_mode() -> None:
    router = loud(tiny()).train()
    batch = router_images_of([photo(i) for i in range(4)])
    scores = router.score(batch)
    assert router.training, "scoring leaves the mode as it was"
    single = torch.cat([router.score(router_images_of([photo(i)])) for i in range(4)])
    assert torch.allclose(scores, single, atol=1e-4)
    assert not scores.requires_grad


def test_stored_thumbnails_score_as_the_photos_they_were_made_of() -> None:
    router = loud(tiny()).train()
    photos = [photo(i, (32, 32)) for i in range(5)]
    stored = torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2)
    scores = router.score_thumbnails(stored, batch=2)
    assert scores.shape == (5,) and not scores.requires_grad and router.training
    assert torch.allclose(scores, router.score(router_images_of(photos)), atol=1e-4)
    large = [photo(i, (64, 64)) for i in range(3)]
    larger = router.score_thumbnails(torch.from_numpy(np.stack(large)).permute(0, 3, 1, 2))
    assert torch.allclose(larger, router.score(router_images_of(large)), atol=1e-3), "shrunk with antialiasing"
    assert router.score_thumbnails(torch.zeros(0, 3, 32, 32, dtype=torch.uint8)).shape == (0,)


def test_high_is_strictly_above_the_threshold() -> None:
    router = loud(tiny())
    batch = router_images_of([photo(i) for i in range(5)])
    scores = router.score(batch)
    middle = float(scores.sort().values[2])
    decision = router.decide(batch, middle)
    assert decision.high.tolist() == [float(s) > middle for s in scores]
    assert int(decision.high.sum()) == 2
    assert decision.of(0).route == ("high" if decision.high[0] else "low")
    assert decision.of(0).score == float(scores[0])


ROUTER = tiny()


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=60), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_rate_never_has_a_higher_threshold(scores: list[float], a: float, b: float) -> None:
    ROUTER.calibrate(scores)
    less, more = sorted((a, b))
    assert ROUTER.threshold_for(less) >= ROUTER.threshold_for(more)


@given(st.integers(20, 300), st.floats(0, 1), st.integers(0, 50))
def test_the_calibrated_threshold_gives_the_wanted_rate(count: int, rate: float, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=count)
    ROUTER.calibrate(scores)
    got = float((scores > ROUTER.threshold_for(rate)).mean())
    assert abs(got - rate) <= 1 / count + 0.011  # quantiles are kept for every hundredth


def test_rates_0_and_1_are_exact_even_beyond_the_calibration_images_and_without_any() -> None:
    router = loud(tiny())
    batch = router_images_of([photo(i) for i in range(4)])
    assert not router.decide(batch, router.threshold_for(0.0)).high.any()
    assert router.decide(batch, router.threshold_for(1.0)).high.all()


@pytest.mark.parametrize("rate", [-0.01, 1.01, 50, float("nan")])
def test_impossible_rates(rate: float) -> None:
    router = tiny()
    router.calibrate([0.0, 1.0])
    with pytest.raises(DualResError, match="must lie between 0"):
        router.threshold_for(rate)


def test_a_rate_needs_calibration() -> None:
    with pytest.raises(DualResError, match="no calibration"):
        tiny().threshold_for(0.3)


@pytest.mark.parametrize("scores", [[], [0.0, float("nan")], [float("inf")]])
def test_calibration_needs_finite_scores(scores: list[float]) -> None:
    with pytest.raises(DualResError, match="finite scores"):
        tiny().calibrate(scores)


# -- construction ------------------------------------------------------


def test_the_papers_router_by_default() -> None:
    router = ResolutionRouter()
    assert router.config.backbone == "mobilenet_v3_large" and router.config.input_size == 128
    assert isinstance(router.head[0], nn.Linear) and len(router.head) == 1
    assert router.gmacs() == pytest.approx(0.071, abs=0.004)


def test_more_pixels_cost_more() -> None:
    costs = [tiny(input_size=size).gmacs() for size in (32, 64, 128)]
    assert 0 < costs[0] < costs[1] < costs[2]


def test_bad_settings_are_named() -> None:
    with pytest.raises(DualResError, match="input_sise"):
        ResolutionRouter(input_sise=64)
    with pytest.raises(DualResError, match="input_size=8 must be"):
        ResolutionRouter(input_size=8)
    with pytest.raises(DualResError, match="unknown router backbone 'mobilnet'"):
        ResolutionRouter(backbone="mobilnet")
    with pytest.raises(DualResError, match=r"no `.features`"):
        ResolutionRouter(backbone="resnet18")
    with pytest.raises(DualResError, match=r"'@N' takes 1 to 8"):
        ResolutionRouter(backbone="tiny@99")


def test_config_and_keywords_agree() -> None:
    config = RouterConfig(backbone="tiny", input_size=48)
    assert ResolutionRouter(config).config == tiny(input_size=48).config
    assert ResolutionRouter(config, input_size=64).config.input_size == 64


def test_scoring_and_counting_leave_frozen_parts_frozen() -> None:
    router = tiny().train()
    router.backbone.eval()
    router.score(RouterImages(torch.rand(1, 3, 40, 40), [(0, 0, 40, 40)]))
    router.gmacs()
    assert router.training and not any(part.training for part in router.backbone.modules())
