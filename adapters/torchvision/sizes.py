"""A torchvision detector at another size, or with its backbone's features remembered; parameters are shared."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from dualres_plugin.common.modes import in_eval

SCALES = (0.5, 0.6, 0.7, 0.8, 0.9)


def at_size(detector: nn.Module, size: int | None, scale: float) -> nn.Module:
    """The detector with its transform at another size; every parameter is shared.

    Args:
        detector: built around `GeneralizedRCNNTransform`.
        size: short side in pixels; the longest allowed side follows in proportion. None keeps the detector's own.
        scale: low / high ratio on top.
    """
    if size is None and scale == 1.0:
        return detector
    t: Any = detector.transform
    if t.fixed_size is not None:
        ratio = scale * (size / t.fixed_size[0] if size else 1.0)
        w, h = (max(t.size_divisible, round(side * ratio)) for side in t.fixed_size)
        return with_transform(detector, min_size=t.min_size, max_size=t.max_size, fixed_size=(w, h))
    ratio = scale * (size / t.min_size[-1] if size else 1.0)
    shortest, longest = round(t.min_size[-1] * ratio), round(t.max_size * ratio)
    return with_transform(detector, min_size=(shortest,), max_size=longest, fixed_size=None)


def with_transform(detector: nn.Module, **settings: Any) -> nn.Module:
    """A shallow copy whose transform has other settings, such as `min_size` in pixels.

    It and its transform are in eval. Its other parts are the detector's own: run it `in_eval` of the detector.
    """
    net = copy.copy(detector)
    net._modules = dict(detector._modules)
    transform: Any = copy.copy(detector.transform)
    net.training = transform.training = False
    for key, value in settings.items():
        setattr(transform, key, value)
    net._modules["transform"] = transform
    return net


def working_scale(detector: Any) -> float:
    """The low / high ratio for a plain call: one half, or more where the backbone of a fixed size asks for it.

    SSD300's last layers have nothing to look at below 0.9 of its size. Shapes alone are computed, no pixels.
    """
    fixed = detector.transform.fixed_size
    if fixed is None:
        return 0.5
    for scale in SCALES:
        w, h = (round(side * scale) for side in fixed)
        with FakeTensorMode(allow_non_fake_inputs=True), in_eval(detector), torch.no_grad():
            try:
                detector.backbone(torch.empty(1, 3, h, w))
            except RuntimeError:
                continue
        return scale
    return 0.5


def default_size(detector: Any) -> int:
    """The detector's own short side in pixels; of a fixed size, its width."""
    transform = detector.transform
    return int(transform.fixed_size[0] if transform.fixed_size else transform.min_size[-1])


class RememberedBackbone(nn.Module):
    """Computes the features of a batch once; later calls return those of one image.

    Args:
        backbone: of the detector; shared.

    Attributes:
        image: whose features to return; None while the batch runs.
    """

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.features: Any = None
        self.shape = torch.Size()
        self.image: int | None = None

    def forward(self, x: Tensor) -> Any:
        """(B, 3, H, W) -> the backbone's features, or those of image `image` for its (1, 3, H, W)."""
        if self.image is None:
            self.features, self.shape = self.backbone(x), x.shape[-2:]
            return self.features
        i = self.image
        if x.shape[-2:] != self.shape:  # alone, this image has less padding than in its batch
            return self.backbone(x)
        if isinstance(self.features, Tensor):
            return self.features[i : i + 1]
        return type(self.features)((k, v[i : i + 1]) for k, v in self.features.items())
