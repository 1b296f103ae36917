"""Frames per second, held by times measured while running: with a clock that the test moves."""

from __future__ import annotations

import json
import logging
import math

import numpy as np
import pytest

from dualres_plugin.budget.pace import PacedController
from dualres_plugin.common.errors import DualResError

QUANTILES = np.quantile(np.random.default_rng(0).normal(size=2000), np.linspace(0, 1, 101)).tolist()


class Machine:
    """Runs frames of a stream at what a controller decides; its clock is the test's.

    Args:
        controller: made with `self.clock`.
        times: ms at each size, largest first.
        noise: relative deviation of every time.
    """

    def __init__(self, fps: float, times: tuple[float, ...], noise: float = 0.1, seed: int = 0, **options: int):
        self.now = 0.0
        self.rng = np.random.default_rng(seed)
        self.times, self.noise, self.slow = times, noise, 1.0
        self.controller = PacedController(fps, QUANTILES, len(times), clock=lambda: self.now, **options)

    def run(self, frames: int, shift: float = 0.0, skip: float = 0.0, score: float | None = None) -> float:
        """Frames per second that come out."""
        begun = self.now
        for _ in range(frames):
            self.controller.arrive(1)
            if self.rng.random() < skip:
                self.controller.skip()
                self.spend(2.0)
                continue
            value = float(self.rng.normal(shift)) if score is None else score
            self.spend(self.times[self.controller.step(value)])
        return frames / (self.now - begun)

    def spend(self, ms: float) -> None:
        self.now += self.slow * ms * self.rng.lognormal(0, self.noise) / 1000


@pytest.mark.parametrize("fps", [12.0, 20.0, 30.0])
def test_the_rate_is_held_where_the_machine_becomes_slower_and_recovers(fps: float) -> None:
    machine = Machine(fps, (60, 15))
    machine.run(100)
    for slow, shift in [(1.0, 0.0), (1.3, 1.0), (2.0, -1.0), (1.0, 2.0)]:
        machine.slow = slow
        machine.run(60, shift)  # it has to notice first
        wanted = min(fps, 1000 / (15 * slow * 1.005))
        rate = machine.run(400, shift)
        if fps > 1000 / (60 * slow):
            assert rate == pytest.approx(wanted, rel=0.03), (slow, shift)
        else:
            assert rate > fps and machine.controller.pace.level == 1


def test_it_does_not_swing(caplog: pytest.LogCaptureFixture) -> None:
    """After a step of the machine's speed, the rate of each second settles and stays; a fixed share would miss it."""
    machine = Machine(25, (60, 15))
    machine.run(300)
    machine.slow = 1.6
    machine.run(150)  # it notices, and pays back what was overspent meanwhile
    seconds = [machine.run(50) for _ in range(12)]
    assert all(rate == pytest.approx(25, rel=0.12) for rate in seconds), seconds
    assert np.mean(seconds) == pytest.approx(25, rel=0.03)
    assert not caplog.records


def test_one_pause_is_forgotten_within_a_window() -> None:
    machine = Machine(20, (60, 15))
    machine.run(200)
    before = machine.controller.pace
    machine.now += 30.0
    machine.run(1)
    assert machine.controller.pace.owed_ms >= -machine.controller.window * 60
    machine.run(100)
    after = machine.controller.pace
    assert after.times_ms == pytest.approx(before.times_ms, rel=0.15)
    assert machine.run(200) == pytest.approx(20, rel=0.04)


def test_the_same_score_all_along_does_not_fool_it() -> None:
    machine = Machine(20, (60, 15))
    machine.run(200)
    assert machine.run(300, score=0.5) == pytest.approx(20, rel=0.06)


