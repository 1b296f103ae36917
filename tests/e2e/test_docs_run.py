"""What README and the pages in `PAGES` and `HOSTS` say is run, in the order of the page, on a few photos.

Sizes are made small and photos few, the lines stay as they are otherwise. What is left out says why in `LEFT_OUT`.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dualres_plugin.profile import gains
from tests.adapters.ultralytics.helpers import data_yaml, small_coco, val_photos, video
from tests.e2e.cli import dualres
from tests.e2e.test_docs import Block, blocks, shell_lines
from tests.shared import ROOT, require_shared

LEFT_OUT = {
    "--count": "a measurement of many minutes, on 128 photos; the short form of it is run",
    "make": "the test command itself, and the demo: tests/e2e/test_demo.py",
    "tritonserver": "a server of its own: tests/export/test_triton.py runs it",
    "pip": "downloads",
    "git": "downloads",
    "cat": "writes nothing",
    "python": "scripts of examples/: tests/e2e/test_examples.py; mmdet's tools: tests/adapters/mmdet/test_tools.py",
}
PAGES = [
    "README.md",
    "docs/adding-a-host.md",
    "docs/auc-policy.md",
    "docs/deployment.md",
    "docs/quickstart/ultralytics.md",
    "docs/reproducing-the-paper.md",
    "docs/results.md",
    "docs/sizes-and-budgets.md",
    "docs/streams.md",
    "docs/swapping.md",
    "docs/training.md",
    "docs/when-not-to-use-it.md",
]
# Small sizes, so that a page takes seconds; budgets that a slow machine can hold.
SMALL = {
    "640,512,448 ": "384,288,256 ",  # an export is checked, and at 192 px the host's own rounding shows in the boxes
    "640": "192",
    "448": "128",
    "320": "96",
    "512": "160",
    "--ms 30": "--ms 9000",
    "--ms 40": "--ms 9000",
    "--views 4": "--views 1",
    # Memory takes a process for each form: of two, not of five. Two threads wait for each other on busy cores.
    "photos/ --out runs/bench": "photos/ --no-memory --threads 1 --out runs/bench",
    "resize --out runs/bench-ladder": "resize --threads 1 --out runs/bench-ladder",
}
FCOS = "torchvision:fcos_resnet50_fpn,weights=fcos.pth"  # any second detector of the same classes will do
SMALL[FCOS] = "ultralytics:yolo11s.pt"
SMALL["mmdet:yolox_nano_cfg.py,yolox_nano.pth"] = "yolo11s.pt"
CONFIG = "custom_imports"  # a block with this in it is an mmdet config


def shrunk(text: str) -> str:
    for old, new in SMALL.items():
        text = re.sub(rf"(?<![\w.]){re.escape(old)}(?![\w.])", new, text)
    return text


def of_page(page: str) -> list[Block]:
    return [b for b in blocks() if b.page == ROOT / page and b.language in ("bash", "python")]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the pages name, as the current one."""
    pytest.importorskip("ultralytics")
    weights = require_shared("weights", "yolo11n.pt")
    for name in ("yolo11n.pt", "yolo11s.pt", "yolov6n.pt", "plates.pt"):
        shutil.copy(weights, tmp_path / name)
    yaml = data_yaml(tmp_path / "set", 6)
    shutil.copy(yaml, tmp_path / "data.yaml")
    for split, count in (("train", 6), ("val", 5)):
        file, images = small_coco(tmp_path / f"coco_{split}", count)
        shutil.copy(file, tmp_path / f"{split}.json")
        images.rename(tmp_path / split)
        (tmp_path / f"instances_{split}2017.json").symlink_to(f"{split}.json")
        (tmp_path / f"{split}2017").symlink_to(split)
    for folder in ("photos", "some"):
        (tmp_path / folder).mkdir()
        for photo in val_photos(3):
            shutil.copy(photo, tmp_path / folder)
    for name in ("bus.jpg", "street.jpg"):
        shutil.copy(val_photos(1)[0], tmp_path / name)
    video(tmp_path / "street.avi").rename(tmp_path / "street.mp4")
    for name in ("door.mp4", "yard.mp4"):
        shutil.copy(tmp_path / "street.mp4", tmp_path / name)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "points.csv").write_text(points_of("docs/auc-policy.md"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def points_of(page: str) -> str:
    """What `cat points.csv` shows on the page."""
    shown = next(b.text for b in blocks() if b.page == ROOT / page and "cat points.csv" in b.text)
    return "\n".join(line for line in shown.splitlines() if re.fullmatch(r"[\w.]+(,[\w.]+)+", line)) + "\n"


def prepared(page: str) -> None:
    """What a page takes for granted: a router and profiles, made by an earlier page."""
    if page == "docs/auc-policy.md":
        frames_of_two_videos()
        for name, data in (("val", "val.json --images val/"), ("frames", "frames.json --images frames/")):
            words = f"profile yolo11n.pt --data {data} --high 192 --low 96 --out runs/{name}"
            assert dualres(*words.split()).status == 0
    if page == "docs/streams.md":
        for number, photo in enumerate(sorted(Path("train").iterdir())):
            pan_over(photo, Path("clips", f"{number}"))
    pages = (
        "docs/deployment.md",
        "docs/streams.md",
        "docs/swapping.md",
        "docs/sizes-and-budgets.md",
        "docs/auc-policy.md",
    )
    if page in pages:
        profile = "profile yolo11n.pt --data train.json --images train/ --high 192 --low 96 --out runs/train"
        for words in (profile, "train runs/train --out runs/router"):
            assert dualres(*words.split()).status == 0
        shutil.copytree("runs/router", "runs/other")


def pan_over(photo: Path, folder: Path, frames: int = 3) -> None:
    """A clip: a window that moves over a photo."""
    folder.mkdir(parents=True)
    with Image.open(photo) as image:
        width, height = image.size
        for number in range(frames):
            x = number * width // 20
            image.crop((x, 0, x + 4 * width // 5, height)).save(folder / f"{number}.jpg")


def frames_of_two_videos() -> None:
    """The photos of val in two folders, as frames of two videos lie."""
    data = json.loads(Path("val.json").read_text())
    for i, image in enumerate(data["images"]):
        name = f"{'ab'[i % 2]}/{image['file_name']}"
        target = Path("frames", name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path("val", image["file_name"]), target)
        image["file_name"] = name
    Path("frames.json").write_text(json.dumps(data))


def run_command(words: list[str]) -> None:
    done = dualres(*words[1:])
    assert done.status == 0, f"{shlex.join(words)}\n{done.out[-800:]}{done.err[-2000:]}"


def run_snippet(block: Block, names: dict[str, Any]) -> None:
    if CONFIG in block.text:
        return  # tests/adapters/mmdet/test_config.py
    # Not this file's `from __future__`, which a reader's script does not have either.
    exec(compile(shrunk(block.text), str(block), "exec", dont_inherit=True), names)


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """What snippets register or read of the process stays here."""
    monkeypatch.setattr(sys, "argv", ["snippet"])
    monkeypatch.setattr(gains, "GAINS", dict(gains.GAINS))


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_from_top_to_bottom(page: str, desk: Path) -> None:
    if page in ("README.md", "docs/deployment.md"):
        pytest.importorskip("onnxruntime")
    prepared(page)
    names: dict[str, Any] = {"__name__": "snippet"}
    ran = 0
    for block in of_page(page):
        if block.language == "python":
            run_snippet(block, names)
            ran += 1
            continue
        for words in shell_lines(Block(block.page, block.line, block.language, shrunk(block.text))):
            if not set(words) & set(LEFT_OUT):
                assert words[0] == "dualres", words
                run_command(words)
                ran += 1
    assert ran >= 1, "nothing of this page was run"


def test_the_page_on_hosts_shows_the_adapter_of_the_tests() -> None:
    """Method by method, but for what only the tests need: a count of passes, and a hook before each."""
    page = next(block.text for block in of_page("docs/adding-a-host.md"))
    shown = methods(page.replace("Toy", "Fake"), "FakeAdapter")
    ours = methods((ROOT / "tests" / "fakes.py").read_text(), "FakeAdapter")
    assert shown.keys() == ours.keys()
    for name in shown.keys() - {"__init__", "accepts", "predict"}:
        assert shown[name] == ours[name], name


def methods(source: str, name: str) -> dict[str, str]:
    """Method -> code of a class, without comments."""
    found = next(n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == name)
    return {n.name: ast.unparse(n) for n in found.body if isinstance(n, ast.FunctionDef)}


# -- the other hosts: their quick starts with weights made here ------------------------------------------------


def save_torchvision(folder: Path) -> None:
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn as build

    torch.save(build(weights=None, weights_backbone=None).state_dict(), folder / "frcnn.pth")


def save_effdet(folder: Path) -> None:
    from effdet import create_model

    for name in ("d0", "d1", "d2"):
        net = create_model("tf_efficientdet_lite0", "predict", pretrained_backbone=False, image_size=(256, 256))
        torch.save(net.model.state_dict(), folder / f"{name}.pth")


def save_mmdet(folder: Path) -> None:
    for name in ("yolox_tiny.pth", "weights.pth"):
        shutil.copy(require_shared("weights", "yolox_nano.pth"), folder / name)
    (folder / "my_config.py").write_text('_base_ = ["mmdet::yolox/yolox_nano_8xb8-300e_coco.py"]\n')
    config = next(b.text for b in of_page("docs/quickstart/mmdet.md") if b.text.startswith("# routed.py"))
    (folder / "routed.py").write_text(config.replace("yolox_tiny", "yolox_nano"))


# page -> (package, what makes the weights, how the page's names are made small)
HOSTS: dict[str, tuple[str, Callable[[Path], None], dict[str, str]]] = {
    "docs/quickstart/torchvision.md": (
        "torchvision",
        save_torchvision,
        {
            "fasterrcnn_resnet50_fpn": "fasterrcnn_mobilenet_v3_large_320_fpn",
            "weights=DEFAULT": "weights=frcnn.pth",
            'weights="DEFAULT"': "weights=None, weights_backbone=None",
            "--high 800 --low 400": "--high 128 --low 64",
            "--views 4": "--views 1",
        },
    ),
    "docs/quickstart/effdet.md": (
        "effdet",
        save_effdet,
        {
            "--high 768 --low 640": "--high 256 --low 128",
            "--high 512 --low 256": "--high 256 --low 128",
            "--views 4": "--views 1",
            "checkpoint=d0.pth": "checkpoint=d0.pth,image_size=256",
            "high_checkpoint=d2.pth": "high_image_size=256,low_image_size=128,high_checkpoint=d2.pth",
            '_d0", bench_task="predict"': '_lite0", bench_task="predict", image_size=(256, 256)',
            '_d1", bench_task="predict"': '_lite0", bench_task="predict", image_size=(128, 128)',
            '_d2", bench_task="predict"': '_lite0", bench_task="predict", image_size=(256, 256)',
            "tf_efficientdet_d0": "tf_efficientdet_lite0",
            "tf_efficientdet_d1": "tf_efficientdet_lite0",
            "tf_efficientdet_d2": "tf_efficientdet_lite0",
        },
    ),
    "docs/quickstart/mmdet.md": (
        "mmdet",
        save_mmdet,
        {"yolox_tiny_8xb8": "yolox_nano_8xb8", "--high 416 --low 224": "--high 128 --low 64", "--views 4": "--views 1"},
    ),
}


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("page", list(HOSTS))
def test_the_quick_start_of_another_host_runs(page: str, desk: Path) -> None:
    package, save, names = HOSTS[page]
    pytest.importorskip(package)
    torch.manual_seed(0)
    save(desk)
    for block in of_page(page):
        text = block.text
        for old, new in names.items():
            text = text.replace(old, new)
        if block.language == "python":
            if CONFIG not in text:
                exec(compile(text, str(block), "exec"), {"__name__": "snippet"})
            continue
        for words in shell_lines(Block(block.page, block.line, block.language, text)):
            if words[0] == "dualres" and not (words[1] == "evaluate" and finds_nothing()):
                run_command(words)


def finds_nothing() -> bool:
    """Random weights have no AP, and the command says so."""
    if not Path("runs/val").is_dir() or "yolox" in json.loads(Path("runs/val/profile.json").read_text())["detector"]:
        return False
    done = dualres("evaluate", "runs/val", "default", "--out", "runs/none")
    return "AP is 0 at both sizes" in done.err
