"""What torchvision detectors take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from dualres_plugin.common.types import Targets, all_of


@dataclass(frozen=True)
class TorchvisionBatch:
    """What torchvision detectors take: images of any shapes.

    Attributes:
        images: B tensors (3, H_i, W_i), RGB in [0, 1], at their original size.
        size: short side of the high resolution in pixels; None is the detector's own.
        scale: 1 for high, the low / high ratio for low.
        targets: ground truth in original pixels, where known.
    """

    images: list[Tensor]
    size: int | None = None
    scale: float = 1.0
    targets: list[Targets] | None = None

    def take(self, index: Tensor) -> TorchvisionBatch:
        """The images `index`, (K,) int64, in that order."""
        chosen = index.tolist()
        targets = [self.targets[i] for i in chosen] if self.targets is not None else None
        return replace(self, images=[self.images[i] for i in chosen], targets=targets)

    @classmethod
    def joined(cls, batches: Sequence[TorchvisionBatch]) -> TorchvisionBatch:
        """High batches, at least one, as one."""
        images = [image for b in batches for image in b.images]
        return replace(batches[0], images=images, targets=all_of([b.targets for b in batches]))
