"""What the tests of evaluation share."""

from __future__ import annotations

import numpy as np
import torch

from dualres_plugin.evaluate.evaluation import (
    evaluate_scores,
)
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter

N = 40


def quick(profile: Profile, scores: np.ndarray, seed: int = 0):  # type: ignore[no-untyped-def]
    return evaluate_scores(profile, scores, 0.1, bootstrap=20, permutations=4, seed=seed)


class Bright(torch.nn.Module):
    """Feature: how bright the picture is."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(1, 2, 3))[:, None]


def bright_router(size: int = 16) -> ResolutionRouter:
    router = ResolutionRouter(backbone=Bright(), input_size=size, mean=(0.0,) * 3, std=(1.0,) * 3).eval()
    with torch.no_grad():
        router.head[0].weight.fill_(255.0)
        router.head[0].bias.zero_()
    return router
