"""Bodies by name, and weights of theirs from local files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dualres_plugin.common.errors import DualResError
from dualres_plugin.router.backbones import build_backbone, load_backbone_weights
from dualres_plugin.router.network import ResolutionRouter
from tests.router.helpers import pickle_bomb, tiny


def test_a_shorter_backbone_costs_less_and_pools_more_blocks() -> None:
    assert tiny(backbone="tiny@4").gmacs() < tiny().gmacs()
    both = build_backbone("tiny", pool=[3, 7])
    image = torch.rand(2, 3, 32, 32)
    alone = [build_backbone("tiny", pool=[i])(image).shape[1] for i in (3, 7)]
    assert both(image).shape == (2, sum(alone))


def test_the_projects_own_bodies() -> None:
    """One pooled block per stride; `lite` takes the tensors of EfficientNet-Lite0 in their order."""
    image = torch.rand(2, 3, 160, 160)
    assert build_backbone("plain", pool=[1, 2, 3, 4])(image).shape == (2, 24 + 48 + 96 + 160)
    lite = build_backbone("lite", pool=[2, 3, 5, 7])
    assert lite(image).shape == (2, 24 + 40 + 112 + 320)
    assert sum(p.numel() for p in lite.parameters()) == 2_958_848, "Lite0's own count without conv_head and classifier"


def test_backbone_weights_of_a_whole_classifier_fit(tmp_path: Path) -> None:
    from torchvision.models import mobilenet_v3_small

    torch.manual_seed(1)
    model = mobilenet_v3_small(weights=None).eval()
    torch.save(model.state_dict(), tmp_path / "classifier.pth")
    router = ResolutionRouter(backbone="mobilenet_v3_small", input_size=32, weights=tmp_path / "classifier.pth").eval()
    image = torch.rand(1, 3, 32, 32)
    expected = model.features((image - router.mean) / router.std).mean(dim=(2, 3))
    assert torch.allclose(router.features(image), expected, atol=1e-5)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(DualResError, match="do not exist"):
        tiny(weights=tmp_path / "none.pth")
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(DualResError, match="do not fit"):
        tiny(weights=tmp_path / "other.pth")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    with pytest.raises(DualResError, match="cannot be read"):
        tiny(weights=tmp_path / "junk.pth")
    with pytest.raises(DualResError, match="holds more than tensors"):
        load_backbone_weights(tiny().backbone, pickle_bomb(tmp_path / "bomb.pth", tmp_path / "hit"))
    assert not (tmp_path / "hit").exists()
