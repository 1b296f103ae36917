"""Building a detector and its test pipeline from a config, at any input size."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mmdet
import numpy as np
import torch
from mmdet.utils import get_test_pipeline_cfg
from mmengine.structures import InstanceData
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.types import Targets

logger = logging.getLogger("dualres")

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
        weights: a checkpoint.
        options: the host's `--cfg-options`, as text.

    Raises:
        DualResError: If there are no weights, a file is missing, mmdet cannot build the detector, or the weights are
            another network's.
    """
    from mmdet.apis import init_detector
    from mmengine.config import Config, DictAction

    file = config_file(config)
    for path in filter(None, (file, weights)):
        if not Path(path).is_file():
            raise DualResError(f"cannot load the mmdet detector: '{path}' does not exist.")
    if not weights:
        raise DualResError(
            f"mmdet:{config} would have random weights, and find noise. Add its checkpoint: mmdet:{config},WEIGHTS.pth."
        )
    values = {key: DictAction._parse_iterable(value) for key, value in (options or {}).items()}
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        cfg = Config.fromfile(file)
        if "test_dataloader" not in cfg:
            dataset = {"type": "mmdet.CocoDataset", "pipeline": _loaded(DEFAULT_PIPELINE)}
            cfg.test_dataloader = {"dataset": dataset}
        detector = init_detector(cfg, weights, device=device, cfg_options=values or None)
    except DualResError:
        raise
    except Exception as error:
        raise DualResError(f"mmdet cannot build '{config}': {error}") from error
    check_weights(detector, weights)
    return detector


def check_weights(detector: nn.Module, checkpoint: str) -> None:
    """Compare a detector with the checkpoint that was loaded into it.

    Args:
        detector: as `init_detector` made it, plain or routed.
        checkpoint: the file; `init_detector` has read it without an error.

    Raises:
        DualResError: If most parameters of the detector are not in the checkpoint, or have another shape there; a
            warning says so for a few.
    """
    from mmengine.runner import CheckpointLoader

    stored: Any = CheckpointLoader.load_checkpoint(checkpoint, map_location="cpu")
    prefixes = ("module.", "detector.")
    state = {_without(key, prefixes): value.shape for key, value in stored.get("state_dict", stored).items()}
    # The router of a routed detector has a check of its own.
    own = {_without(k, prefixes): v.shape for k, v in detector.named_parameters() if not k.startswith("router.")}
    check_fit(own, state, f"weights '{checkpoint}'")


def check_fit(wanted: Mapping[str, torch.Size], given: Mapping[str, torch.Size], name: str) -> None:
    """Compare the shapes of a detector's parameters with those of a checkpoint: mmengine itself only logs what differs.

    Args:
        wanted: by parameter.
        given: by tensor, with the same names.
        name: of the checkpoint, for the message.

    Raises:
        DualResError: If most parameters are not there, or have another shape; a warning says so for a few.
    """
    missing = [key for key, shape in wanted.items() if given.get(key) != shape]
    if not missing:
        return
    said = (
        f"the {name} do not fit the config: {len(missing)} of {len(wanted)} parameters stay random, "
        f"first '{missing[0]}'. Give the checkpoint of this very config (classes and widths included)."
    )
    if 2 * len(missing) > len(wanted):
        raise DualResError(said)
    logger.warning(said)  # some families rename a few old keys while they load


def _without(key: str, prefixes: tuple[str, ...]) -> str:
    for prefix in prefixes:
        key = key.removeprefix(prefix)
    return key


def _untouched(norm: _BatchNorm) -> bool:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None
    return not bool(mean.any()) and torch.equal(variance, torch.ones_like(variance))


def never_trained(detector: nn.Module) -> bool:
    """Whether every batch norm that keeps statistics has its first ones; one without such batch norms passes."""
    norms = [m for m in detector.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    return bool(norms) and all(_untouched(norm) for norm in norms)


def warn_if_random(detector: nn.Module) -> None:
    """Say it loudly when a detector was never trained.

    Args:
        detector: a built one.
    """
    if never_trained(detector):
        logger.warning(
            "this mmdet %s was never trained: its weights are random and it finds noise. Load a checkpoint first, "
            "as in init_detector(config, checkpoint).",
            type(detector).__name__,
        )


# By class name, so that what a version of mmdet lacks is no error here.
_NOT_BOXES = {"SingleStageInstanceSegmentor", "TwoStagePanopticSegmentor", "MaskFormer"}
_TEXT = {"GLIP", "GroundingDINO"}


def refuse_family(detector: nn.Module) -> None:
    """Name the families that cannot be routed, docs/hosts.md has the table of those that were tried.

    Args:
        detector: a built one.

    Raises:
        DualResError: If it is one of them.
    """
    kinds = {kind.__name__ for kind in type(detector).__mro__}
    name = type(detector).__name__
    if kinds & _NOT_BOXES:
        raise DualResError(f"the mmdet model {name} segments: its result is masks. Only box detectors are routed.")
    if "SemiBaseDetector" in kinds:
        raise DualResError(
            f"the mmdet model {name} trains a student and a teacher, and is no detector itself: route one of the two, "
            "model.detector in its config, model.student or model.teacher once it is built."
        )
    if kinds & _TEXT:
        raise DualResError(f"the mmdet detector {name} needs a text beside each image, which no router's batch holds.")
    head = getattr(detector, "bbox_head", None)
    if type(head).__name__ == "SSDHead" and not hasattr(head, "loss_cls"):
        raise DualResError(
            "SSD300 and SSDLite fail in plain mmdet 3.3.0 already: SSDHead has no loss_cls, which predict asks for. "
            "Use torchvision:ssd300_vgg16 or torchvision:ssdlite320_mobilenet_v3_large, or another family."
        )


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
            scale = step["scale"]
            w, h = scale if isinstance(scale, (list, tuple)) else (scale, scale)
            return int(w), int(h)
    raise DualResError(
        "the config's test pipeline has no Resize with a scale, so there is no high size. "
        "Use dict(type='Resize', scale=(640, 640), keep_ratio=True) in test_dataloader."
    )


def transforms_at(pipeline: Sequence[Any], size: int) -> list[Any]:
    """Built transforms whose Resize (and fixed Pad) is at `size`: the short side of its scale in pixels."""
    from mmdet.registry import TRANSFORMS

    w, h = resize_scale(pipeline)
    scale = _scaled((w, h), size / min(w, h))
    steps = []
    for step in copy.deepcopy(list(pipeline)):
        if "Resize" in str(step["type"]):
            step["scale"] = scale
        elif "Pad" in str(step["type"]) and step.get("size"):
            # A square may be padded from an oblong Resize: it keeps its own shape.
            step["size"] = _scaled(step["size"], size / min(w, h))
        elif "meta_keys" in step:
            step["meta_keys"] = tuple(step["meta_keys"])
        steps.append(TRANSFORMS.build(step))
    return steps


def _scaled(sides: Sequence[int], factor: float) -> tuple[int, int]:
    first, second = sides
    return round(first * factor), round(second * factor)


def as_rgb(source: Any) -> Any:
    """A source whose arrays are BGR, as all of mmdet has them, with its arrays turned to RGB; the rest as it is."""
    if isinstance(source, np.ndarray) and source.ndim == 3 and source.shape[2] == 3:
        return np.ascontiguousarray(source[..., ::-1])
    if isinstance(source, (list, tuple)):
        return [as_rgb(item) for item in source]
    return map(as_rgb, source) if isinstance(source, Iterator) else source


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
