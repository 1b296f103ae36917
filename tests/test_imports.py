"""The core imports no host, and little at all until it is used."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from importlib.util import find_spec

import pytest

import dualres_plugin
from tests.shared import ROOT

HOSTS = {"ultralytics", "mmdet", "mmengine", "mmcv", "effdet", "timm"}


def loaded_by(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter has loaded after some code."""
    code += "\nimport sys; print(' '.join({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": ""}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return set(done.stdout.splitlines()[-1].split())


def core_modules() -> list[str]:
    """Every module but the adapters, which are there to import hosts, and what lacks the packages of its extra."""
    found = pkgutil.walk_packages(dualres_plugin.__path__, "dualres_plugin.")
    missing = [] if find_spec("fastapi") and find_spec("prometheus_client") else ["dualres_plugin.serve."]
    left_out = ("dualres_plugin.adapters", *missing)
    return sorted(m.name for m in found if not m.name.startswith(left_out))


def test_the_package_alone_loads_not_even_torch() -> None:
    assert not loaded_by("import dualres_plugin") & (HOSTS | {"torch", "torchvision", "matplotlib", "pycocotools"})


def test_the_runtime_and_the_budget_load_no_torch() -> None:
    """An exported file runs on machines that have neither torch nor the detector's host; so does its server."""
    light = ("dualres_plugin.runtime", "dualres_plugin.budget", "dualres_plugin.serve")
    modules = [m for m in core_modules() if m.startswith(light)]
    assert {"dualres_plugin.runtime.session", "dualres_plugin.budget.calibration"} < set(modules)
    loaded = loaded_by(f"import {', '.join(modules)}\nfrom dualres_plugin.runtime import DualResSession")
    assert not loaded & (HOSTS | {"torch", "torchvision"})


def test_no_package_loads_torch_before_it_is_used() -> None:
    modules = core_modules()
    packages = sorted({m.rpartition(".")[0] for m in modules})
    assert "dualres_plugin.router" in packages
    assert not loaded_by("import " + ", ".join(packages)) & (HOSTS | {"torch", "torchvision"})


def test_all_core_modules_load_no_host() -> None:
    modules = core_modules()
    assert len(modules) > 20 and "dualres_plugin.cli.learn" in modules
    loaded = loaded_by("import " + ", ".join(modules))
    assert "torch" in loaded and not loaded & HOSTS


def test_the_command_line_shows_help_without_torch() -> None:
    code = "import sys; sys.argv = ['dualres', '--help']\nfrom dualres_plugin.cli.app import main\n"
    code += "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
    assert not loaded_by(code) & (HOSTS | {"torch", "torchvision"})


@pytest.mark.parametrize("host", ["torchvision"])
def test_an_adapter_loads_its_own_host_only(host: str) -> None:
    others = HOSTS - {host}
    assert not loaded_by(f"from dualres_plugin.hosts.registry import adapter_class\nadapter_class({host!r})") & others


def test_the_public_names_are_there() -> None:
    for name in dualres_plugin.__all__:
        assert getattr(dualres_plugin, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = dualres_plugin.nothing
