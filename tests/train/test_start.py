"""The router that a training starts from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from dualres_plugin.common.errors import DualResError
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train.start import new_router
from tests.train.helpers import QUICK, order, train


def test_a_given_router_is_trained_on(profile: Profile, unseen: Profile) -> None:
    torch.manual_seed(0)
    mine = ResolutionRouter(backbone=nn.Conv2d(3, 4, 3, 2), input_size=16)
    router = train(profile, replace(QUICK, epochs=30), router=mine)
    assert router is mine and order(router, unseen) > 0.9


@pytest.mark.parametrize("backbone", ["default", "small", "detector:yolo11n.pt", "tiny@3"])
def test_weights_that_are_of_no_use_or_not_there(backbone: str) -> None:
    message = "do not exist" if backbone == "tiny@3" else f"are of no use with backbone '{backbone}'"
    with pytest.raises(DualResError, match=message):
        new_router(replace(QUICK, backbone=backbone, weights="missing.pth"))
