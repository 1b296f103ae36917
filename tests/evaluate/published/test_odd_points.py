"""Points files changed at random: a `DualResError` or finite points, never another error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.published.points_file import name_column, read_groups
from tests.fuzz.strategies import points


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=points.mutated(points.valid()))
def test_points(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(content)
    try:
        for curve in read_groups(tmp_path / "p.csv", "method").values():
            assert np.isfinite(curve.compute).all() and np.isfinite(curve.metric).all()
            assert 0 <= curve.metric_decimals <= 30
        name_column(tmp_path / "p.csv")
    except DualResError as error:
        assert len(str(error)) < 20_000
