"""Per-image losses against the host's own criterion."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("ultralytics")

from dualres_plugin.adapters.ultralytics import UltralyticsAdapter
from dualres_plugin.common.types import Targets
from tests.adapters.ultralytics.helpers import random_yolo, real_yolo
from tests.fakes import photo


def test_the_loss_is_the_hosts_own() -> None:
    """Against `DetectionModel.loss` on a batch that the host's own transforms made."""
    from ultralytics.data.augment import LetterBox
    from ultralytics.utils import DEFAULT_CFG
    from ultralytics.utils.instance import Instances

    yolo = random_yolo()
    adapter = UltralyticsAdapter(yolo)
    net = yolo.model.eval()
    net.args = DEFAULT_CFG
    for size in ((90, 120), (128, 70), (128, 128)):
        picture = photo(1, size)
        boxes = np.array([[5, 6, 50, 60], [30, 20, size[1], size[0]]], np.float32)
        target = Targets(boxes, np.array([3, 7]))
        mine = float(adapter.losses(adapter.collate([picture], 128, [target]))[0])
        labels = {
            "img": picture,
            "instances": Instances(
                boxes.copy(), np.zeros((0, 1000, 2), np.float32), bbox_format="xyxy", normalized=False
            ),
            "cls": target.labels,
        }
        made = LetterBox(128, auto=True)(labels)
        made["instances"].convert_bbox("xywh")
        h, w = made["img"].shape[:2]
        batch = {
            "img": torch.from_numpy(made["img"]).permute(2, 0, 1)[None].float() / 255,
            "batch_idx": torch.zeros(2),
            "cls": torch.tensor([3.0, 7.0]),
            "bboxes": torch.from_numpy(made["instances"].bboxes / [w, h, w, h]).float(),
        }
        with torch.no_grad():
            theirs = float(net.loss(batch)[0].sum())
        assert mine == pytest.approx(theirs, rel=2e-3)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_the_loss_of_an_image_does_not_depend_on_its_batch(count: int) -> None:
    """Real predictions, crowded and empty images side by side, tiny and overlapping objects."""
    adapter = UltralyticsAdapter(real_yolo())
    rng = np.random.default_rng(count)
    targets = []
    for n in (count, 0, 3 * count):
        corners = rng.uniform(0, 90, (n, 2))
        boxes = np.concatenate((corners, corners + rng.uniform(0.5, 60, (n, 2))), axis=1).astype(np.float32)
        targets.append(Targets(boxes, rng.integers(0, 80, n)))
    pictures = [photo(i, (128, 160)) for i in range(3)]
    together = adapter.losses(adapter.collate(pictures, 160, targets))
    alone = [float(adapter.losses(adapter.collate([p], 160, [t]))[0]) for p, t in zip(pictures, targets)]
    assert together.tolist() == pytest.approx(alone, rel=1e-3)


def test_the_low_loss_of_a_labelled_batch_uses_the_same_labels() -> None:
    adapter = UltralyticsAdapter(random_yolo())
    target = Targets(np.array([[10, 10, 70, 80]], np.float32), np.array([2]))
    picture = [photo(2, (200, 200))]
    small = adapter.resize(adapter.collate(picture, 128, [target]), torch.arange(1), 0.5)
    direct = adapter.collate(picture, 64, [target])
    assert small.images.shape == direct.images.shape
    assert float(adapter.losses(small)[0]) == pytest.approx(float(adapter.losses(direct)[0]), rel=0.05)
