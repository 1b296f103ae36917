"""effdet networks by name and checkpoint, and the classes that COCO's know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from dualres_plugin.adapters.effdet.bench import STRIDE
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.weights import read_state_dict
from dualres_plugin.hosts.contract import Shape


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
        image_size: "512" or "512x768" (height x width) in pixels; the network's own by default.
        **rest: anything else is refused.

    Returns:
        A `DetBenchPredict` in eval.

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
    state = _read_checkpoint(_checked(name, checkpoint, num_classes, rest))
    size = _parse_size(name, image_size)
    classes = int(num_classes) if num_classes else _count_classes(state)
    bench = create_model(name, bench_task="predict", num_classes=classes, pretrained_backbone=False, image_size=size)
    try:
        bench.model.load_state_dict(state)
    except RuntimeError as error:
        detail = " ".join(line.strip() for line in str(error).splitlines()[1:3])[:300]
        raise DualResError(f"checkpoint '{checkpoint}' does not fit {name}, {classes} classes: {detail}") from None
    return bench.eval()


def _checked(name: str, checkpoint: str | None, num_classes: str | None, unknown: dict[str, str]) -> Path:
    """The checkpoint's path, if all options make sense."""
    if unknown:
        raise DualResError(
            f"effdet:{name}: unknown option(s) {sorted(unknown)}; use checkpoint=FILE, num_classes=N, image_size=N."
        )
    if checkpoint is None:
        raise DualResError(
            f"effdet:{name} would have random weights. Add ',checkpoint=FILE'; effdet's own COCO weights "
            "are listed at https://github.com/rwightman/efficientdet-pytorch/releases."
        )
    if num_classes is not None and not (num_classes.isdecimal() and int(num_classes)):
        raise DualResError(f"effdet:{name}: num_classes={num_classes} must be a whole number above 0.")
    return Path(checkpoint)


def _parse_size(name: str, image_size: str | None) -> Shape | None:
    if image_size is None:
        return None
    sides = image_size.split("x")
    if not (1 <= len(sides) <= 2 and all(side.isdecimal() and int(side) for side in sides)):
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
    """Label -> name: effdet's 90 classes are COCO's category ids, gaps included."""
    from torchvision.models.detection import FasterRCNN_MobileNet_V3_Large_320_FPN_Weights as Weights

    listed = Weights.DEFAULT.meta["categories"]
    return {i: n for i, n in enumerate(listed) if n not in ("__background__", "N/A")}
