"""The example scripts of effdet: validating with and without a router, training, going on."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("effdet")

from safetensors.torch import load_file, save_file

from dualres_plugin import ResolutionRouter
from dualres_plugin.hosts.registry import load_detector
from tests.adapters.effdet.helpers import make_bench, photos

NAME = "tf_efficientdet_lite0"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("effdet") / "net.safetensors"
    save_file(make_bench(128).model.state_dict(), path)
    return path


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
