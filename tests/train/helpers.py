"""What the tests of training share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dualres_plugin.evaluate.scoring import score_profile
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train.config import TrainConfig
from dualres_plugin.train.ranks import spearman
from dualres_plugin.train.train import train_router
from tests.fakes import brightness

QUICK = TrainConfig(input_size=16, epochs=4, batch=32, backbone="tiny@3", lr=1e-2, jitter=0.0)


def train(profiles: Profile | Sequence[Profile], config: TrainConfig = QUICK, **options: Any) -> ResolutionRouter:
    return train_router(profiles, config, progress=False, **options)


def order(router: ResolutionRouter, profile: Profile) -> float:
    return spearman(score_profile(router, profile), brightness(profile))
