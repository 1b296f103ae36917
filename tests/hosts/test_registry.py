"""Which adapter drives a detector, and what is said where none does."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest
import torch

from dualres_plugin.common.errors import DualResError
from dualres_plugin.hosts.registry import (
    ENTRY_POINT_GROUP,
    adapt,
    adapter_class,
    installed_adapters,
    load_detector,
    unwrapped,
)
from tests.fakes import FakeAdapter


def test_objects_without_an_adapter() -> None:
    # Asking every installed host would import them all.
    points = {"torchvision": installed_adapters()["torchvision"]}
    with pytest.raises(DualResError, match=r"no adapter for builtins\.dict\. Installed adapters: torchvision"):
        adapt({}, points=points)
    with pytest.raises(DualResError, match="no adapter for"):
        adapt(torch.nn.Linear(2, 2), points=points)
    host = FakeAdapter()
    assert adapt(host) is host


def test_a_host_that_is_missed_only_when_a_detector_is_built() -> None:
    class Lazy(FakeAdapter):
        @classmethod
        def from_spec(cls, spec: str, **options: str) -> FakeAdapter:
            raise ModuleNotFoundError("No module named 'ultralytics'")

    with pytest.raises(DualResError, match=r'not installed.*pip install "dualres-plugin\[ultralytics\]"'):
        load_detector("nope.pt", find=lambda name: Lazy)


def test_unknown_detectors() -> None:
    with pytest.raises(DualResError, match=r"unknown host 'tensorflow'\. Installed adapters: .*torchvision"):
        load_detector("tensorflow:x")
    for spec in ("detector", "model.pth", ""):
        with pytest.raises(DualResError, match="Write HOST:NAME"):
            load_detector(spec)
    with pytest.raises(DualResError, match=r"'model\.onnx' is an exported model"):
        load_detector("model.onnx")
    with pytest.raises(DualResError, match=r"unknown torchvision detector 'nothing'\. Known: .*retinanet"):
        load_detector("torchvision:nothing")
    with pytest.raises(DualResError, match=r"unknown option\(s\) \['colour'\]"):
        load_detector("torchvision:ssdlite320_mobilenet_v3_large,colour=red")
    with pytest.raises(DualResError, match="would have random weights"):
        load_detector("torchvision:ssdlite320_mobilenet_v3_large")
    with pytest.raises(DualResError, match=r"'none\.pth' do not exist"):
        load_detector("torchvision:ssdlite320_mobilenet_v3_large,weights=none.pth")
    with pytest.raises(DualResError, match="num_classes=many is not a number"):
        load_detector("torchvision:ssdlite320_mobilenet_v3_large,num_classes=many")


def test_a_host_that_is_not_installed_says_how_to_install_it() -> None:
    point = EntryPoint("ultralytics", "no_such_package_at_all:Adapter", ENTRY_POINT_GROUP)
    with pytest.raises(DualResError, match=r'Install it with: pip install "dualres-plugin\[ultralytics\]"'):
        adapter_class("ultralytics", {"ultralytics": point})


def test_what_torch_wraps_around_a_detector_is_taken_off(caplog: pytest.LogCaptureFixture) -> None:
    net = torch.nn.Linear(2, 2)
    assert unwrapped(net) is net and unwrapped("x") == "x" and not caplog.messages
    assert unwrapped(torch.compile(net, backend="eager")) is net
    assert unwrapped(torch.nn.DataParallel(torch.compile(net, backend="eager"))) is net
    assert "routed without its DataParallel" in caplog.text
