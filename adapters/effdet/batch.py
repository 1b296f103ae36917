"""A batch as effdet's loaders make it: photos in the top left corner of a padded, normalised input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dualres_plugin.common.types import Targets, all_of
from dualres_plugin.hosts.contract import Shape


@dataclass(frozen=True)
class EffdetBatch:
    """Inputs, where the photos lie in them, and the way back to original pixels.

    Attributes:
        images: (B, 3, H, W) RGB, normalised with the network's mean and deviation.
        content: (height, width) of the photo inside each input, in pixels.
        img_scale: (B,) original pixels per input pixel; None when the host was called without `img_info`, and
            boxes then leave in pixels of the high input.
        img_size: (B, 2) width and height of the originals; None as above.
        stretch: vertical over horizontal scale: 1 unless the low size has another shape than the high one.
        targets: ground truth in original pixels, where known.
        low: made by `resize`.
    """

    images: Tensor
    content: list[tuple[int, int]]
    img_scale: Tensor | None = None
    img_size: Tensor | None = None
    stretch: float = 1.0
    targets: list[Targets] | None = None
    low: bool = False

    @property
    def shape(self) -> Shape:
        """(height, width) of the network input."""
        return int(self.images.shape[2]), int(self.images.shape[3])

    def take(self, index: Tensor) -> EffdetBatch:
        """The images `index`, (K,) int64, in that order."""
        chosen = index.tolist()
        return replace(
            self,
            images=self.images[index],
            content=[self.content[i] for i in chosen],
            img_scale=self.img_scale[index] if self.img_scale is not None else None,
            img_size=self.img_size[index] if self.img_size is not None else None,
            targets=[self.targets[i] for i in chosen] if self.targets is not None else None,
        )

    @classmethod
    def joined(cls, batches: Sequence[EffdetBatch]) -> EffdetBatch:
        """High batches of one shape, at least one, as one."""
        scales, sizes = [b.img_scale for b in batches], [b.img_size for b in batches]
        return replace(
            batches[0],
            images=torch.cat([b.images for b in batches]),
            content=[box for b in batches for box in b.content],
            img_scale=torch.cat([s for s in scales if s is not None]) if batches[0].img_scale is not None else None,
            img_size=torch.cat([s for s in sizes if s is not None]) if batches[0].img_size is not None else None,
            targets=all_of([b.targets for b in batches]),
        )

    def info(self) -> dict[str, Tensor | None] | None:
        """The host's `img_info`, whose one scale for both axes makes a stretched image a squeezed one."""
        if self.img_scale is None:
            return None
        size = self.img_size
        if size is not None and self.stretch != 1.0:
            size = size / torch.tensor([1.0, self.stretch], device=size.device)
        return {"img_scale": self.img_scale, "img_size": size}


def content_of(image: Tensor, fill: Tensor) -> tuple[int, int]:
    """How large a photo in the top left corner is: the last rows and columns of padding cut off.

    Args:
        image: (3, H, W), normalised.
        fill: (3, 1, 1) padding colour, normalised.

    Returns:
        (height, width) in pixels.
    """
    photo = ((image - fill).abs() > 1e-2).any(dim=0)
    rows, columns = photo.any(dim=1).nonzero(), photo.any(dim=0).nonzero()
    if not len(rows):  # a photo of the padding's colour
        return int(image.shape[1]), int(image.shape[2])
    return int(rows[-1]) + 1, int(columns[-1]) + 1
