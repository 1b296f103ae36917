"""effdet by name: checkpoints of every kind, and what goes wrong."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch

pytest.importorskip("effdet")

from safetensors.torch import save_file

from dualres_plugin.adapters.effdet.adapter import EffdetAdapter
from dualres_plugin.common.errors import DualResError
from dualres_plugin.hosts.registry import load_detector
from tests.adapters.effdet.helpers import make_bench, photos

NAME = "tf_efficientdet_lite0"


@pytest.fixture(scope="module")
def bench():
    return make_bench(128)


@pytest.fixture(scope="module")
def weights(bench, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("effdet") / "net.safetensors"
    save_file(bench.model.state_dict(), path)
    return path


# -- checkpoints -----------------------------------------------------------------------------------------------


def test_classes_are_read_off_the_checkpoint(bench, weights):
    adapter = load_detector(f"effdet:{NAME},checkpoint={weights},image_size=128")
    assert type(adapter) is EffdetAdapter and adapter.label_ids == [1, 2] and adapter.default_size == 128
    batch = adapter.collate(photos((100, 128)), 128)
    with torch.no_grad():
        assert torch.equal(adapter.predict(batch), bench(batch.images, batch.info()))


@pytest.mark.parametrize("kind", ["plain", "train.py", "averaged", "bench", "parallel"])
def test_checkpoints_of_every_kind_load(bench, tmp_path, kind):
    state = bench.model.state_dict()
    saved = {
        "plain": state,
        "train.py": {"state_dict": state, "epoch": 3, "args": argparse.Namespace(lr=0.1)},
        "averaged": {"state_dict": {k: torch.zeros_like(v) for k, v in state.items()}, "state_dict_ema": state},
        "bench": bench.state_dict(),
        "parallel": {f"module.{k}": v for k, v in state.items()},
    }[kind]
    torch.save(saved, tmp_path / "net.pth")
    adapter = load_detector(f"effdet:{NAME},checkpoint={tmp_path / 'net.pth'},num_classes=2,image_size=128x256")
    loaded = adapter.detector.model.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in state.items())
    assert adapter.shape == (128, 256)


def test_pickled_objects_are_refused(tmp_path):
    torch.save({"state_dict": {}, "extra": Path("x")}, tmp_path / "net.pth")
    with pytest.raises(DualResError, match=r"net\.pth' cannot be read"):
        load_detector(f"effdet:{NAME},checkpoint={tmp_path / 'net.pth'}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (NAME, "random weights.*checkpoint=FILE"),
        ("tf_efficientdet_d99,checkpoint=x.pth", "unknown effdet network 'tf_efficientdet_d99'.*tf_efficientdet_d1"),
        (f"{NAME},checkpoint=missing.pth", "'missing.pth' do not exist"),
        (f"{NAME},weights=x.pth", "unknown option.*weights.*checkpoint=FILE"),
        (f"{NAME},checkpoint=WEIGHTS,num_classes=two", "num_classes=two"),
        (f"{NAME},checkpoint=WEIGHTS,image_size=big", "image_size=big is not a size"),
        (f"{NAME},checkpoint=WEIGHTS,image_size=500", "multiple of 128, such as 512"),
        (f"{NAME},checkpoint=WEIGHTS,num_classes=5", "does not fit tf_efficientdet_lite0, 5 classes: size mismatch"),
        ("tf_efficientdet_d0,checkpoint=WEIGHTS", "does not fit tf_efficientdet_d0"),
    ],
)
def test_mistakes_are_named(weights, spec, message):
    with pytest.raises(DualResError, match=message):
        load_detector("effdet:" + spec.replace("WEIGHTS", str(weights)))


def test_a_state_dict_is_wanted(tmp_path):
    torch.save([1, 2], tmp_path / "net.pth")
    with pytest.raises(DualResError, match="hold no state dict"):
        load_detector(f"effdet:{NAME},checkpoint={tmp_path / 'net.pth'}")
