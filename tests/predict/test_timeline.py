"""What a video's frames cost, over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dualres_plugin.budget.pace import PacedController
from dualres_plugin.common.card import SKIP, SKIPPED
from dualres_plugin.common.types import ImageDecision
from dualres_plugin.predict.timeline import Timeline
from tests.fakes import photo

HIGH = ImageDecision("high", 1.0, 0.0, 0, 640)
LOW = ImageDecision("low", -1.0, 0.0, 1, 320)
AGAIN = ImageDecision(SKIPPED, -1.0, 0.0, SKIP, None)
GREY = np.full((40, 60, 3), 128, np.uint8)


def test_the_cost_is_a_share_of_the_largest_size_even_where_no_frame_ran_at_it() -> None:
    line = Timeline(rate=1, largest=640)
    assert line.pixels == 0
    line.add(LOW, GREY)
    assert line.pixels == 0.25
    line.add(HIGH, GREY)
    assert line.pixels == pytest.approx(0.625)  # of the last two seconds
    line.add(AGAIN, GREY)
    line.add(AGAIN, GREY)
    assert line.pixels == 0 and len(line) == 4


def test_it_is_drawn(tmp_path: Path) -> None:
    line = Timeline(rate=5, largest=640)
    for route in [LOW] * 5 + [HIGH] * 5 + [AGAIN] * 5:
        line.add(route, GREY)
    line.save(tmp_path / "timeline.png")
    with Image.open(tmp_path / "timeline.png") as drawn:
        assert drawn.width > drawn.height > 300


def test_the_page_draws_what_was_noted() -> None:
    line = Timeline(rate=2, largest=640, budget=0.4)
    scenes = [photo(0)] * 3 + [photo(1)] * 3
    for route, pixels in zip([HIGH, LOW, AGAIN, HIGH, LOW, LOW], scenes):
        line.add(route, pixels)
    drawn = line.series()
    assert drawn["x"] == [0, 0.5, 1, 1.5, 2, 2.5] and drawn["step"] == [0, 1, SKIP, 0, 1, 1]
    assert drawn["cuts"] == [1.5] and drawn["budget"] == 0.4
    assert drawn["names"] == {"0": "high", "1": "low", str(SKIP): SKIPPED}
    assert np.isnan(drawn["score"][2]) and drawn["cost"][3] == pytest.approx((1 + 0.25 + 0 + 1) / 4)
    assert drawn["summary"] == "6 frames: 2 high, 3 low, 1 skip; 1 cuts; mean cost 46%, budget 40%."


def test_a_long_video_is_thinned_in_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualres_plugin.predict.timeline.MOST_OF_PAGE", 4)
    line = Timeline(rate=1, largest=640)
    for _ in range(10):
        line.add(LOW, GREY)
    assert line.series()["x"] == [0, 3, 6, 9] and "one frame in 3" in line.series()["summary"]


def test_where_frames_per_second_are_held_the_cost_is_in_ms(tmp_path: Path) -> None:
    times = [0.0, 0.5, 0.6, 0.7, 0.9]
    paced = PacedController(10, [-1.0, 1.0], clock=iter(times).__next__)
    line = Timeline(rate=1, largest=640, paced=paced)
    for route in (HIGH, HIGH, LOW, HIGH, LOW):
        paced.arrive(1)
        paced.step(route.score)
        line.add(route, GREY)
    assert line.cost.budget == 100 and line.cost.of[:4] == pytest.approx([500, 100, 100, 200])
    drawn = line.series()
    assert drawn["cost"] == pytest.approx([500, 300, 100, 150, 200]), "of the last two seconds that are known"
    assert "mean cost 225.0 ms, budget 100.0 ms" in drawn["summary"] and drawn["costName"].startswith("ms a frame")
    assert drawn["most"] == 500 and not drawn["share"]
    line.save(tmp_path / "timeline.png")
    line.save_page(tmp_path / "timeline.html", "v.mp4")
    assert (tmp_path / "timeline.html").stat().st_size > 1000
