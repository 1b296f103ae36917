"""The realised share at high, its interval, and what is said where it is off target."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dualres_plugin.budget.share import off_target, routes_text, share_interval, share_text
from dualres_plugin.predict.summary import Summary


@pytest.mark.parametrize(
    ("high", "images", "expected"),
    [
        (19, 60, (0.213, 0.442)),
        (0, 10, (0.0, 0.278)),
        (10, 10, (0.722, 1.0)),
        (0, 0, (0.0, 1.0)),
        (5, 10, (0.237, 0.763)),
    ],
)
def test_wilsons_interval(high: int, images: int, expected: tuple[float, float]) -> None:
    assert share_interval(high, images) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5])
def test_the_interval_holds_the_true_share_about_as_often_as_it_says(share: float) -> None:
    rng = np.random.default_rng(0)
    misses = sum(off_target(share, int(high), 60) for high in rng.binomial(60, share, 2000))
    assert 0.02 < misses / 2000 < 0.08


def test_the_exact_ends_are_never_off() -> None:
    assert not off_target(1.0, 7, 7) and not off_target(0.0, 0, 7)
    assert off_target(1.0, 6, 60) and off_target(0.5, 19, 60) and not off_target(0.5, 3, 4)


def summary(high: int, shares: tuple[float, ...] | None = (0.5, 0.5), held: bool = False) -> Summary:
    """Of 60 images."""
    return Summary(Path("out"), shares, held, Counter(high=high, low=60 - high), high)


def test_a_run_tells_target_share_and_what_to_do() -> None:
    assert share_text(19, 60) == "60 images, 19 at high (31.7%), 95 % interval 21% to 44%"
    off = str(summary(19))
    assert "95 % interval 21% to 44%, target 50%; results in out\n" in off and "dualres swap" in off and "--hold" in off
    for fine in (summary(28), summary(19, held=True), summary(19, shares=None)):
        assert "\n" not in str(fine) and not fine.hint


def test_several_sizes_are_counted_by_name() -> None:
    text = str(Summary(Path("out"), (0.3, 0.3, 0.4), routes=Counter({"512": 3, "448": 4, "640": 3}), high=3))
    assert text == "10 images: 640 px 3 (30%), 512 px 3 (30%), 448 px 4 (40%), target 30% / 30% / 40%; results in out"
    assert routes_text(Counter()) == "no images"
