"""Everything needed to rebuild a router before its weights are loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from pydantic import Field, with_config

from dualres_plugin.common.files.schema import GATE, Int, Number, PlainDict

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CUSTOM = "custom"  # the backbone of a router that was built around a module given by object
SIDES = (16, 2048)  # pixels: what a thumbnail's side may be
WIDEST = 16_384  # of the head's hidden layer

Deviation = Annotated[float, Field(strict=True, ge=1e-6)]  # what is divided by


@with_config(GATE)
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

    backbone: Annotated[str, Field(min_length=1, max_length=200)] = "mobilenet_v3_large"
    input_size: Annotated[Int, Field(ge=SIDES[0], le=SIDES[1])] = 128
    pool: Annotated[list[Int], Field(max_length=1000)] = field(default_factory=list)
    hidden: Annotated[Int, Field(ge=0, le=WIDEST)] = 0
    mean: tuple[Number, Number, Number] = IMAGENET_MEAN
    std: tuple[Deviation, Deviation, Deviation] = IMAGENET_STD
    description: PlainDict = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as `router.json` has them."""
        return asdict(self)
