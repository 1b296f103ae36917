"""Normalisation and padding colour of effdet networks, as their configurations give them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class InputColours:
    """What one network, or the two of a pair, expect of pixel values.

    Args:
        high: effdet's resolved input configuration of the high network: `mean`, `std`, `fill_color`.
        low: that of the low network.
    """

    def __init__(self, high: dict[str, Any], low: dict[str, Any]):
        self._inputs = (high, low)

    def norm(self, images: Tensor, low: bool = False) -> tuple[Tensor, Tensor]:
        """(1, 3, 1, 1) mean and deviation of RGB in [0, 1], where `images` are."""
        settings = self._inputs[1 if low else 0]
        mean, std = (torch.tensor(list(settings[k]), device=images.device) for k in ("mean", "std"))
        return mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1)

    def renormalised(self, images: Tensor) -> Tensor:
        """From the high network's normalisation to the low one's, where a pair differs in it."""
        (mean, std), (low_mean, low_std) = self.norm(images), self.norm(images, low=True)
        if torch.equal(mean, low_mean) and torch.equal(std, low_std):
            return images
        return (images * std + mean - low_mean) / low_std

    def fill_colour(self) -> tuple[int, int, int]:
        """RGB of the host's padding, 0 to 255."""
        from effdet.data.transforms import resolve_fill_color

        r, g, b = resolve_fill_color(self._inputs[0]["fill_color"], self._inputs[0]["mean"])
        return int(r), int(g), int(b)

    def fill(self, images: Tensor) -> Tensor:
        """(3, 1, 1) the host's padding as it looks after normalisation."""
        mean, std = self.norm(images)
        colour = torch.tensor(self.fill_colour(), device=images.device).view(1, 3, 1, 1)
        return ((colour / 255 - mean) / std)[0]
