"""Router folders from strangers: refused with one message, and nothing in them is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dualres_plugin.common.errors import DualResError
from dualres_plugin.router.config import RouterConfig
from dualres_plugin.router.network import ResolutionRouter
from tests.corpus.routers import NAMES, damaged
from tests.router.helpers import tiny

HOST = {"activation": "ultralytics", "layer": "ultralytics", "mmdet": "mmdet", "timm": "timm"}


@pytest.mark.parametrize("name", NAMES)
def test_every_router_of_the_corpus_is_refused(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "was_run"
    folder = damaged(tmp_path / "router", name, marker)
    with pytest.raises(DualResError) as caught:
        ResolutionRouter.from_pretrained(folder)
    assert not marker.exists()
    assert len(str(caught.value)) < 1200 and "\n" not in str(caught.value)


def test_the_router_is_refused_before_its_memory_is_taken(tmp_path: Path) -> None:
    """Every number is allowed, and together they are 2.4 GB that the file's tensors do not hold."""
    pytest.importorskip("ultralytics")
    folder = tiny().save(tmp_path / "router")
    rows = [[-1, 1, "Conv", [8192, 3, 2]], [-1, 1, "Conv", [8192, 3, 2]]]
    meta = (folder / "router.json").read_text()
    meta = meta.replace('"backbone": "tiny"', '"backbone": "ultralytics"')
    text = str({"yaml": {"backbone": rows}, "layers": 2}).replace("'", '"')
    (folder / "router.json").write_text(meta.replace('"description": {}', f'"description": {text}'))
    with pytest.raises(DualResError, match="do not fit 'ultralytics'"):
        ResolutionRouter.from_pretrained(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": -4}, "hidden=-4 must be greater than or equal to 0"),
        ({"input_size": 8}, "input_size=8 must be greater"),
        ({"std": (0.0, 1.0, 1.0)}, "std.0=0.0 must be greater"),
        ({"mean": (float("nan"),) * 3}, "finite"),
        ({"pool": [12]}, "this backbone has 8 blocks"),
        ({"backbone": "timm:vit_tiny_patch16_224", "input_size": 64}, "timm:vit_tiny_patch16_224"),
        ({"backbone": "timm:hf-hub:a/b"}, "no model of that name"),
        ({"backbone": "fasterrcnn_resnet50_fpn"}, "unknown router backbone"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    if "timm" in str(settings):
        pytest.importorskip("timm")
    with pytest.raises(DualResError, match=message):
        ResolutionRouter(**{"backbone": "tiny", "input_size": 32, **settings})


def test_a_body_by_object_has_to_give_features() -> None:
    class Tokens(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(2)

    with pytest.raises(DualResError, match=r"not \(B, C\)"):
        ResolutionRouter(backbone=Tokens(), input_size=32)


def test_weights_of_a_body_are_finite(tmp_path: Path) -> None:
    state = tiny().backbone.state_dict()
    next(iter(state.values())).fill_(float("nan"))
    torch.save(state, tmp_path / "body.pth")
    with pytest.raises(DualResError, match="NaN or infinite"):
        tiny(weights=tmp_path / "body.pth")


def test_lists_are_taken_for_tuples() -> None:
    router = tiny(mean=[0.5, 0.5, 0.5], pool=(1, 7))
    assert router.config == RouterConfig("tiny", 32, [1, 7], 0, (0.5, 0.5, 0.5))
