"""effdet networks at other sizes with shared weights, and with their outputs given.

effdet bakes the input size into two places: the BiFPN's resampling layers and the anchor boxes. A network at
another size needs new objects for these two, and nothing else: every layer with weights is the same object.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from dualres_plugin.hosts.contract import Shape

STRIDE = 128  # of the coarsest level, P7: other sizes shift its anchors against its features


def own_shape(bench: Any) -> Shape:
    """(height, width) that a bench or network was built for."""
    h, w = bench.config.image_size
    return int(h), int(w)


def predictor(detector: Any) -> Any:
    """The `DetBenchPredict` of what users hold: that itself, a `DetBenchTrain`, or a bare `EfficientDet`."""
    from effdet import DetBenchPredict

    if isinstance(detector, DetBenchPredict):
        return detector
    model = getattr(detector, "model", detector)
    return DetBenchPredict(model).to(next(model.parameters()).device)


def at_size(bench: Any, shape: Shape) -> Any:
    """A `DetBenchPredict` for inputs of (height, width) that shares all parameters, and all buffers but anchors.

    Args:
        bench: a `DetBenchPredict`, which stays as it is.
        shape: (height, width) in pixels.

    Only the containers on the way to a size-dependent layer are new, and they share their `_parameters` and
    `_buffers` dictionaries with the originals: moving or loading the one moves or loads the other.
    """
    if shape == own_shape(bench) and bench.max_detection_points <= _candidates(bench):
        return bench
    from effdet.anchors import Anchors, get_feat_sizes

    config = copy.deepcopy(bench.config)
    _set_image_size(config, shape)
    old, new = (get_feat_sizes(s, config.max_level) for s in (own_shape(bench), shape))
    sized = copy.copy(bench)
    sized._modules = dict(bench._modules)
    sized.config = config
    sized.model = _resized(bench.model, dict(zip(old, new)))
    if sized.model is not bench.model:
        sized.model.config = config
    device = next(bench.parameters()).device
    sized.anchors = Anchors.from_config(config).to(device)
    # The post-processing takes the best 5000 of all candidates, and fails where a small input has fewer.
    sized.max_detection_points = min(bench.max_detection_points, _candidates(sized))
    return sized


def _candidates(bench: Any) -> int:
    return len(bench.anchors.boxes) * int(bench.num_classes)


def _resized(module: Any, sizes: dict[Shape, Shape]) -> Any:
    """`module` with its interpolations at the new feature sizes; itself where nothing below changes."""
    from effdet.efficientdet import Interpolate2d

    if isinstance(module, Interpolate2d) and module.size is not None:
        clone = copy.copy(module)
        clone.size = sizes[tuple(module.size)]
        return clone
    children = {name: _resized(child, sizes) for name, child in module._modules.items() if child is not None}
    if all(child is module._modules[name] for name, child in children.items()):
        return module
    changed = copy.copy(module)
    changed._modules = {**module._modules, **children}
    return changed


def _set_image_size(config: Any, shape: Shape) -> None:
    from effdet.config import set_config_readonly, set_config_writeable

    set_config_writeable(config)
    config.image_size = shape
    set_config_readonly(config)


class Remembered(nn.Module):
    """Stands in for a network whose outputs are known, so that the host's post-processing can run on them.

    Args:
        outputs: class and box outputs, one (B, C, H, W) per level each.
    """

    def __init__(self, outputs: Any):
        super().__init__()
        self.outputs = outputs

    def forward(self, x: Tensor) -> Any:
        """The known outputs, whatever (B, 3, H, W) comes in."""
        return self.outputs


def with_outputs(bench: Any, outputs: Any) -> Any:
    """A copy of the bench whose network gives `outputs`, class and box outputs per level."""
    known = copy.copy(bench)
    known._modules = {**bench._modules, "model": Remembered(outputs)}
    return known
