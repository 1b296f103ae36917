"""Photos for slides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dualres_plugin.evaluate.evaluation import Evaluation
from dualres_plugin.evaluate.report.examples import pick
from tests.evaluate.report.helpers import ranked_of


def test_examples_show_both_resolutions_and_name_the_route(out: Path, evaluation: Evaluation) -> None:
    files = sorted(path.name for path in (out / "examples").iterdir())
    assert [name[:2] for name in files] == [f"{i:02d}" for i in range(1, len(files) + 1)]
    assert len(files) == 6 and "_high_" in files[0] and "_low_" in files[-1]
    assert Image.open(out / "examples" / files[0]).width in (2 * 300 + 8, 2 * 400 + 8)


@given(st.integers(1, 40), st.integers(0, 40), st.integers(1, 9))
def test_examples_are_images_of_the_set(n: int, at_high: int, count: int) -> None:
    values = [0.1 if i % 3 else float("nan") for i in range(n)]
    chosen = pick(ranked_of(values), min(at_high, n), count)
    assert chosen and set(chosen) <= set(range(n)) and len(chosen) <= max(3, count)
    if n > 1:
        assert not np.isnan(np.array(values)[chosen]).any()
