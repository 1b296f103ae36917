"""Per-image losses against the host's own training bench."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("effdet")

from dualres_plugin.adapters.effdet.adapter import EffdetAdapter
from dualres_plugin.common.types import Targets
from tests.adapters.effdet.helpers import make_bench, photos, targets

SIZES = ((200, 300), (180, 120), (256, 256))


@pytest.fixture(scope="module")
def adapter() -> EffdetAdapter:
    return EffdetAdapter(make_bench(256))


@pytest.mark.parametrize("low", [False, True])
def test_losses_are_the_hosts_own_one_by_one(adapter, low):
    images = photos(*SIZES)
    truth = targets(images)
    batch = adapter.collate(images, 256, truth)
    scale, side = batch.img_scale, 256
    if low:
        batch, scale, side = adapter.resize(batch, torch.arange(3), 0.5), scale * 2, 128
    host = make_bench(side, task="train", bench_labeler=True)
    host.model.load_state_dict(adapter.detector.model.state_dict())
    host.max_detection_points = min(5000, len(host.anchors.boxes) * 2)
    expected = []
    for i, target in enumerate(truth):
        boxes = torch.from_numpy(target.boxes / float(scale[i]))[:, [1, 0, 3, 2]]
        note = {"img_scale": scale[i : i + 1], "img_size": batch.img_size[i : i + 1]}
        labels = {"bbox": [boxes], "cls": [torch.from_numpy(target.labels).float()], **note}
        with torch.no_grad():
            expected.append(float(host(batch.images[i : i + 1], labels)["loss"]))
    losses = adapter.losses(batch)
    assert losses.shape == (3,) and not losses.requires_grad
    assert losses.tolist() == pytest.approx(expected, rel=1e-4)
    assert adapter.profile_pass(batch, True)[1].tolist() == pytest.approx(losses.tolist())


def test_boxes_outside_the_photo_or_of_unknown_classes_do_not_count(adapter):
    image = photos((200, 300))
    inside = Targets(np.array([[10, 10, 90, 90]], dtype=np.float32), np.array([1]))
    odd = np.array([[10, 10, 90, 90], [400, 10, 500, 90], [5, 5, 60, 60]], dtype=np.float32)
    more = Targets(odd, np.array([1, 1, -1]))
    one, other = (adapter.losses(adapter.collate(image, 256, [t])) for t in (inside, more))
    assert torch.equal(one, other)
