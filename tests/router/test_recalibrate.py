"""A router in another detector: thresholds move, weights stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dualres_plugin.common.errors import DualResError
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.router.recalibrate import recalibrate
from tests.fakes import FakeAdapter, photo, write_photos


@pytest.fixture
def router() -> ResolutionRouter:
    torch.manual_seed(0)
    net = ResolutionRouter(backbone="tiny@3", input_size=16).eval()
    net.calibrate([-1.0, 0.0, 1.0])
    return net


def test_swapping_moves_thresholds_but_no_weights(router: ResolutionRouter, tmp_path: Path) -> None:
    write_photos(tmp_path, 12)
    before = {k: v.clone() for k, v in router.state_dict().items()}
    count, cost = recalibrate(router, FakeAdapter(), tmp_path, 64, 0.5, "fake detector", progress=False)
    assert count == 12 and cost == {"low_gmacs": pytest.approx(0.1024), "high_gmacs": pytest.approx(0.4096)}
    assert all(torch.equal(v, before[k]) for k, v in router.state_dict().items())
    host = FakeAdapter()
    scores = torch.cat([router.score(host.router_images(host.collate([photo(i, s)], 64))) for i, s in _sizes(12)])
    assert router.quantiles[0] == pytest.approx(float(scores.min()), abs=1e-6)
    assert router.quantiles[-1] == pytest.approx(float(scores.max()), abs=1e-6)
    assert router.info["swapped_to"]["detector"] == "fake detector"


def _sizes(count: int) -> list[tuple[int, tuple[int, int]]]:
    return [(i, ((48, 64), (64, 48))[i % 2]) for i in range(count)]


def test_swapping_leaves_out_what_cannot_be_used(
    router: ResolutionRouter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = write_photos(tmp_path, 6)
    paths[2].write_bytes(b"")

    class Picky(FakeAdapter):
        def collate(self, images: Any, size: int, targets: Any = None) -> Any:
            if np.array_equal(images[0], photo(4, (48, 64))):
                raise RuntimeError("cannot do this one")
            return super().collate(images, size, targets)

    with caplog.at_level("WARNING", "dualres"):
        count, _ = recalibrate(router, Picky(), tmp_path, 64, 0.5, progress=False)
    assert count == 4 and "2.png" in caplog.text and "4.png" in caplog.text
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(DualResError, match=r"no usable image .*5\.png"):
        recalibrate(router, FakeAdapter(), tmp_path, 64, 0.5, progress=False)
