"""A router on an mmdet detector's own backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("mmdet", reason="mmdet is not installed")

from dualres_plugin.common.errors import DualResError
from dualres_plugin.hosts.registry import adapt
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train.start import own_backbone_router
from tests.adapters.mmdet.helpers import build, family_config


def detector_of(name: str) -> Any:
    cfg = family_config(name)
    detector = build(cfg.model)
    detector.cfg = cfg  # as `init_detector` leaves it
    return detector


@pytest.mark.parametrize("family", ["yolox", "rtmdet", "faster_rcnn"])
def test_features_are_the_detectors_own_and_survive_saving(family: str, tmp_path: Path) -> None:
    """CSPDarknet, CSPNeXt and ResNet; BGR, normalised or not."""
    detector = detector_of(family)
    router = own_backbone_router(adapt(detector), input_size=64).eval()
    rgb = torch.rand(2, 3, 64, 64)
    given = detector.data_preprocessor({"inputs": list((rgb * 255).flip(1)), "data_samples": None})["inputs"]
    with torch.no_grad():
        wanted = detector.backbone(given.float())[-1].mean(dim=(2, 3))
        found = router.features(rgb)[:, -wanted.shape[1] :]
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    loaded = ResolutionRouter.from_pretrained(router.save(tmp_path / "router"))
    with torch.no_grad():
        assert torch.equal(loaded(rgb), router(rgb))


def test_a_detector_without_its_config_says_so() -> None:
    detector = build(family_config("yolox").model)
    with pytest.raises(DualResError, match="init_detector"):
        own_backbone_router(adapt(detector))
