"""effdet by name: checkpoints of every kind, pairs, what goes wrong; compute against the published figures."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("effdet")

from safetensors.torch import load_file, save_file

from dualres_plugin import ResolutionRouter
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


# -- pairs -----------------------------------------------------------------------------------------------------


def test_a_pair_by_name(weights, tmp_path):
    d0 = make_bench(256, name="tf_efficientdet_d0")
    save_file(d0.model.state_dict(), tmp_path / "d0.safetensors")
    adapter = load_detector(
        f"effdet-pair:tf_efficientdet_d0,{NAME},high_checkpoint={tmp_path / 'd0.safetensors'},"
        f"low_checkpoint={weights},high_image_size=256,low_image_size=128,num_classes=2"
    )
    assert adapter.default_size == 256 and adapter.low_shape((256, 256), adapter.default_scale) == (128, 128)
    assert adapter.macs((128, 128), low=True) < adapter.macs((256, 256)) / 4
    assert adapter.low_detector.config.name == NAME


@pytest.mark.parametrize("names", [NAME, f"{NAME},{NAME},{NAME}"])
def test_a_pair_is_two(names):
    with pytest.raises(DualResError, match="effdet-pair:HIGH,LOW"):
        load_detector(f"effdet-pair:{names}")


# -- compute ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "published"), [("d0", 2.54), ("d1", 6.10), ("d2", 11.0)])
def test_macs_agree_with_the_published_multiply_adds(name, published):
    """Tan et al., EfficientDet (CVPR 2020), Table 2: multiply-adds in billions."""
    from effdet import create_model

    adapter = EffdetAdapter(create_model(f"tf_efficientdet_{name}", bench_task="predict", pretrained_backbone=False))
    counted = adapter.macs(adapter.input_shape((480, 640), adapter.default_size))
    assert counted == pytest.approx(published, rel=0.03)
    assert counted < published  # convolutions alone; the paper counts a little more


# -- the example scripts ---------------------------------------------------------------------------------------


def _example(name: str):
    path = Path(__file__).resolve().parents[3] / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def coco(tmp_path_factory) -> Path:
    """A tiny data set in the layout of `examples/train_effdet.py`."""
    from PIL import Image

    root = tmp_path_factory.mktemp("coco")
    for split in ("train", "val"):
        images, boxes = [], []
        (root / "images" / split).mkdir(parents=True)
        for i, image in enumerate(photos((90, 120), (128, 100), (64, 64)), 1):
            Image.fromarray(image).save(root / "images" / split / f"{i}.png")
            images.append({"id": i, "file_name": f"{i}.png", "height": image.shape[0], "width": image.shape[1]})
            box = {"image_id": i, "category_id": 1 + i % 2, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0}
            boxes.append({"id": i, **box})
        categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
        (root / "annotations").mkdir(exist_ok=True)
        listed = {"images": images, "annotations": boxes, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(listed))
    return root


def _run(module, *arguments):
    sys_argv, sys.argv = sys.argv, [module.__file__, *map(str, arguments)]
    try:
        module.main()
    finally:
        sys.argv = sys_argv


def test_validating_with_and_without_a_router(weights, coco, tmp_path, capsys):
    router = ResolutionRouter(backbone="tiny", input_size=32)
    router.calibrate([0.0, 1.0])
    router.save(tmp_path / "router")
    data = ["--annotations", coco / "annotations/instances_val.json", "--images", coco / "images/val"]
    common = [NAME, "--checkpoint", weights, "--image-size", 256, *data]
    validate = _example("effdet_validate")
    printed = {}
    for rate in (None, 1.0, 0.0):
        _run(
            validate, *common, *([] if rate is None else ["--dualres", tmp_path / "router", "--target-high-rate", rate])
        )
        printed[rate] = capsys.readouterr().out.strip().splitlines()
    assert printed[None][-1].startswith("AP ") and printed[1.0][-2] == printed[None][-1]
    assert printed[1.0][-1] == "3 images, 3 at high (100.0%)" and printed[0.0][-1] == "3 images, 0 at high (0.0%)"
    pair = ["--low-checkpoint", weights, "--low-image-size", 128, "--target-high-rate", 0.0]
    _run(validate, *common, "--dualres", tmp_path / "router", *pair)
    assert capsys.readouterr().out.strip().splitlines()[-2] == printed[0.0][-2]  # the same weights: half is 128 too


def test_training_goes_on_where_it_stopped(coco, tmp_path, capsys):
    train = _example("train_effdet")
    out = tmp_path / "net.safetensors"
    common = [NAME, "--data", coco, "--image-size", 128, "--batch", 3, "--out", out]
    _run(train, *common, "--epochs", 1)
    first = load_file(out)
    _run(train, *common, "--epochs", 2)
    lines = capsys.readouterr().out
    assert "going on after epoch 1" in lines and lines.count("AP on val: ") == 2
    assert any(not torch.equal(v, first[k]) for k, v in load_file(out).items())
    assert load_detector(f"effdet:{NAME},checkpoint={out},image_size=128").label_ids == [1, 2]
