"""Photos in memory: what one must look like, and what the router is given of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.blobs import ImageFile

if TYPE_CHECKING:  # the exported runtime reads photos without torch
    from torch import Tensor

    from dualres_plugin.common.types import RouterImages

MOST_TENSOR = 2.0  # resampling overshoots 1 a little; pixels from 0 to 255 are far above


@dataclass(frozen=True)
class SourceImage:
    """One image of a source.

    Attributes:
        name: file name, or `image12` / `video_000012` for arrays and frames.
        pixels: (H, W, 3) RGB uint8.
        path: what it was read from; None for arrays and frames.
    """

    name: str
    pixels: np.ndarray
    path: ImageFile | None = None

    def tensor(self) -> Tensor:
        """(3, H, W) RGB in [0, 1]."""
        import torch

        from dualres_plugin.common.resize import to_unit

        # Pixels straight from an image library may be read-only, which torch warns about.
        pixels = np.require(self.pixels, requirements=["C", "W"])
        return to_unit(torch.from_numpy(pixels).permute(2, 0, 1))


def check_photo(photo: np.ndarray) -> np.ndarray:
    """Return the photo if it is RGB uint8.

    Args:
        photo: should be (H, W, 3).

    Raises:
        DualResError: If it is not (H, W, 3) uint8, or empty.
    """
    if not isinstance(photo, np.ndarray):
        raise DualResError(f"an image must be a numpy array (H, W, 3) or a path, not {type(photo).__name__}.")
    if photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
        raise DualResError(f"an image must have the shape (H, W, 3), RGB; got {photo.shape}.")
    if photo.dtype != np.uint8:
        raise DualResError(f"an image must be uint8, 0 to 255; got {photo.dtype}. Convert it before.")
    return photo


def check_tensor(photo: Tensor) -> Tensor:
    """Return the photo if it is RGB in [0, 1].

    Args:
        photo: should be (3, H, W), floating.

    Raises:
        DualResError: If it is not (3, H, W), empty, whole numbers, or has values far above 1: read as [0, 1] these
            would be white.
    """
    if photo.ndim != 3 or photo.shape[0] != 3 or not photo.numel():
        raise DualResError(f"a tensor must have the shape (3, H, W), RGB; got {tuple(photo.shape)}.")
    if not photo.is_floating_point():
        raise DualResError(
            f"a tensor must be floating, RGB in [0, 1]; got {photo.dtype}. Divide it by 255, or give a uint8 array "
            "(H, W, 3)."
        )
    largest = float(photo.max())
    if largest > MOST_TENSOR:
        raise DualResError(f"a tensor must be RGB in [0, 1]; this one reaches {largest:g}. Divide it by 255.")
    return photo


def router_images_of(images: Sequence[np.ndarray]) -> RouterImages:
    """The router's input for photos without padding.

    Args:
        images: (H, W, 3) RGB uint8 each.

    Returns:
        One (3, H, W) tensor and content box per image; the whole picture is content.
    """
    from dualres_plugin.common.types import RouterImages

    tensors = [SourceImage("", image).tensor() for image in images]
    return RouterImages(tensors, [(0, 0, t.shape[2], t.shape[1]) for t in tensors])
