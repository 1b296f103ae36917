"""The resolution router: a thumbnail in, one score per image out (Eq. 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.flops import gmacs
from dualres_plugin.common.modes import in_eval
from dualres_plugin.common.types import Decision, RouterImages
from dualres_plugin.router.backbones import PooledStages, build_backbone, load_backbone_weights

if TYPE_CHECKING:
    from dualres_plugin.hosts.contract import HostAdapter

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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
        return asdict(self)


class ResolutionRouter(nn.Module):
    """Scores how much an image gains from the high resolution.

    Args:
        config: architecture; keyword arguments override its fields, so `ResolutionRouter(input_size=96)` works.
        backbone: a name, or a module (B, 3, S, S) -> (B, C) or (B, C, h, w) to use instead of a named one.
        weights: a local file with backbone weights; None leaves them random. Nothing is ever downloaded.

    Raises:
        DualResError: If the backbone is unknown or the weights do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        config: RouterConfig | None = None,
        *,
        backbone: nn.Module | str | None = None,
        weights: Path | str | None = None,
        **overrides: Any,
    ):
        super().__init__()
        values = {**(config or RouterConfig()).to_dict(), **overrides}
        unknown = set(values) - set(RouterConfig.__dataclass_fields__)
        if unknown:
            raise DualResError(
                f"unknown router setting(s) {sorted(unknown)}; known: {sorted(RouterConfig.__dataclass_fields__)}."
            )
        if backbone is not None:
            values["backbone"] = backbone if isinstance(backbone, str) else "custom"
        self.config = RouterConfig(**values)
        if self.config.input_size < 16:
            raise DualResError(f"router input_size {self.config.input_size} is too small: use 32 to 320 pixels.")
        if isinstance(backbone, nn.Module):
            self.backbone: nn.Module = backbone
        else:
            self.backbone = _named_backbone(self.config)
        if weights is not None:
            load_backbone_weights(self.backbone, weights)
        self.register_buffer("mean", torch.tensor(self.config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(self.config.std).view(1, 3, 1, 1), persistent=False)
        width = self._feature_width()
        self.head = _head(width, self.config.hidden)
        self.quantiles: list[float] = []  # of the scores on calibration images, 0 to 100 %
        self.info: dict[str, Any] = {}  # what it was trained on and how well it does; goes into router.json

    def _feature_width(self) -> int:
        size = self.config.input_size
        with torch.no_grad(), in_eval(self.backbone):
            return int(self.features(torch.zeros(1, 3, size, size)).shape[1])

    def features(self, thumbnails: Tensor) -> Tensor:
        """(B, 3, S, S) RGB in [0, 1] -> (B, C) pooled features."""
        y: Tensor = self.backbone((thumbnails - self.mean) / self.std)
        return y.mean(dim=(2, 3)) if y.ndim == 4 else y

    def forward(self, thumbnails: Tensor) -> Tensor:
        """(B, 3, S, S) RGB in [0, 1] -> (B,) scores, logits: more means more gain expected from high."""
        out: Tensor = self.head(self.features(thumbnails)).squeeze(1)
        return out

    def thumbnails(self, batch: RouterImages) -> Tensor:
        """Cut every photo out of its padding and resize it to S x S with antialiasing: (B, 3, S, S)."""
        return make_thumbnails(batch, self.config.input_size).to(self.mean.device)

    @torch.no_grad()
    def score(self, batch: RouterImages) -> Tensor:
        """(B,) scores of a host's batch, without gradients and with batch norm in eval."""
        if not len(batch.content):
            return torch.zeros(0)
        with in_eval(self):
            scores: Tensor = self(self.thumbnails(batch))
        return scores

    def decide(self, batch: RouterImages, threshold: float) -> Decision:
        """Route a batch: high where the score is above the threshold (Eq. 3)."""
        scores = self.score(batch)
        return Decision(scores, scores > threshold, threshold)

    # -- calibration ---------------------------------------------------------------------------------------

    def calibrate(self, scores: Sequence[float] | np.ndarray | Tensor) -> None:
        """Remember the score distribution on images like those to come; thresholds are read from it.

        Raises:
            DualResError: If there are no scores or some are not finite.
        """
        values = np.asarray(scores, dtype=np.float64).reshape(-1)
        if not len(values) or not np.isfinite(values).all():
            raise DualResError("calibration needs at least one image, and finite scores.")
        self.quantiles = [float(q) for q in np.quantile(values, np.linspace(0, 1, 101))]

    def threshold_for(self, target_high_rate: float) -> float:
        """The threshold that sends `target_high_rate` of the calibration images high.

        0 and 1 are exact: minus and plus infinity, so that no image, or every image, goes high.

        Raises:
            DualResError: If the rate is outside [0, 1], or the router was never calibrated.
        """
        if not 0.0 <= target_high_rate <= 1.0:
            raise DualResError(f"target_high_rate={target_high_rate:g} must lie between 0 (all low) and 1 (all high).")
        if target_high_rate in (0.0, 1.0):
            return float("inf") if target_high_rate == 0 else float("-inf")
        if not self.quantiles:
            raise DualResError(
                "this router has no calibration, so a target_high_rate means nothing yet. Call `fit`, run "
                "`dualres swap` on unlabelled images of yours, or give a threshold."
            )
        return float(np.interp(1.0 - target_high_rate, np.linspace(0, 1, len(self.quantiles)), self.quantiles))

    def rate_of(self, threshold: float) -> float:
        """The share of the calibration images whose score is above a threshold."""
        if np.isinf(threshold):
            return float(threshold < 0)
        return float(1.0 - np.interp(threshold, self.quantiles, np.linspace(0, 1, len(self.quantiles))))

    def gmacs(self) -> float:
        """Compute of one score in GMACs."""
        size = self.config.input_size
        return gmacs(self, torch.zeros(1, 3, size, size, device=self.mean.device))

    # -- checkpoint ----------------------------------------------------------------------------------------

    def save(self, path: Path | str) -> Path:
        """Write `router.safetensors` and `router.json` into the folder `path`."""
        from dualres_plugin.router.checkpoint import save_router

        return save_router(self, path)

    @classmethod
    def from_pretrained(cls, path: Path | str, backbone: nn.Module | None = None) -> ResolutionRouter:
        """Load a router folder.

        Args:
            path: the folder that `save` wrote.
            backbone: the module to use when the router was built around one given by object.

        Raises:
            DualResError: If files are missing, of another version, or tensors do not fit.
        """
        from dualres_plugin.router.checkpoint import load_router

        return load_router(path, backbone)


def own_backbone_router(adapter: HostAdapter[Any], input_size: int = 128) -> ResolutionRouter:
    """A router whose frozen features are the detector's own backbone at thumbnail size, every stage pooled.

    Raises:
        DualResError: If the detector's adapter does not offer its backbone.
    """
    blocks, description = adapter.router_backbone()
    # Early stages see texture and small things, late ones objects. A list of stages is pooled after each of them but
    # the stem, a list of single layers (twice as long) at every other one.
    step = 1 if len(blocks) <= 6 else 2
    pool = sorted({*range(step, len(blocks), step), len(blocks) - 1})
    config = RouterConfig(adapter.name, input_size, pool, 0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), description)
    router = ResolutionRouter(config)
    for own, given in zip(router.backbone.blocks, blocks):  # type: ignore[arg-type]
        own.load_state_dict(given.state_dict())
    return router


def _named_backbone(config: RouterConfig) -> nn.Module:
    if config.description:
        from dualres_plugin.hosts.registry import adapter_class

        return PooledStages(adapter_class(config.backbone).build_backbone(config.description), config.pool)
    return build_backbone(config.backbone, config.pool)


def _head(width: int, hidden: int) -> nn.Sequential:
    if not hidden:
        return nn.Sequential(nn.Linear(width, 1))
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 1))


def make_thumbnails(batch: RouterImages, size: int) -> Tensor:
    """The canonical router input: content only, RGB in [0, 1], antialiased bilinear to (B, 3, size, size)."""
    rows = []
    for image, (x0, y0, x1, y1) in zip(batch.images, batch.content):
        photo = image[None, :, y0:y1, x0:x1].float()
        rows.append(
            F.interpolate(photo, size=(size, size), mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)
        )
    return torch.cat(rows) if rows else torch.zeros(0, 3, size, size)
