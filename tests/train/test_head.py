"""A head on a frozen backbone."""

from __future__ import annotations

from dataclasses import replace

import torch

from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter
from tests.train.helpers import QUICK, order, train


def test_a_frozen_backbone_learns_it_too_and_stays(profile: Profile, unseen: Profile) -> None:
    config = replace(QUICK, train_backbone=False, epochs=30)
    torch.manual_seed(config.seed)
    before = ResolutionRouter(backbone="tiny@3", input_size=16).backbone.state_dict()
    router = train(profile, config)
    assert order(router, unseen) > 0.9
    assert all(torch.equal(v, before[k]) for k, v in router.backbone.state_dict().items())