def test_what_skipped_frames_leave_over_goes_to_the_others() -> None:
    rates = {}
    for skip in (0.0, 0.3):
        machine = Machine(25, (60, 15))
        machine.run(150, skip=skip)
        high = machine.controller.state.high
        assert machine.run(600, skip=skip) == pytest.approx(25, rel=0.03)
        rates[skip] = machine.controller.state.high - high
        assert math.isnan(machine.controller.pace.skip_ms) == (skip == 0)
    assert rates[0.3] > 1.08 * rates[0.0]


def test_several_sizes() -> None:
    machine = Machine(25, (60, 40, 15))
    machine.run(200)
    assert machine.run(500) == pytest.approx(25, rel=0.03)
    machine.slow = 1.5
    machine.run(80)
    assert machine.run(500) == pytest.approx(25, rel=0.03)
    assert all(machine.controller.state.counts) and len(machine.controller.pace.times_ms) == 3


def test_what_cannot_be_held_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine(100, (60, 15))
    with caplog.at_level(logging.WARNING):
        machine.run(300)
    assert len(caplog.records) == 1 and "100 frames a second cannot be held" in caplog.text
    assert machine.controller.pace.missed and machine.controller.pace.level == 0
    assert machine.controller.state.recent_rate == 0, "all at the smallest size"


def test_more_time_than_all_high_needs() -> None:
    machine = Machine(5, (60, 15))
    machine.run(200)
    assert machine.controller.pace.level == 1 and machine.controller.state.recent_rate == 1


def test_sizes_that_take_the_same_time() -> None:
    """As on a GPU that waits for the CPU: nothing is saved by going low, and nothing breaks."""
    machine = Machine(20, (30, 30))
    assert machine.run(300) == pytest.approx(1000 / 30, rel=0.05)
    machine = Machine(50, (30, 30))
    assert machine.run(300) == pytest.approx(1000 / 30, rel=0.05)


def test_each_size_is_timed_first_and_its_first_frame_does_not_count() -> None:
    controller = PacedController(20, QUANTILES, clock=iter([0.0, 5.0, 5.05, 5.1]).__next__)
    steps = []
    for score in (-9.0, -9.0, 9.0, 9.0):
        controller.arrive(1)
        steps.append(controller.step(score))
    assert steps == [0, 0, 1, 1], "whatever the scores"
    assert controller.pace.times_ms[1] != controller.pace.times_ms[1], "low has not run"
    assert controller.pace.recent_fps == pytest.approx(20) and controller.pace.owed_ms == pytest.approx(0)


def test_it_is_saved_and_goes_on_with_the_same_decisions() -> None:
    scores = np.random.default_rng(5).normal(size=200)
    first, second = Machine(25, (60, 15), noise=0.0), Machine(25, (60, 15), noise=0.0)
    first.run(150)
    second.controller.resume(json.loads(json.dumps(first.controller.saved())))
    second.now = 9999.0  # another process, later
    first.controller.resume(first.controller.saved())  # a new process has no frame under way, and warms up
    for score in scores:
        first.run(1, score=float(score))
        second.run(1, score=float(score))
        ours, theirs = first.controller.state, second.controller.state
        assert ours.counts == theirs.counts and ours.threshold == pytest.approx(theirs.threshold, abs=1e-9)
        assert first.controller.pace.times_ms == pytest.approx(second.controller.pace.times_ms, abs=1e-6)
    assert {"fps", "times_ms", "threshold"} <= first.controller.to_dict().keys()
    for wrong in ({}, {**first.controller.saved(), "taken": {"0": [1.0]}}, {**first.controller.saved(), "owed": None}):
        with pytest.raises(DualResError, match="held frame rate"):
            second.controller.resume(wrong)


def test_what_makes_no_sense_is_refused() -> None:
    for fps in (0, -1, math.nan, math.inf):
        with pytest.raises(DualResError, match="fps"):
            PacedController(fps, QUANTILES)
    with pytest.raises(DualResError, match=r"4 images at once.*batch=1"):
        PacedController(20, QUANTILES).arrive(4)
    with pytest.raises(DualResError, match="calibrated router"):
        PacedController(20, [])
