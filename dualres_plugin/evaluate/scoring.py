"""Router scores of images whose thumbnails are stored: no photo is read, no detector runs."""

from __future__ import annotations

import numpy as np

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
    for start in range(0, len(chosen), batch):
        thumbs = profile.thumbnails(chosen[start : start + batch])
        scores.append(router.score_thumbnails(thumbs).cpu().double().numpy())
    return np.concatenate(scores) if scores else np.zeros(0)
