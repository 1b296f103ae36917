"""What a pass costs."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from dualres_plugin.common.flops import format_gmacs, gmacs, milliseconds


def test_gmacs_of_a_convolution_and_a_matrix() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 100, 10)).train()
    image = torch.zeros(1, 3, 10, 10)
    assert gmacs(net, image) == pytest.approx((100 * 8 * 27 + 8000) / 1e9)
    assert net.training
    assert format_gmacs(3.24) == "3.24 GMACs (6.48 GFLOPs)" and format_gmacs(0.05) == "0.050 GMACs (0.100 GFLOPs)"


def test_milliseconds_are_those_of_one_call() -> None:
    calls: list[int] = []

    def step() -> None:
        calls.append(1)
        time.sleep(0.02)

    assert 19 < milliseconds(step) < 2000 and len(calls) == 1


def test_the_gpu_is_waited_for_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: events.append("wait"))
    milliseconds(lambda: events.append("part"))
    assert events == ["wait", "part", "wait"]
