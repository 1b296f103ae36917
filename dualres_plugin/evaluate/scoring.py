"""Router scores of images whose thumbnails are stored: no photo is read, no detector runs."""

from __future__ import annotations

import numpy as np
import torch

from dualres_plugin.common.errors import DualResError
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter


def score_profile(
    router: ResolutionRouter, profile: Profile, rows: np.ndarray | None = None, batch: int = 64
) -> np.ndarray:
    """Router scores from a profile's stored thumbnails.

    Args:
        router: put into evaluation mode.
        profile: its thumbnails are used.
        rows: (n,) row numbers; all by default.
        batch: thumbnails per pass.

    Returns:
        (n,) scores, logits.

    Raises:
        DualResError: If the router looks at larger thumbnails than the profile stores.
    """
    side = int(profile.meta["thumbnail_size"])
    if router.config.input_size > side:
        raise DualResError(
            f"the router looks at {router.config.input_size} px thumbnails, profile '{profile.path}' stores {side} px: "
            f"profile again with --thumbnail {router.config.input_size}."
        )
    chosen = np.arange(len(profile)) if rows is None else rows
    scores = []
    router.eval()
    for start in range(0, len(chosen), batch):
        thumbs = profile.thumbnails(chosen[start : start + batch])
        scores.append(score_thumbnails(router, thumbs))
    return np.concatenate(scores) if scores else np.zeros(0)


@torch.no_grad()
def score_thumbnails(router: ResolutionRouter, thumbs: torch.Tensor) -> np.ndarray:
    """Router scores of thumbnails; they are shrunk to the router's input with antialiasing if it is smaller.

    Args:
        router: in evaluation mode.
        thumbs: (n, 3, T, T) uint8 RGB.

    Returns:
        (n,) float64 scores, logits.
    """
    x = thumbs.float() / 255
    size = router.config.input_size
    if x.shape[-1] != size:
        x = torch.nn.functional.interpolate(x, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    scores: np.ndarray = router(x.to(router.mean.device)).double().cpu().numpy()
    return scores
