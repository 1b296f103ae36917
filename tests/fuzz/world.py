"""A small folder that holds one valid file of every format, for the fuzzer to damage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dualres_plugin.router.network import ResolutionRouter
from tests.fakes import coco_dict, photo, planted_profile
from tests.fuzz.strategies import images
from tests.small_models import make_parts, write_models

POINTS = "method,gflops,ap\na,112.4,52.1\na,143.2,53.3\na,174.0,53.8\na,181.7,53.9\n"
SETTINGS = (
    "objective: rank\nbackbone: tiny@4\ninput_size: 16\nepochs: 1\nbatch: 8\nlr: 1e-3\npool: [1, 2]\nflip: true\n"
)


def build_world(folder: Path) -> Path:
    """Write it; the same every time.

    Args:
        folder: must not exist.

    Returns:
        The folder.
    """
    torch.manual_seed(0)
    (folder / "photos").mkdir(parents=True)
    (folder / "empty").mkdir()
    sizes = [(48, 64), (64, 48), (40, 40)]
    for i, size in enumerate(sizes):
        Image.fromarray(photo(i, size)).save(folder / "photos" / f"{i}.png")
    (folder / "photos" / "3.jpg").write_bytes(images.valid())
    paths = [folder / "photos" / f"{i}.png" for i in range(len(sizes))]
    (folder / "coco.json").write_text(json.dumps(coco_dict(folder / "photos", paths)))
    (folder / "list.txt").write_text("photos/0.png\nphotos/1.png\nphotos/3.jpg\n")
    _write_yolo(folder)
    (folder / "points.csv").write_text(POINTS)
    (folder / "train.yaml").write_text(SETTINGS)
    router = ResolutionRouter(backbone="tiny@4", input_size=32)
    router.calibrate(np.linspace(-1, 1, 50))
    router.save(folder / "router")
    planted_profile(folder / "profile", 12, side=32)  # the router's input
    models = write_models(make_parts(), folder)
    models["resize"].unlink(), models["branches"].unlink()
    return folder


def _write_yolo(folder: Path) -> None:
    (folder / "yolo" / "images").mkdir(parents=True)
    (folder / "yolo" / "labels").mkdir()
    for i in range(2):
        Image.fromarray(photo(i, (48, 64))).save(folder / "yolo" / "images" / f"{i}.png")
        (folder / "yolo" / "labels" / f"{i}.txt").write_text("0 0.5 0.5 0.2 0.2\n1 0.3 0.4 0.1 0.1\n")
    (folder / "data.yaml").write_text("path: yolo\ntrain: images\nval: images\nnames:\n  0: a\n  1: b\n")
