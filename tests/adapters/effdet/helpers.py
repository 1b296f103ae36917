"""Small effdet benches with random weights, and photos and labels for them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from dualres_plugin.common.types import Targets


def make_bench(
    size: int | tuple[int, int] = 256, name: str = "tf_efficientdet_lite0", task: str = "predict", **options: Any
) -> Any:
    """A bench with random weights that finds something: its class bias is lifted."""
    from effdet import create_model

    torch.manual_seed(0)
    shape = (size, size) if isinstance(size, int) else size
    options = {"num_classes": 2, "pretrained_backbone": False, **options}
    bench = create_model(name, bench_task=task, image_size=shape, **options)
    model = getattr(bench, "model", bench)
    with torch.no_grad():
        model.class_net.predict.conv_pw.bias.zero_()
    return bench.eval()


def photos(*sizes: tuple[int, int]) -> list[np.ndarray]:
    """RGB pictures of (height, width), no two pixels of a kind."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (*size, 3), dtype=np.uint8) for size in sizes]


def targets(images: list[np.ndarray]) -> list[Targets]:
    """One box per image in its middle, of class 1, then 2, and so on; the last image is empty."""
    made = []
    for i, image in enumerate(images):
        h, w = image.shape[:2]
        box = np.array([[w * 0.2, h * 0.3, w * 0.7, h * 0.8]], dtype=np.float32)
        made.append(Targets(box, np.array([1 + i % 2], dtype=np.int64)))
    made[-1] = Targets(np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int64))
    return made


def state_of(bench: Any) -> dict[str, torch.Tensor]:
    return copy.deepcopy(bench.state_dict())
