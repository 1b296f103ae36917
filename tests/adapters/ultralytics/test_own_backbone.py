"""A router on the detector's own backbone: rebuilt from its folder, without the detector."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("ultralytics", reason="Ultralytics is not installed")

from dualres_plugin.common.errors import DualResError
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.registry import adapt
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train.start import own_backbone_router
from tests.shared import ROOT


@pytest.fixture(scope="module")
def adapter() -> HostAdapter:
    from ultralytics import YOLO

    torch.manual_seed(0)
    return adapt(YOLO("yolo11n.yaml", verbose=False))


def test_scores_survive_saving_and_loading(adapter: HostAdapter, tmp_path: Path) -> None:
    router = own_backbone_router(adapter).eval()
    loaded = ResolutionRouter.from_pretrained(router.save(tmp_path / "router"))
    thumbs = torch.rand(3, 3, 128, 128)
    with torch.no_grad():
        assert torch.equal(router(thumbs), loaded(thumbs))
        assert router(thumbs).std() > 0


def test_features_are_the_detectors_own(adapter: HostAdapter) -> None:
    router = own_backbone_router(adapter).eval()
    x = torch.rand(1, 3, 128, 128)
    net = adapter.net.eval()
    y = x
    with torch.no_grad():
        for block in list(net.model)[: len(net.yaml["backbone"])]:
            y = block(y)
        features = router.features(x)
    torch.testing.assert_close(features[:, -y.shape[1] :], y.mean(dim=(2, 3)))


def test_leaves_the_detector_alone_and_costs_little(adapter: HostAdapter) -> None:
    router = own_backbone_router(adapter)
    with torch.no_grad():
        for p in router.parameters():
            p.zero_()
    assert any(p.abs().sum() > 0 for p in adapter.net.parameters())
    assert router.gmacs() < 0.08


def test_other_hosts_say_that_they_do_not_offer_it() -> None:
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    detector = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    with pytest.raises(DualResError, match="does not offer"):
        own_backbone_router(adapt(detector))


def test_a_router_that_brings_the_host_along_leaves_it_whole(adapter: HostAdapter, tmp_path: Path) -> None:
    """Its body is first built without memory; what Ultralytics makes once, on import, must be made for real."""
    own_backbone_router(adapter, 64).save(tmp_path / "router")
    code = (
        "import sys, numpy\n"
        "from dualres_plugin import ResolutionRouter\n"
        "ResolutionRouter.from_pretrained(sys.argv[1])\n"
        "from ultralytics import YOLO\n"
        "print(len(YOLO('yolov8n.yaml').predict(numpy.zeros((64, 64, 3), 'uint8'), imgsz=64, verbose=False)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "router")], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0 and done.stdout.strip().endswith("1"), done.stderr[-2000:]
