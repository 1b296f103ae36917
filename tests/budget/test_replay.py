"""A load through a queue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualres_plugin.budget.replay import Load, arrivals, largest_share, replay
from dualres_plugin.common.errors import DualResError

RNG = np.random.default_rng(0)


def load(when: np.ndarray, seed: int = 0) -> Load:
    rng = np.random.default_rng(seed)
    return Load(when, rng.normal(size=len(when)), np.column_stack([np.full(len(when), 40.0), np.full(len(when), 15.0)]))


def test_who_comes_first_is_served_first_and_the_others_wait() -> None:
    found = replay(load(np.array([0.0, 0.0, 0.01, 1.0])), np.array([0, 1, 1, 0]))
    assert found.latency == pytest.approx([40, 55, 60, 40])
    assert found.shares == (0.5, 0.5)
    assert found.late(50) == 0.5
    two = replay(load(np.array([0.0, 0.0, 0.01, 1.0])), np.array([0, 1, 1, 0]), lanes=2)
    assert two.latency == pytest.approx([40, 15, 20, 40])


def test_a_promise_makes_photos_smaller_where_others_wait() -> None:
    burst = load(np.array([0.0, 0.0, 0.0, 1.0]))
    found = replay(burst, np.zeros(4, dtype=int), limit=70)
    assert found.steps.tolist() == [0, 1, 1, 0]
    assert found.latency == pytest.approx([40, 55, 70, 40])


@given(st.integers(0, 99), st.sampled_from(["steady:15", "poisson:15", "bursts:15:4"]), st.floats(60, 400))
def test_a_promise_never_makes_a_photo_larger_nor_the_load_slower(seed: int, kind: str, limit: float) -> None:
    photos = load(arrivals(kind, 200, np.random.default_rng(seed)), seed)
    wanted = photos.steps((0.0,))
    plain, kept = replay(photos, wanted), replay(photos, wanted, limit=limit)
    assert (kept.steps >= wanted).all() and (kept.latency <= plain.latency + 1e-6).all()


def test_the_largest_share_that_keeps_a_limit() -> None:
    photos = load(arrivals("poisson:20", 1000, np.random.default_rng(1)))
    ordered = np.sort(photos.scores)

    def thresholds_at(share: float) -> list[float]:
        return [float(np.quantile(ordered, 1 - share))] if 0 < share < 1 else [-np.inf if share == 1 else np.inf]

    found = largest_share(photos, 80, thresholds_at)
    assert found is not None
    share, outcome = found
    assert 0 < share < 1 and outcome.quantile(0.95) <= 80
    assert replay(photos, photos.steps(thresholds_at(share + 0.01))).quantile(0.95) > 80
    assert largest_share(photos, 10, thresholds_at) is None


def test_arrivals_come_at_the_rate_that_is_asked_for(tmp_path: Path) -> None:
    assert arrivals("steady:20", 3, RNG) == pytest.approx([0, 0.05, 0.1])
    for kind in ("poisson:20", "bursts:20:8"):
        when = arrivals(kind, 20_000, RNG)
        assert len(when) == 20_000 and (np.diff(when) >= 0).all()
        assert len(when) / when[-1] == pytest.approx(20, rel=0.05)
    assert len(np.unique(arrivals("bursts:20:8", 80, RNG))) == 10
    log = tmp_path / "log.txt"
    log.write_text("3.5\n1\n2\n")
    assert arrivals(str(log), 99, RNG).tolist() == [1, 2, 3.5]


@pytest.mark.parametrize(
    "kind", ["", "steady", "steady:0", "steady:nan", "bursts:3", "bursts:3:0", "often:3", "poisson:1:2"]
)
def test_other_arrivals_are_refused_with_those_there_are(kind: str) -> None:
    with pytest.raises(DualResError, match="steady:RATE, poisson:RATE"):
        arrivals(kind, 3, RNG)


@pytest.mark.parametrize("text", ["", "one\n", "1\nnan\n"])
def test_a_log_without_times_is_refused(tmp_path: Path, text: str) -> None:
    log = tmp_path / "log.txt"
    log.write_text(text)
    with pytest.raises(DualResError, match=r"log\.txt"):
        arrivals(str(log), 3, RNG)
