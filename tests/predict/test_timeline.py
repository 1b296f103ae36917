"""What a video's frames cost, over time."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from dualres_plugin.common.card import SKIP, SKIPPED
from dualres_plugin.common.types import ImageDecision
from dualres_plugin.predict.timeline import Timeline

HIGH = ImageDecision("high", 1.0, 0.0, 0, 640)
LOW = ImageDecision("low", -1.0, 0.0, 1, 320)
AGAIN = ImageDecision(SKIPPED, -1.0, 0.0, SKIP, None)


def test_the_cost_is_a_share_of_the_largest_size_even_where_no_frame_ran_at_it() -> None:
    line = Timeline(rate=1, largest=640)
    assert line.pixels == 0
    line.add(LOW)
    assert line.pixels == 0.25
    line.add(HIGH)
    assert line.pixels == pytest.approx(0.625)  # of the last two seconds
    line.add(AGAIN)
    line.add(AGAIN)
    assert line.pixels == 0 and len(line) == 4


def test_it_is_drawn(tmp_path: Path) -> None:
    line = Timeline(rate=5, largest=640)
    for route in [LOW] * 5 + [HIGH] * 5 + [AGAIN] * 5:
        line.add(route)
    line.save(tmp_path / "timeline.png")
    with Image.open(tmp_path / "timeline.png") as drawn:
        assert drawn.width > drawn.height > 300
