"""Router scores from stored thumbnails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.photo import router_images_of
from dualres_plugin.common.resize import make_thumbnails
from dualres_plugin.evaluate.scoring import score_profile
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter
from tests.evaluate.helpers import bright_router
from tests.fakes import brightness, make_profile, photo


def test_scores_of_a_profile_are_those_of_its_thumbnails(profile: Profile) -> None:
    assert np.allclose(score_profile(bright_router(), profile, batch=7), brightness(profile), atol=0.01)
    rows = np.array([5, 1])
    assert np.allclose(score_profile(bright_router(), profile, rows), brightness(profile)[rows], atol=0.01)


def test_a_router_that_looks_closer_than_the_profile(profile: Profile) -> None:
    with pytest.raises(DualResError, match=r"32 px thumbnails.* stores 16 px: profile again with --thumbnail 32"):
        score_profile(bright_router(32), profile)


def test_a_stored_thumbnail_scores_like_the_photo(tmp_path: Path) -> None:
    """Thumbnails are stored larger than most routers look, and shrunk twice; the score has to stay the same."""
    torch.manual_seed(0)
    router = ResolutionRouter(backbone="tiny", input_size=32).eval()
    with torch.no_grad():
        router.head[0].weight.mul_(100)
    pictures = [np.asarray(Image.fromarray(photo(i, (90, 120)))) for i in range(30)]
    thumbs = (make_thumbnails(router_images_of(pictures), 64) * 255).round().byte().numpy()
    profile = make_profile(tmp_path, [{"thumbnail": t} for t in thumbs], thumbnail_size=64)
    live, stored = router.score(router_images_of(pictures)).numpy(), score_profile(router, profile)
    assert np.abs(live - stored).max() < 0.15 * live.std()
