"""The realised share at high, its interval, and what is said where it is off target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dualres_plugin.budget.share import off_target, share_interval, share_text
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


def test_a_run_tells_target_share_and_what_to_do() -> None:
    assert share_text(19, 60) == "60 images, 19 at high (31.7%), 95 % interval 21% to 44%"
    off = str(Summary(Path("out"), 0.5, images=60, high=19))
    assert "95 % interval 21% to 44%, target 50%; results in out\n" in off and "dualres swap" in off and "--hold" in off
    for summary in (
        Summary(Path("out"), 0.5, images=60, high=28),
        Summary(Path("out"), 0.5, held=True, images=60, high=19),
        Summary(Path("out"), None, images=60, high=19),
    ):
        assert "\n" not in str(summary) and not summary.hint
