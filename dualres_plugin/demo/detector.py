"""The embedded default's detector: torchvision's FCOS on a small residual network, trained on `scenes`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSHead, FCOSRegressionHead

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import atomic_write
from dualres_plugin.demo.scenes import CLASSES
from dualres_plugin.router.blocks import PYRAMID, DemoBackbone

HIGH_SIZE = 256
"""Long side in pixels at high resolution: that of the scenes themselves."""
LOW_SIZE = 128
"""Long side in pixels at low resolution."""
WEIGHTS_PATH = Path(__file__).with_name("detector.safetensors")

_CENTRE_RADIUS = 2.5  # in units of the level sizes below: more places learn from each object than with 1.5
# Objects go to a pyramid level by their size in units of these; half the strides (8, 16, 32), because the
# largest objects here are 128 pixels wide and would otherwise nearly all sit on the first level.
_LEVEL_SIZES = ((4,), (8,), (16,))


def _head(classes: int) -> FCOSHead:
    """FCOS's head with one convolution a branch; its own norm wants 32 groups, too many for 48 channels."""
    head = FCOSHead(32, 1, classes, num_convs=0)
    norm = partial(nn.GroupNorm, 8)
    head.classification_head = FCOSClassificationHead(PYRAMID, 1, classes, num_convs=1, norm_layer=norm)
    head.regression_head = FCOSRegressionHead(PYRAMID, 1, num_convs=1, norm_layer=norm)
    # start from boxes of 24 pixels on the first level: at zero, FCOS's ReLU lets half of the sides learn nothing
    nn.init.constant_(head.regression_head.bbox_reg.bias, 3.0)
    return head


def build_demo_detector(pretrained: bool = True) -> FCOS:
    """Build the demo's detector, in evaluation mode, at high resolution.

    It takes a list of (3, H, W) RGB tensors in [0, 1] and returns torchvision's list of dicts. Its transform
    scales the long side of every picture to `HIGH_SIZE`. Labels are 1-based: `CLASSES[label - 1]`.

    Args:
        pretrained: load the weights that come with the package; otherwise they are random.

    Returns:
        The detector.

    Raises:
        DualResError: If the weights are missing or do not fit.
    """
    anchors = AnchorGenerator(sizes=_LEVEL_SIZES, aspect_ratios=((1.0,),) * len(_LEVEL_SIZES))
    model = FCOS(
        DemoBackbone(),
        num_classes=len(CLASSES) + 1,
        min_size=HIGH_SIZE,
        max_size=HIGH_SIZE,
        anchor_generator=anchors,
        head=_head(len(CLASSES) + 1),
        center_sampling_radius=_CENTRE_RADIUS,
        score_thresh=0.01,
        nms_thresh=0.5,
        detections_per_img=100,
        topk_candidates=300,
    )
    if pretrained:
        load_weights(model, WEIGHTS_PATH)
    return model.eval()


def load_weights(model: nn.Module, path: Path | str) -> None:
    """Load a safetensors file into the model, in place; half precision becomes the model's own.

    Args:
        model: changed in place.
        path: of the file.

    Raises:
        DualResError: If the file is missing, is not safetensors, or its tensors are not the model's.
    """
    again = "Reinstall the package, or train the weights anew: python -m dualres_plugin.demo.train_detector"
    if not Path(path).is_file():
        raise DualResError(f"the demo detector's weights '{path}' do not exist. {again}")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DualResError(f"cannot read the demo detector's weights '{path}': {error}. {again}") from None
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise DualResError(f"the weights '{path}' do not fit the demo detector: {error}. {again}") from None


def save_weights(model: nn.Module, path: Path | str) -> None:
    """Write the model's weights as half-precision safetensors, atomically.

    Args:
        model: stays as it is.
        path: of the file.
    """
    state = {
        name: (value.half() if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    with atomic_write(path) as temporary:
        save_file(state, temporary)


def count_parameters(model: nn.Module) -> int:
    """Number of trainable values.

    Args:
        model: any network.

    Returns:
        Of all its parameters.
    """
    return sum(value.numel() for value in model.parameters())
