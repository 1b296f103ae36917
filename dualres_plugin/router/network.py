"""The resolution router: a thumbnail in, one score per image out (Eq. 3)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dualres_plugin.budget import calibration, ladder
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.schema import checked
from dualres_plugin.common.files.shipped import DEFAULT
from dualres_plugin.common.flops import gmacs
from dualres_plugin.common.modes import in_eval
from dualres_plugin.common.resize import make_thumbnails, resize_images, to_unit
from dualres_plugin.common.types import Decision, RouterImages
from dualres_plugin.common.weights import halved
from dualres_plugin.router.backbones import load_backbone_weights, named_backbone
from dualres_plugin.router.checkpoint import StoredRouter, check_tensors, read_checkpoint, write_checkpoint
from dualres_plugin.router.config import CUSTOM, RouterConfig

logger = logging.getLogger("dualres")


class ResolutionRouter(nn.Module):
    """Scores how much an image gains from the high resolution.

    Args:
        config: architecture; keyword arguments override its fields, so `ResolutionRouter(input_size=96)` works.
        backbone: a name, or a module (B, 3, S, S) -> (B, C) or (B, C, h, w) to use instead of a named one.
        weights: a local file with backbone weights; None leaves them random. Nothing is ever downloaded.

    Raises:
        DualResError: If a setting is unknown or out of range, the backbone is unknown or does not run at this size, or
            the weights do not fit.
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
            values["backbone"] = backbone if isinstance(backbone, str) else CUSTOM
        self.config = checked(RouterConfig, values, "router settings")
        if isinstance(backbone, nn.Module):
            self.backbone: nn.Module = backbone
        else:
            self.backbone = named_backbone(self.config)
        if weights is not None:
            load_backbone_weights(self.backbone, weights)
        self.register_buffer("mean", torch.tensor(self.config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(self.config.std).view(1, 3, 1, 1), persistent=False)
        width = self._feature_width()
        self.head = _head(width, self.config.hidden)
        self.quantiles: list[float] = []  # of the scores on calibration images, 0 to 100 %
        self.info: dict[str, Any] = {}  # what it was trained on and how well it does; goes into router.json

    def __repr__(self) -> str:
        # One line, also inside the hosts' own modules; the layers are in `.backbone` and `.head`.
        calibrated = "calibrated" if self.quantiles else "not calibrated"
        trained = ", ".join(str(p.get("detector")) for p in self.info.get("trained_on", []))
        name, size = self.config.backbone, self.config.input_size
        origin = f", trained on {trained}" if trained else ""
        return f"ResolutionRouter({name}, {size} px, {calibrated}{origin})"

    def _feature_width(self) -> int:
        size = self.config.input_size
        try:
            with torch.no_grad(), in_eval(self.backbone):
                found = self.features(torch.zeros(1, 3, size, size))
        except DualResError:
            raise
        except Exception as error:  # a body made for one size alone, or with more strides than pixels
            raise DualResError(
                f"router backbone '{self.config.backbone}' does not run on thumbnails of {size} px "
                f"({type(error).__name__}: {error}). Choose another input_size, or another backbone."
            ) from error
        if found.ndim != 2:
            raise DualResError(
                f"router backbone '{self.config.backbone}' gives {tuple(found.shape)}, not (B, C) or (B, C, h, w)."
            )
        return int(found.shape[1])

    def features(self, thumbnails: Tensor) -> Tensor:
        """What the head sees.

        Args:
            thumbnails: (B, 3, S, S) RGB in [0, 1].

        Returns:
            (B, C) pooled features.
        """
        y: Tensor = self.backbone((thumbnails - self.mean) / self.std)
        return y.mean(dim=(2, 3)) if y.ndim == 4 else y

    def forward(self, thumbnails: Tensor) -> Tensor:
        """Scores, with gradients: what a training calls.

        Args:
            thumbnails: (B, 3, S, S) RGB in [0, 1].

        Returns:
            (B,) logits; more means more gain expected from high.
        """
        out: Tensor = self.head(self.features(thumbnails)).squeeze(1)
        return out

    def thumbnails(self, batch: RouterImages) -> Tensor:
        """Cut every photo out of its padding and resize it with antialiasing.

        Args:
            batch: B images of a host, with their content boxes.

        Returns:
            (B, 3, S, S) RGB in [0, 1], on the router's device.
        """
        return make_thumbnails(batch, self.config.input_size).to(self.mean.device)

    @torch.no_grad()
    def score(self, batch: RouterImages) -> Tensor:
        """Score a host's batch, without gradients and with batch norm in eval.

        Args:
            batch: B images of a host, with their content boxes.

        Returns:
            (B,) scores.
        """
        if not len(batch.content):
            return torch.zeros(0)
        with in_eval(self):
            scores: Tensor = self(self.thumbnails(batch))
        return scores

    @torch.no_grad()
    def score_thumbnails(self, thumbnails: Tensor, batch: int = 128) -> Tensor:
        """Score stored thumbnails, without gradients and with batch norm in eval.

        Args:
            thumbnails: (n, 3, T, T) uint8 RGB; shrunk with antialiasing where T is not the router's S.
            batch: thumbnails per pass.

        Returns:
            (n,) scores.
        """
        if not len(thumbnails):
            return torch.zeros(0)
        side, device = (self.config.input_size, self.config.input_size), self.mean.device
        with in_eval(self):
            scores = [self(resize_images(to_unit(part), side).to(device)) for part in thumbnails.split(batch)]
        return torch.cat(scores)

    def decide(self, batch: RouterImages, threshold: float | tuple[float, ...]) -> Decision:
        """Route a batch: high where the score is above the threshold (Eq. 3).

        Args:
            batch: B images of a host, with their content boxes.
            threshold: score above which an image goes high; of more than two sizes those between them, descending.
        """
        thresholds = threshold if isinstance(threshold, tuple) else (threshold,)
        return Decision.by_thresholds(self.score(batch), thresholds)

    # -- calibration ---------------------------------------------------------------------------------------

    def calibrate(self, scores: Sequence[float] | np.ndarray | Tensor) -> None:
        """Remember the score distribution on images like those to come; thresholds are read from it.

        Args:
            scores: (n,) scores of the calibration images.

        Raises:
            DualResError: If there are no scores or some are not finite.
        """
        self.quantiles = calibration.score_quantiles(np.asarray(scores, dtype=np.float64))

    def threshold_for(self, target_high_rate: float) -> float:
        """The threshold that sends a share of the calibration images high.

        Args:
            target_high_rate: the share, 0 to 1; both ends are exact.

        Raises:
            DualResError: If the rate is outside [0, 1], or the router was never calibrated.
        """
        return calibration.threshold_for(target_high_rate, self.quantiles)

    def thresholds_for(self, shares: Sequence[float]) -> tuple[float, ...]:
        """The thresholds between sizes that send these shares of the calibration images to them.

        Args:
            shares: (K,) largest size first, 1 in all.

        Returns:
            K-1 thresholds, descending.

        Raises:
            DualResError: If the router was never calibrated.
        """
        return ladder.thresholds_for(shares, self.quantiles)

    def rate_of(self, threshold: float) -> float:
        """The share of the calibration images that a threshold sends high.

        Args:
            threshold: a score; infinities are the exact ends.

        Returns:
            0 to 1.
        """
        return calibration.rate_of(threshold, self.quantiles)

    def gmacs(self) -> float:
        """Compute of one score in GMACs."""
        size = self.config.input_size
        return gmacs(self, torch.zeros(1, 3, size, size, device=self.mean.device))

    # -- checkpoint ----------------------------------------------------------------------------------------

    def save(self, path: Path | str, half: bool = False) -> Path:
        """Write `router.safetensors` and `router.json`; both appear together or not at all.

        Args:
            path: the folder.
            half: store the large tensors in 16 bits, which halves the file and moves the scores by about 1e-4; they
                are computed with in 32 bits all the same. Calibrate anew where that matters.

        Returns:
            The folder.

        Raises:
            DualResError: If it cannot be written.
        """
        tensors = halved(self.state_dict()) if half else self.state_dict()
        stored = StoredRouter(self.config, tensors, self.quantiles, self.info)
        return write_checkpoint(path, stored, self.gmacs())

    @classmethod
    def from_pretrained(cls, path: Path | str, backbone: nn.Module | None = None) -> ResolutionRouter:
        """Load a router folder, or one that ships by its name, "default" or "small".

        Args:
            path: the folder that `save` wrote, or one of its two files.
            backbone: the module to use when the router was built around one given by object.

        Returns:
            The router in eval mode, with its calibration.

        Raises:
            DualResError: If files are missing, edited or of another version, the description asks for anything but a
                known network, or tensors do not fit or are not finite.
        """
        stored = read_checkpoint(path)
        if stored.config.backbone == CUSTOM and backbone is None:
            raise DualResError(
                f"router '{path}' was built around a backbone given by object: "
                "call ResolutionRouter.from_pretrained(path, backbone=module)."
            )
        if stored.config.description:  # a body of any size: without memory first, to see that these are its tensors
            with torch.device("meta"):
                check_tensors(cls(stored.config).state_dict(), stored.tensors, path, stored.config.backbone)
        router = cls(stored.config, backbone=backbone)
        check_tensors(router.state_dict(), stored.tensors, path, stored.config.backbone)
        router.load_state_dict(stored.tensors)
        router.quantiles, router.info = stored.quantiles, stored.info
        if router.quantiles and router.quantiles[0] == router.quantiles[-1]:
            logger.warning(
                "router '%s' gave all its calibration images the same score: it cannot tell them apart, and sends all "
                "of them high or none. Train it on more, or other, images, or calibrate it anew: dualres swap.",
                path,
            )
        return router.eval()


def load_default_router() -> ResolutionRouter:
    """The shipped router, with a message of what it is: for callers whose user named none."""
    router = ResolutionRouter.from_pretrained(DEFAULT)
    logger.warning(
        "no router was named, so the default one decides. It was trained on %s and knows neither your detector nor "
        "your photos. Fit your own: model.fit(data=..., images=...), or dualres profile and train. Without labels, "
        "adapt its threshold: dualres swap default --detector ... --images ... --out ...",
        router.info.get("summary", "COCO photos"),
    )
    return router


def _head(width: int, hidden: int) -> nn.Sequential:
    if not hidden:
        return nn.Sequential(nn.Linear(width, 1))
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 1))
