"""Everything needed to rebuild a router before its weights are loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CUSTOM = "custom"  # the backbone of a router that was built around a module given by object


@dataclass
class RouterConfig:
    """Everything needed to rebuild a router before its weights are loaded.

    Attributes:
        backbone: a name that `backbones.build_backbone` knows, or "custom" for a module given by object.
        input_size: side S of the square thumbnail in pixels.
        pool: blocks whose averaged output feeds the head; empty is the last block, as in the paper.
        hidden: width of a hidden layer in the head; 0 is one linear unit, as in the paper.
        mean, std: normalisation of RGB in [0, 1].
        description: for a backbone taken from a detector: what its adapter needs to rebuild it; `backbone` is
            the adapter's name then.
    """

    backbone: str = "mobilenet_v3_large"
    input_size: int = 128
    pool: list[int] = field(default_factory=list)
    hidden: int = 0
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    description: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as `router.json` has them."""
        return asdict(self)
