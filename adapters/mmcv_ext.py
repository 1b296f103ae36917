"""A stand-in for `mmcv._ext`, the compiled operations of mmcv, written over `torchvision.ops`.

mmcv 2.1.0 is published as source only and does not compile as it is on current torch, so
`dualres-plugin[mmdet]` installs `mmcv-lite`, the same package without compiled operations. mmdet cannot even
be imported without them. With this stand-in it can, and the common families run: one-stage (YOLOX, RTMDet,
RetinaNet, ...), two-stage (Faster and Mask R-CNN, ...) and, on the CPU, DETR and Deformable DETR.

What it has, with the results of the compiled operations: `nms`, and `roi_align` with average pooling, forward
and backward, on every device that torchvision supports.

What it has not: every other operation. They raise a `DualResError` when they are *called* (not when a module
that merely mentions them is imported). On the CPU these are mainly deformable convolutions, soft-NMS, CARAFE,
masked convolutions and everything rotated; on a GPU also the focal loss and multi-scale deformable attention,
for which mmcv has plain PyTorch code on the CPU only. `make mmcv` builds the compiled mmcv for those who need
them.

A real `mmcv._ext` always wins: the stand-in is the *last* place where Python looks for that module, so it is
found only where nothing else is. It says so once, with a warning in the log, when it is first loaded.

Two doors lead to it: `dualres_mmcv_ext.pth`, which the wheel puts beside the packages so that programs that import
mmdet first (`tools/test.py`, `mmdet.apis`) find it too, and `install`, for checkouts that are merely on the path.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, NoReturn

import torch
from torch import Tensor

from dualres_plugin.adapters import mmdet_key
from dualres_plugin.common.errors import DualResError

logger = logging.getLogger(__name__)

_NAME = "mmcv._ext"
_HELP = (
    "needs the compiled mmcv, but mmcv-lite is installed. Choose a detector without this operation, or compile mmcv "
    "2.1.0 for this torch: in a checkout of dualres-plugin, `make mmcv`, or scripts/build_mmcv.sh PYTHON for any "
    "environment (about five minutes)."
)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Indices of the boxes that greedy non-maximum suppression keeps, best first.

    Args:
        boxes: `(N, 4)` xyxy.
        scores: `(N,)`.
        iou_threshold: A box goes when its IoU with a better one is above this.
        offset: 1 counts a box as `x2 - x1 + 1` pixels wide (old detectors), 0 as `x2 - x1`.

    Returns:
        `(K,)` int64.
    """
    from torchvision.ops import nms as torchvision_nms

    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    kept: Tensor = torchvision_nms(boxes, scores, iou_threshold)
    return kept


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write `(K, C, aligned_height, aligned_width)` pooled features to `output`; see `mmcv.ops.roi_align`.

    Raises:
        DualResError: If `pool_mode` is 0 (max pooling), which torchvision has not.
    """
    size = (aligned_height, aligned_width)
    output.copy_(_roi_align(input, rois, size, spatial_scale, sampling_ratio, pool_mode, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add the gradient with respect to the `(N, C, H, W)` input of `roi_align_forward` to `grad_input`.

    Raises:
        DualResError: If `pool_mode` is 0 (max pooling), which torchvision has not.
    """
    size = (aligned_height, aligned_width)
    with torch.enable_grad():
        # The operation is linear in its input, so any input of the right shape has the right gradient.
        features = torch.zeros_like(grad_input, requires_grad=True)
        pooled = _roi_align(features, rois, size, spatial_scale, sampling_ratio, pool_mode, aligned)
    grad_input.add_(torch.autograd.grad(pooled, features, grad_output)[0])


def _roi_align(
    features: Tensor,
    rois: Tensor,
    size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> Tensor:
    from torchvision.ops import roi_align

    if pool_mode != 1:
        raise DualResError(f"mmcv.ops.roi_align with pool_mode='max' {_HELP}")
    pooled: Tensor = roi_align(features, rois, size, spatial_scale, sampling_ratio, aligned)
    return pooled


def nothing_compiled() -> str:
    """What `collect_env` of mmcv says of the compilers where there are no compiled operations."""
    return "n/a"


class _StandIn(ModuleType):
    """`mmcv._ext`: three operations; any other name is a function that says what is missing."""

    get_compiler_version = get_compiling_cuda_version = staticmethod(nothing_compiled)
    nms = staticmethod(nms)
    roi_align_forward = staticmethod(roi_align_forward)
    roi_align_backward = staticmethod(roi_align_backward)

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith("__"):
            raise AttributeError(f"module '{_NAME}' has no attribute '{name}'")

        def missing(*args: Any, **kwargs: Any) -> NoReturn:
            raise DualResError(f"the mmcv operation '{name}' {_HELP}")

        missing.__name__ = name
        return missing


def build() -> ModuleType:
    """The stand-in as a module of its own, whatever `mmcv._ext` is."""
    return _StandIn(_NAME, __doc__)


class _StandInLoader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return build()

    def exec_module(self, module: ModuleType) -> None:
        logger.warning(
            "mmcv has no compiled operations here: nms and roi_align run on torchvision, others raise an "
            "error when called. docs/hosts.md says how to compile mmcv (`make mmcv` in a checkout)."
        )
        mmdet_key.watch()


class _StandInFinder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return find_spec(fullname)


def find_spec(name: str) -> ModuleSpec | None:
    """The spec of the stand-in if `name` is `mmcv._ext`, else None.

    mmengine asks for the `__spec__` of `mmcv._ext`, so a module object in `sys.modules` alone is not enough.
    """
    return ModuleSpec(name, _StandInLoader(), origin=__file__) if name == _NAME else None


def install() -> bool:
    """Make `import mmcv._ext` find the stand-in if nothing else provides it. Call it before importing mmdet.

    Returns:
        True if `mmcv._ext` is, or will be, the stand-in; False if mmcv has compiled operations (they are left
        alone) or if there is no mmcv at all.
    """
    if _NAME in sys.modules:
        return isinstance(sys.modules[_NAME], _StandIn)
    mmcv = importlib.util.find_spec("mmcv")
    if mmcv is None or PathFinder.find_spec(_NAME, mmcv.submodule_search_locations) is not None:
        return False
    if not any(isinstance(finder, _StandInFinder) for finder in sys.meta_path):
        sys.meta_path.append(_StandInFinder())
    return True
