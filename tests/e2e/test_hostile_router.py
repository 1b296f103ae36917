"""The routers that would run code, through every command and every door of the API."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.models import get_model

from dualres_plugin.common.errors import DualResError
from dualres_plugin.predict.wrapper import DualResWrapper
from tests.corpus.routers import CRITICAL, damaged
from tests.e2e.cli import dualres
from tests.fakes import FakeAdapter, planted_profile, write_photos

NETWORK = "ssdlite320_mobilenet_v3_large"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    write_photos(folder / "photos", 2)
    planted_profile(folder / "profile", count=8)
    torch.save(get_model(NETWORK, weights=None, weights_backbone=None, num_classes=3).state_dict(), folder / "net.pth")
    return folder


@pytest.mark.parametrize("name", CRITICAL)
@pytest.mark.parametrize("command", ["predict", "evaluate", "swap", "export", "bench"])
def test_no_command_runs_what_a_router_holds(command: str, name: str, desk: Path, tmp_path: Path) -> None:
    marker, out = tmp_path / "was_run", ("--out", tmp_path / "out")
    router = damaged(tmp_path / "router", name, marker)
    detector = f"torchvision:{NETWORK},weights={desk / 'net.pth'},num_classes=3"
    words = {
        "predict": (detector, desk / "photos", "--router", router),
        "evaluate": (desk / "profile", router),
        "swap": (router, "--detector", detector, "--images", desk / "photos"),
        "export": (detector, "--router", router),
        "bench": (detector, "--router", router),
    }[command]
    done = dualres(command, *words, *out)
    assert "refused" in done.message or "backbone" in done.message
    assert not marker.exists()


@pytest.mark.parametrize("name", CRITICAL)
def test_no_door_of_the_api_runs_it(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "was_run"
    router = damaged(tmp_path / "router", name, marker)
    with pytest.raises(DualResError):
        DualResWrapper(FakeAdapter(), router=router)
    assert not marker.exists()


@pytest.mark.parametrize("name", CRITICAL)
def test_nor_does_an_mmdet_config(name: str, tmp_path: Path) -> None:
    pytest.importorskip("mmdet")
    from dualres_plugin.adapters.mmdet.settings import build_router

    marker = tmp_path / "was_run"
    with pytest.raises(DualResError):
        build_router(str(damaged(tmp_path / "router", name, marker)))
    assert not marker.exists()
