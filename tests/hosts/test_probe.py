"""Asking a detector, once, whether it runs at both sizes."""

from __future__ import annotations

import pytest
import torch

from dualres_plugin.common.errors import DualResError
from dualres_plugin.hosts.probe import both_routes, check_sizes, probe_photo
from tests.fakes import FakeAdapter, FakeBatch


class Crashing(FakeAdapter):
    """Fails below some size."""

    def __init__(self, least: int):
        super().__init__()
        self.least = least
        self.passes = 0

    def predict(self, batch: FakeBatch) -> torch.Tensor:
        self.passes += 1
        if min(batch.images.shape[-2:]) < self.least:
            raise RuntimeError("Calculated padded input size per channel: (1 x 1)")
        return super().predict(batch)


def test_a_detector_that_runs_is_asked_once() -> None:
    host = Crashing(0)
    check_sizes(host, 64, 0.5)
    check_sizes(host, 64, 0.5)
    assert host.passes == 2
    check_sizes(host, 64, 0.25)
    check_sizes(host, 64, 0.25, again=True)
    assert host.passes == 6


def test_a_low_size_that_fails_is_named_with_one_that_works() -> None:
    with pytest.raises(DualResError, match=r"fails at the low size, 32 px \(high is 64 px\), .* 38 px works"):
        check_sizes(Crashing(48), 64, 0.5)


def test_a_high_size_that_fails_is_named() -> None:
    with pytest.raises(DualResError, match="fails at the high size, 64 px"):
        check_sizes(Crashing(100), 64, 0.5)


def test_modes_stay_as_they_are() -> None:
    host = FakeAdapter(torch.nn.Sequential(torch.nn.Conv2d(3, 1, 1), torch.nn.BatchNorm2d(1)))
    host.detector.train()
    host.detector[1].eval()
    high, low = both_routes(host, probe_photo(), 64, 0.5)
    assert len(high) == len(low) == 2
    assert host.detector.training and host.detector[0].training and not host.detector[1].training
