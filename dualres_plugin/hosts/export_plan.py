"""What an adapter tells the exporter about its detector."""

from __future__ import annotations

from dataclasses import dataclass

from dualres_plugin.common.card import Postprocess, Preprocess


@dataclass(frozen=True)
class ExportPlan:
    """How a detector becomes a graph.

    Attributes:
        preprocess: what the runtime does before.
        postprocess: what it does after.
        scale: low / high ratio.
        stride: sizes are multiples of it, in pixels.
        dynamic: one traced network serves any input size, which `cond` and `resize` need.
        antialias: the low input is averaged, not sampled.
        fit: ((shortest, longest) side at high, the same at low) where the graph itself scales the photo, by
            torchvision's rule; None where `images` comes in at the high size.
        stretch: ((height, width) at high, the same at low) where the graph stretches the photo to these.
    """

    preprocess: Preprocess
    postprocess: Postprocess
    scale: float
    stride: int
    dynamic: bool = True
    antialias: bool = False
    fit: tuple[tuple[int, int], tuple[int, int]] | None = None
    stretch: tuple[tuple[int, int], tuple[int, int]] | None = None

    @property
    def scales_photos(self) -> bool:
        """`images` is the photo as it is."""
        return bool(self.fit or self.stretch)
