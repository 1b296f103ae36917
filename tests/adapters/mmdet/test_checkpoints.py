"""The config inside a checkpoint is read, never run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("mmdet", reason="mmdet is not installed")

from dualres_plugin.adapters.mmdet import export_router
from dualres_plugin.adapters.mmdet.checkpoints import read_assignment
from dualres_plugin.common.errors import DualResError
from dualres_plugin.router.network import ResolutionRouter
from tests.router.helpers import tiny

GOOD = "model = dict(type='DualResDetector', router=dict(backbone='tiny', input_size=32))\n"


def checkpoint(folder: Path, config: str, router: ResolutionRouter) -> Path:
    state = {f"router.{key}": value for key, value in router.state_dict().items()}
    quantiles = torch.tensor([0.0, 1.0], dtype=torch.float64)
    torch.save({"meta": {"cfg": config}, "state_dict": {**state, "score_quantiles": quantiles}}, folder / "a.pth")
    return folder / "a.pth"


def test_plain_values_and_dicts() -> None:
    text = "import os\na = 1\nmodel = dict(a=[1, (2, -3)], b={'c': None}, d=dict(e='f'))\nos.remove('x')\n"
    assert read_assignment(text, "model") == {"a": [1, (2, -3)], "b": {"c": None}, "d": {"e": "f"}}
    assert read_assignment(text, "nothing") is None


def test_the_router_is_written_and_the_rest_of_the_config_is_not_run(tmp_path: Path) -> None:
    router, marker = tiny(), tmp_path / "was_run"
    harmful = f"__import__('pathlib').Path({str(marker)!r}).touch()\n"
    detector = "dict(type='pathlib.Path.touch', self='x')"
    config = harmful + GOOD.replace("router=", f"detector={detector}, router=") + harmful
    found = ResolutionRouter.from_pretrained(export_router(checkpoint(tmp_path, config, router), tmp_path / "out"))
    assert all(torch.equal(a, b) for a, b in zip(found.state_dict().values(), router.state_dict().values()))
    assert found.quantiles == [0.0, 1.0] and not marker.exists()


@pytest.mark.parametrize(
    "value",
    [
        "dict(router=__import__('os').mkdir({marker!r}))",
        "dict(**open({marker!r}, 'w'))",
        "open({marker!r}, 'w')",
        "dict(",
    ],
)
def test_a_model_that_is_code_is_refused(value: str, tmp_path: Path) -> None:
    marker = tmp_path / "was_run"
    config = f"model = {value.format(marker=str(marker))}\n"
    with pytest.raises(DualResError, match="name the config file with --config"):
        export_router(checkpoint(tmp_path, config, tiny()), tmp_path / "out")
    assert not marker.exists() and not (tmp_path / "out").exists()


def test_damage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DualResError, match="no dualres key"):
        export_router(checkpoint(tmp_path, "model = dict(type='FCOS')\n", tiny()), tmp_path / "out")
    with pytest.raises(DualResError, match="do not fit"):
        export_router(checkpoint(tmp_path, GOOD, tiny(hidden=4)), tmp_path / "out")
    broken = tiny()
    with torch.no_grad():
        broken.head[0].weight.fill_(float("nan"))
    with pytest.raises(DualResError, match="NaN or infinite"):
        export_router(checkpoint(tmp_path, GOOD, broken), tmp_path / "out")
