"""Building a detector and its test pipeline from a config, at any input size."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmdet
import numpy as np
import torch
from mmdet.utils import get_test_pipeline_cfg
from mmengine.structures import InstanceData

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.types import Targets

DEFAULT_PIPELINE: list[dict[str, Any]] = [
    {"type": "mmdet.Resize", "scale": (640, 640), "keep_ratio": True},
    {
        "type": "mmdet.PackDetInputs",
        "meta_keys": ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    },
]


def load_detector(config: str, weights: str | None, options: dict[str, str] | None = None) -> Any:
    """`init_detector` on the CPU, or on the GPU where there is one.

    Args:
        config: a file, or `mmdet::…` for one of mmdet's own.
        weights: a checkpoint; None leaves random weights.
        options: the host's `--cfg-options`, as text.

    Raises:
        DualResError: If a file is missing or mmdet cannot build the detector.
    """
    from mmdet.apis import init_detector
    from mmengine.config import Config, DictAction

    file = config_file(config)
    for path in filter(None, (file, weights)):
        if not Path(path).is_file():
            raise DualResError(f"cannot load the mmdet detector: '{path}' does not exist.")
    values = {key: DictAction._parse_iterable(value) for key, value in (options or {}).items()}
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        cfg = Config.fromfile(file)
        if "test_dataloader" not in cfg:
            dataset = {"type": "mmdet.CocoDataset", "pipeline": _loaded(DEFAULT_PIPELINE)}
            cfg.test_dataloader = {"dataset": dataset}
        return init_detector(cfg, weights, device=device, cfg_options=values or None)
    except DualResError:
        raise
    except Exception as error:
        raise DualResError(f"mmdet cannot build '{config}': {error}") from error


def config_file(config: str) -> str:
    """The path of a config; `mmdet::yolox/….py` is one inside the mmdet package, as in mmengine's `_base_`."""
    prefix = "mmdet::"
    if not config.startswith(prefix):
        return config
    return str(Path(mmdet.__file__).parent / ".mim" / "configs" / config.removeprefix(prefix))


def _loaded(pipeline: Sequence[Any]) -> list[Any]:
    return [{"type": "LoadImageFromFile"}, *copy.deepcopy(list(pipeline))]


def test_pipeline(detector: Any) -> list[Any]:
    """The transforms of the config's test pipeline after loading; annotations are left out."""
    cfg = getattr(detector, "cfg", None)
    if cfg is None or "test_dataloader" not in cfg:
        return copy.deepcopy(DEFAULT_PIPELINE)
    pipeline = copy.deepcopy(list(get_test_pipeline_cfg(cfg)))
    return [step for step in pipeline if "Load" not in str(step["type"])]


def resize_scale(pipeline: Sequence[Any]) -> tuple[int, int]:
    """(width, height) in pixels of the pipeline's Resize.

    Raises:
        DualResError: If it has none.
    """
    for step in pipeline:
        if "Resize" in str(step["type"]) and step.get("scale"):
            w, h = step["scale"]
            return int(w), int(h)
    raise DualResError(
        "the config's test pipeline has no Resize with a scale, so there is no high size. "
        "Use dict(type='Resize', scale=(640, 640), keep_ratio=True) in test_dataloader."
    )


def transforms_at(pipeline: Sequence[Any], size: int) -> list[Any]:
    """Built transforms whose Resize (and fixed Pad) is at `size`: the short side of its scale in pixels."""
    from mmdet.registry import TRANSFORMS

    w, h = resize_scale(pipeline)
    scale = (round(w * size / min(w, h)), round(h * size / min(w, h)))
    steps = []
    for step in copy.deepcopy(list(pipeline)):
        if "Resize" in str(step["type"]):
            step["scale"] = scale
        elif "Pad" in str(step["type"]) and step.get("size"):
            step["size"] = scale
        elif "meta_keys" in step:
            step["meta_keys"] = tuple(step["meta_keys"])
        steps.append(TRANSFORMS.build(step))
    return steps


def prepared(transforms: Sequence[Any], bgr: np.ndarray) -> dict[str, Any]:
    """What the host's pipeline makes of one (H, W, 3) uint8 BGR photo: `inputs` (3, h, w) and `data_samples`."""
    results: dict[str, Any] = {
        "img": np.ascontiguousarray(bgr),
        "img_id": 0,
        "img_path": None,
        "img_shape": bgr.shape[:2],
        "ori_shape": bgr.shape[:2],
    }
    for transform in transforms:
        results = transform(results)
    return results


def ground_truth(target: Targets, scale_factor: Sequence[float], device: torch.device) -> Any:
    """mmengine's `InstanceData` of one image's targets.

    Args:
        target: boxes in original pixels.
        scale_factor: (x, y) from original to input pixels.
        device: where the inputs are.
    """
    x, y = (float(f) for f in scale_factor[:2])
    boxes = torch.from_numpy(target.boxes).float().reshape(-1, 4) * torch.tensor([x, y, x, y])
    return InstanceData(bboxes=boxes.to(device), labels=torch.from_numpy(target.labels).long().to(device))
