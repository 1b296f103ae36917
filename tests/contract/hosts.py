"""The hosts that the contract is held against: small detectors with random weights that find something.

To hold a new adapter to the contract, add a `Host` to `HOSTS`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.registry import adapt, load_detector
from tests.shared import require_shared

# (height, width) that share one input shape in every host: 3 x 4 and near it.
SIZES = [(96, 128), (90, 120), (80, 120), (176, 240)]


@dataclass(frozen=True)
class Host:
    """One detector of one ecosystem.

    Attributes:
        name: of the case.
        package: that has to be installed.
        build: the detector, in the mode in which the host hands it out.
        plain: (detector, high batch) -> what the host itself answers, without any adapter code.
        size: high size that the tests use.
        real: adapter, high size and class names of real weights; skips where they are missing.
    """

    name: str
    package: str
    build: Callable[[], Any]
    plain: Callable[[Any, Any], Any]
    size: int = 128
    real: Callable[[], tuple[HostAdapter[Any], int]] | None = None


# -- Ultralytics ------------------------------------------------------------------------------------------


def yolo(config: str) -> Any:
    from ultralytics import YOLO

    torch.manual_seed(0)
    detector = YOLO(config, task="detect")
    head = detector.model.model[-1]
    for branches in ("cv3", "one2one_cv3"):
        for branch in getattr(head, branches, None) or []:
            nn.init.zeros_(branch[-1].bias)  # the host starts with a prior that finds nothing
    return detector


def plain_yolo(detector: Any, batch: Any) -> Any:
    with torch.no_grad():
        return detector.model.eval()(batch.images)


def real_yolo() -> tuple[HostAdapter[Any], int]:
    return load_detector(f"ultralytics:{require_shared('weights', 'yolo11n.pt')}"), 640


# -- torchvision --------------------------------------------------------------------------------------------


def torchvision_model(name: str, **options: Any) -> Any:
    from torchvision.models import get_model

    torch.manual_seed(0)
    return settled(get_model(name, weights=None, weights_backbone=None, num_classes=4, **options))


def settled(detector: nn.Module) -> nn.Module:
    """Batch-norm statistics of real activations: through deep random networks nothing gets without."""
    detector.eval()
    norms = [m for m in detector.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train().momentum = 1.0
    with torch.no_grad():
        detector([torch.rand(3, 320, 320), torch.rand(3, 320, 320)])
    for norm, momentum in zip(norms, momenta):
        norm.eval().momentum = momentum
    return detector.train()  # as torchvision hands them out


def demo_model(pretrained: bool = False) -> Any:
    from dualres_plugin.demo.detector import build_demo_detector

    torch.manual_seed(0)
    detector = build_demo_detector(pretrained)
    if not pretrained:
        nn.init.zeros_(detector.head.classification_head.cls_logits.bias)
    return detector


def plain_torchvision(detector: Any, batch: Any) -> Any:
    net = detector.eval()
    if batch.size is not None:  # the host's own way to another size
        net.transform.min_size, old = (batch.size,), net.transform.min_size
        net.transform.max_size, longest = round(net.transform.max_size * batch.size / old[-1]), net.transform.max_size
    with torch.no_grad():
        found = net(batch.images)
    if batch.size is not None:
        net.transform.min_size, net.transform.max_size = old, longest
    return found


# -- mmdet --------------------------------------------------------------------------------------------------


def mmdet_model() -> Any:
    from tests.adapters.mmdet.helpers import family_detector

    detector = family_detector("yolox")
    with torch.no_grad():  # boxes are exponentials of these: random ones are larger than float32 can hold
        for branch in detector.bbox_head.multi_level_conv_reg:
            branch.weight.mul_(0.001)
    return detector


def plain_mmdet(detector: Any, batch: Any) -> Any:
    with torch.no_grad():
        return detector.eval().predict(batch.inputs, [s.clone() for s in batch.samples], rescale=True)


def real_mmdet() -> tuple[HostAdapter[Any], int]:
    config, weights = (require_shared("weights", f"yolox_nano{end}") for end in ("_cfg.py", ".pth"))
    return load_detector(f"mmdet:{config},{weights}"), 640


# -- effdet ---------------------------------------------------------------------------------------------------


def effdet_bench() -> Any:
    from tests.adapters.effdet.helpers import make_bench

    return make_bench(256, num_classes=3)


def plain_effdet(detector: Any, batch: Any) -> Any:
    with torch.no_grad():
        return detector.eval()(batch.images, {"img_scale": batch.img_scale, "img_size": batch.img_size})


HOSTS = [
    Host("ultralytics-yolov8n", "ultralytics", lambda: yolo("yolov8n.yaml"), plain_yolo, real=real_yolo),
    Host("ultralytics-yolov10n", "ultralytics", lambda: yolo("yolov10n.yaml"), plain_yolo),  # end-to-end head
    Host(
        "torchvision-fasterrcnn",
        "torchvision",
        lambda: torchvision_model(
            "fasterrcnn_mobilenet_v3_large_320_fpn",
            box_score_thresh=0.0,
            rpn_pre_nms_top_n_test=60,
            rpn_post_nms_top_n_test=30,
            rpn_pre_nms_top_n_train=60,
            rpn_post_nms_top_n_train=30,
        ),
        plain_torchvision,
    ),
    Host(
        "torchvision-ssdlite",  # a fixed input size
        "torchvision",
        lambda: torchvision_model("ssdlite320_mobilenet_v3_large", score_thresh=0.0, topk_candidates=60),
        plain_torchvision,
        size=320,
    ),
    Host("torchvision-fcos", "torchvision", demo_model, plain_torchvision, size=256),
    Host("mmdet-yolox", "mmdet", mmdet_model, plain_mmdet, real=real_mmdet),
    Host("effdet-lite0", "effdet", effdet_bench, plain_effdet, size=256),
]


def require(host: Host) -> None:
    """Skip where the host or its adapter is not installed."""
    if importlib.util.find_spec(host.package) is None:
        pytest.skip(f"{host.package} is not installed")


@cache
def shared_adapter(name: str) -> HostAdapter[Any]:
    """One adapter per case: tests must not change it, which is part of what they test."""
    host = next(h for h in HOSTS if h.name == name)
    require(host)
    return adapt(host.build())


# -- comparing ----------------------------------------------------------------------------------------------


def leaves(raw: Any) -> list[Tensor]:
    """Every tensor of a host's raw output, in a fixed order."""
    if isinstance(raw, Tensor):
        return [raw]
    if isinstance(raw, dict):
        return [t for key in sorted(raw) for t in leaves(raw[key])]
    if isinstance(raw, (list, tuple)):
        return [t for item in raw for t in leaves(item)]
    if hasattr(raw, "pred_instances"):
        found = raw.pred_instances
        return [found.bboxes, found.scores, found.labels]
    return []


def identical(a: Any, b: Any) -> bool:
    first, second = leaves(a), leaves(b)
    return len(first) == len(second) > 0 and all(torch.equal(x, y) for x, y in zip(first, second))


def state(detector: Any) -> dict[str, Tensor]:
    """A copy of every parameter and buffer."""
    module = detector.model if hasattr(detector, "overrides") else detector
    return {k: v.clone() for k, v in module.state_dict().items()}


def batch_tensors(batch: Any) -> list[Tensor]:
    """A copy of every tensor that a batch holds."""
    found: list[Tensor] = []
    for value in vars(batch).values():
        items = value if isinstance(value, (list, tuple)) else [value]
        found += [item.clone() for item in items if isinstance(item, Tensor)]
        found += [torch.tensor(item.scale_factor) for item in items if hasattr(item, "scale_factor")]
    return found


def pictures(sizes: Sequence[tuple[int, int]] = SIZES, seed: int = 0) -> list[np.ndarray]:
    from tests.fakes import photo

    return [photo(seed + i, size) for i, size in enumerate(sizes)]
