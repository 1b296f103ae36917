"""Normalisation and padding colour of effdet networks, as their configurations give them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class InputColours:
    """What one network, or the two of a pair, expect of pixel values.

    Args:
        low: effdet's resolved input configuration of the low network: `mean`, `std`, `fill_color`.
        high: that of the high network.
    """

    def __init__(self, low: dict[str, Any], high: dict[str, Any]):
        self._low = low
        self._high = high

    def norm(self, images: Tensor, low: bool = False) -> tuple[Tensor, Tensor]:
        """(1, 3, 1, 1) mean and deviation of RGB in [0, 1], where `images` are."""
        settings = self._low if low else self._high
        mean, std = (torch.tensor(list(settings[k]), device=images.device) for k in ("mean", "std"))
        return mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1)

    def renormalised(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) from the high network's normalisation to the low one's, where a pair differs in it."""
        (low_mean, low_std), (mean, std) = self.norm(images, low=True), self.norm(images)
        if torch.equal(mean, low_mean) and torch.equal(std, low_std):
            return images
        return (images * std + mean - low_mean) / low_std

    def fill_colour(self) -> tuple[int, int, int]:
        """RGB of the host's padding, 0 to 255."""
        from effdet.data.transforms import resolve_fill_color

        r, g, b = resolve_fill_color(self._high["fill_color"], self._high["mean"])
        return int(r), int(g), int(b)

    def fill(self, images: Tensor) -> Tensor:
        """(3, 1, 1) the host's padding as it looks after normalisation, where `images` are."""
        mean, std = self.norm(images)
        colour = torch.tensor(self.fill_colour(), device=images.device).view(1, 3, 1, 1)
        return ((colour / 255 - mean) / std)[0]
