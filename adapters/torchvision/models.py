"""Torchvision detectors by name, and the classes that a detector knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.weights import read_state_dict


def label_names(detector: nn.Module) -> tuple[dict[int, str] | None, list[int]]:
    """Class names by label where they are known (COCO's 91), and all labels but background."""
    d: Any = detector
    if hasattr(d, "roi_heads"):
        count = d.roi_heads.box_predictor.cls_score.out_features
    else:
        head = d.head.classification_head
        count = getattr(head, "num_classes", None) or getattr(head, "num_columns", None)
    names: dict[int, str] | None = getattr(d, "class_names", None)
    if names is None and count == 91:
        from torchvision.models.detection import FasterRCNN_MobileNet_V3_Large_320_FPN_Weights as Weights

        listed = Weights.DEFAULT.meta["categories"]
        names = {i: n for i, n in enumerate(listed) if n not in ("__background__", "N/A")}
    return names, list(range(1, int(count)))


def build_model(name: str, weights: str | None = None, num_classes: str | None = None, **rest: str) -> nn.Module:
    """A torchvision detection model by name, with weights from a local file.

    Args:
        name: as in `torchvision.models.detection`.
        weights: a `.pth` or `.safetensors` file, or "DEFAULT" to download torchvision's own.
        num_classes: background included; the model's own by default.
        **rest: anything else is refused.

    Returns:
        The model in eval.

    Raises:
        DualResError: If the name or an option is unknown, or the weights are missing or do not fit.
    """
    from torchvision.models import detection, get_model, list_models

    known = list_models(module=detection)
    if name not in known:
        raise DualResError(f"unknown torchvision detector '{name}'. Known: {', '.join(known)}.")
    if rest:
        raise DualResError(f"torchvision:{name}: unknown option(s) {sorted(rest)}; use weights=FILE, num_classes=N.")
    if num_classes is not None and not num_classes.isdecimal():
        raise DualResError(f"torchvision:{name}: num_classes={num_classes} is not a number.")
    classes: dict[str, Any] = {"num_classes": int(num_classes)} if num_classes else {}
    if weights in ("DEFAULT", "default"):
        return _downloaded(name)
    model: nn.Module = get_model(name, weights=None, weights_backbone=None, **classes).eval()
    if weights is None:
        raise DualResError(
            f"torchvision:{name} would have random weights. Add ',weights=FILE.pth' (or ',weights=DEFAULT' to download "
            "torchvision's COCO weights)."
        )
    _load_weights(model, Path(weights))
    return model


def _downloaded(name: str) -> nn.Module:
    from torchvision.models import get_model

    try:
        model: nn.Module = get_model(name, weights="DEFAULT")
    except OSError as error:  # no network, or one that refuses
        raise DualResError(
            f"torchvision:{name}: its weights cannot be downloaded ({error}). Download them where there is a network, "
            "and give ',weights=FILE.pth'."
        ) from None
    return model.eval()


def _load_weights(model: nn.Module, path: Path) -> None:
    state = read_state_dict(path, "detector weights")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        detail = " ".join(str(error).strip().splitlines()[:2])[:300]
        raise DualResError(f"detector weights '{path}' do not fit this model: {detail}") from None
