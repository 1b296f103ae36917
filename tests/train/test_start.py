"""The router that a training starts from."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter
from tests.train.helpers import QUICK, order, train


def test_a_given_router_is_trained_on(profile: Profile, unseen: Profile) -> None:
    torch.manual_seed(0)
    mine = ResolutionRouter(backbone=nn.Conv2d(3, 4, 3, 2), input_size=16)
    router = train(profile, replace(QUICK, epochs=30), router=mine)
    assert router is mine and order(router, unseen) > 0.9
