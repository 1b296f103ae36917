"""effdet networks at other sizes with shared weights, and networks from names and checkpoints.

effdet bakes the input size into two places: the BiFPN's resampling layers and the anchor boxes. A network at
another size needs new objects for these two, and nothing else: every layer with weights is the same object.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.weights import read_state_dict

Shape = tuple[int, int]
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
    """Stands in for a network whose outputs are known, so that the host's post-processing can run on them."""

    def __init__(self, outputs: Any):
        super().__init__()
        self.outputs = outputs

    def forward(self, x: Tensor) -> Any:
        return self.outputs


def with_outputs(bench: Any, outputs: Any) -> Any:
    """The bench with its network's outputs given."""
    known = copy.copy(bench)
    known._modules = {**bench._modules, "model": Remembered(outputs)}
    return known


# -- by name -----------------------------------------------------------------------------------------------


def build_bench(
    name: str,
    checkpoint: str | None = None,
    num_classes: str | None = None,
    image_size: str | None = None,
    **rest: str,
) -> Any:
    """A predict bench by effdet name, with weights from a local file; nothing is downloaded.

    Args:
        name: such as `tf_efficientdet_d1`.
        checkpoint: a `.safetensors` file, or a `.pth` with a state dict or as effdet's `train.py` writes it.
        num_classes: of the head; read off the checkpoint by default.
        image_size: "512" or "512x768" (height x width); the network's own by default.

    Raises:
        DualResError: If a name or option is unknown, or the checkpoint is missing or does not fit.
    """
    try:
        from effdet import create_model
        from effdet.config.model_config import efficientdet_model_param_dict as known
    except ImportError as error:
        raise DualResError(
            f"effdet is not installed ({error}). Install it with: pip install 'dualres-plugin[effdet]'"
        ) from None
    if name not in known:
        near = sorted(n for n in known if n.startswith("tf_efficientdet_")) or sorted(known)
        raise DualResError(f"unknown effdet network '{name}'. Known are for instance: {', '.join(near)}.")
    if rest:
        raise DualResError(
            f"effdet:{name}: unknown option(s) {sorted(rest)}; use checkpoint=FILE, num_classes=N, image_size=N."
        )
    if checkpoint is None:
        raise DualResError(
            f"effdet:{name} would have random weights. Add ',checkpoint=FILE'; effdet's own COCO weights "
            "are listed at https://github.com/rwightman/efficientdet-pytorch/releases."
        )
    if num_classes is not None and not (num_classes.isdigit() and int(num_classes)):
        raise DualResError(f"effdet:{name}: num_classes={num_classes} must be a whole number above 0.")
    state = _read_checkpoint(Path(checkpoint))
    size = _parse_size(name, image_size)
    classes = int(num_classes) if num_classes else _count_classes(state)
    bench = create_model(name, bench_task="predict", num_classes=classes, pretrained_backbone=False, image_size=size)
    try:
        bench.model.load_state_dict(state)
    except RuntimeError as error:
        detail = " ".join(line.strip() for line in str(error).splitlines()[1:3])[:300]
        raise DualResError(f"checkpoint '{checkpoint}' does not fit {name}, {classes} classes: {detail}") from None
    return bench.eval()


def _parse_size(name: str, image_size: str | None) -> Shape | None:
    if image_size is None:
        return None
    sides = image_size.split("x")
    if not (1 <= len(sides) <= 2 and all(side.isdigit() and int(side) for side in sides)):
        raise DualResError(f"effdet:{name}: image_size={image_size} is not a size; write 512 or 512x768.")
    h, w = int(sides[0]), int(sides[-1])
    from effdet.config import get_efficientdet_config

    own = tuple(get_efficientdet_config(name).image_size)  # lite0's is 320
    if (h, w) != own and (h % STRIDE or w % STRIDE):
        near = max(STRIDE, round(h / STRIDE) * STRIDE)
        raise DualResError(f"effdet:{name}: image_size={image_size} must be a multiple of {STRIDE}, such as {near}.")
    return h, w


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The network's own tensors, whatever they were saved inside of."""
    state = read_state_dict(path, "effdet weights")
    for prefix in ("module.", "model."):
        if all(key.startswith((prefix, "anchors.")) for key in state):
            state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return state


def _count_classes(state: dict[str, Tensor]) -> int | None:
    """Of the checkpoint's head: its classifier has anchors x classes rows, its box head anchors x 4."""
    rows = [v.shape[0] for k, v in state.items() if k.startswith("class_net.predict.") and k.endswith("bias")]
    boxes = [v.shape[0] for k, v in state.items() if k.startswith("box_net.predict.") and k.endswith("bias")]
    return 4 * rows[0] // boxes[0] if rows and boxes else None


def coco_names() -> dict[int, str]:
    """effdet's 90 classes are COCO's category ids, gaps included."""
    from torchvision.models.detection import FasterRCNN_MobileNet_V3_Large_320_FPN_Weights as Weights

    listed = Weights.DEFAULT.meta["categories"]
    return {i: n for i, n in enumerate(listed) if n not in ("__background__", "N/A")}
