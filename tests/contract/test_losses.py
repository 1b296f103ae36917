"""Per-image losses, and the one pass that gives them with the detections."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dualres_plugin.common.types import Targets
from dualres_plugin.hosts.contract import HostAdapter
from tests.contract.helpers import SCALE, collate, everything, labels_of, same, targets_for
from tests.contract.hosts import SIZES, Host, pictures


@pytest.mark.parametrize("low", [False, True])
def test_losses_of_a_batch_equal_those_one_by_one(low: bool, host: Host, adapter: HostAdapter[Any]) -> None:
    batch = collate(adapter, host)
    batch = adapter.resize(batch, everything(4), SCALE) if low else batch
    together = adapter.losses(batch)
    alone = torch.cat([adapter.losses(adapter.select(batch, torch.tensor([i]))) for i in range(4)])
    assert together.shape == (4,) and together.dtype == torch.float32 and torch.isfinite(together).all()
    assert torch.allclose(together, alone, rtol=2e-3, atol=1e-4)
    assert together.std() > 0, "different images lose differently"
    assert torch.allclose(adapter.losses(batch), together, rtol=1e-5), "the same image always loses the same"


def test_losses_follow_the_labels(host: Host, adapter: HostAdapter[Any]) -> None:
    images = pictures([SIZES[0]]) * 3
    known = labels_of(adapter)
    h, w = SIZES[0]
    box = np.array([[w * 0.1, h * 0.1, w * 0.7, h * 0.8]], np.float32)
    moved = np.array([[w * 0.4, h * 0.3, w * 0.9, h * 0.9]], np.float32)
    none = Targets(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    targets = [Targets(box, np.array(known[:1])), Targets(moved, np.array(known[-1:])), none]
    losses = adapter.losses(adapter.collate(images, host.size, targets))
    assert torch.isfinite(losses).all()
    assert len({round(float(v), 5) for v in losses}) == 3


def test_crowds_and_unknown_classes_do_not_enter_the_loss(host: Host, adapter: HostAdapter[Any]) -> None:
    image = pictures([SIZES[0]])
    (target,) = targets_for(adapter, image)
    extra = Targets(
        np.concatenate([target.boxes, [[5, 5, 60, 60], [20, 20, 70, 70]]]).astype(np.float32),
        np.concatenate([target.labels, [labels_of(adapter)[0], -1]]),
        np.array([False] * len(target) + [True, False]),
    )
    a, b = (adapter.losses(adapter.collate(image, host.size, [t])) for t in (target, extra))
    assert torch.allclose(a, b)


@pytest.mark.parametrize("low", [False, True])
def test_a_profile_pass_is_predict_and_losses(low: bool, host: Host, adapter: HostAdapter[Any]) -> None:
    batch = collate(adapter, host)
    batch = adapter.resize(batch, everything(4), SCALE) if low else batch
    found, losses = adapter.profile_pass(batch, True)
    assert losses is not None and torch.allclose(losses, adapter.losses(batch), rtol=5e-3, atol=1e-3)
    for a, b in zip(found, adapter.detections(adapter.predict(batch), batch), strict=True):
        assert same(a, b)
    unlabelled, nothing = adapter.profile_pass(collate(adapter, host, labels=False), False)
    assert nothing is None and len(unlabelled) == 4
