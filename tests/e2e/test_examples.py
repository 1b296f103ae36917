"""Every script in `examples/` runs from its command line, on inputs as small as can be."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from dualres_plugin.router.network import ResolutionRouter
from tests.fakes import write_coco, write_photos
from tests.report_case import build_profile
from tests.shared import ROOT, require_shared

# Scripts that other files run; that they do is checked below.
ELSEWHERE = {
    "effdet_validate.py": "tests/adapters/effdet/test_examples.py",
    "train_effdet.py": "tests/adapters/effdet/test_examples.py",
    "vgg_sdn/sdn.py": "examples/vgg_sdn/run.py",  # a part of it
}
Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """`python examples/NAME …` in this process and an empty folder; gives what was printed."""
    monkeypatch.chdir(tmp_path)

    def start(name: str, *arguments: object) -> str:
        path = ROOT / "examples" / name
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        monkeypatch.syspath_prepend(str(path.parent))  # as Python does for a script
        runpy.run_path(str(path), run_name="__main__")
        return capsys.readouterr().out

    return start


@pytest.fixture
def router(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    net = ResolutionRouter(backbone="tiny@2", input_size=32)
    net.calibrate(torch.linspace(-1, 1, 101))
    net.save(tmp_path / "router")
    return tmp_path / "router"


def test_every_script_is_run_by_a_test() -> None:
    here = Path(__file__).read_text().partition("Run = Callable")[2]
    for path in (ROOT / "examples").rglob("*.py"):
        name = path.relative_to(ROOT / "examples").as_posix()
        runs_it = path.stem in (ROOT / ELSEWHERE[name]).read_text() if name in ELSEWHERE else f'"{name}"' in here
        assert runs_it, name


def test_routers_are_compared(run: Run, tmp_path: Path) -> None:
    for i, name in enumerate(("train", "val", "other")):
        build_profile(tmp_path / name, count=24, seed=i)
    profiles = {name: tmp_path / name / "profile" for name in ("train", "val", "other")}
    table = run(
        *("compare_routers.py", "--train", profiles["train"], "--val", profiles["val"]),
        *(
            "--other-val",
            profiles["other"],
            "--backbone",
            "tiny@2",
            "--input-size",
            16,
            "--gain",
            "ap",
            "--gain",
            "loss",
        ),
        *("--seeds", 1, "--bootstrap", 3),
    ).splitlines()
    assert "24 images" in table[0]
    assert [line.split("  ")[0] for line in table[2:4]] == ["tiny@2, ap", "tiny@2, loss"]
    by_name = {line[:45].strip(): float(line[52:63]) for line in table[2:]}
    assert by_name["random"] < by_name["oracle (true gain)"]


def test_one_router_before_two_detectors(run: Run, router: Path, tmp_path: Path) -> None:
    pytest.importorskip("ultralytics")
    write_photos(tmp_path / "photos", 4)
    table = run(
        *("same_scores.py", tmp_path / "photos", "ultralytics:yolov8n.yaml"),
        *("ultralytics:yolo11n.yaml", "--router", router, "--limit", 3),
    ).splitlines()
    assert table[0].startswith("3 photos")
    assert float(table[2].split()[1]) == 1 and "100.0%" in table[2], "the first against itself"
    assert table[3].startswith("ultralytics:yolo11n.yaml  ") and len(table) == 4
    assert float(table[3].split()[-1]) < 1e-5, "both letterbox alike: the scores are the same"


def test_a_stream_is_held_at_its_rate(run: Run, router: Path, tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for scene, (least, most) in {"dark": (0, 60), "bright": (120, 255)}.items():
        (tmp_path / scene).mkdir()
        for i in range(40):
            pixels = rng.integers(least, most, (24, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / scene / f"{i}.png")
    printed = run("stream_controller.py", "dark", "bright", "--router", router, "--target", 0.3, "--window", 16)
    assert "dark: 40 images" in printed and "bright: 40 images" in printed
    share = float(printed.split("stream: 80 images, ")[1].split("%")[0])
    assert 20 <= share <= 40
    Image.open(tmp_path / "controller.png").verify()


def test_the_overhead_of_a_profile_is_measured(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("ultralytics")
    file, images = write_coco(
        tmp_path / "data", 2, sizes=((48, 64),), categories={1: "7"}
    )  # its yaml has numbers for names
    printed = run(
        *("profile_overhead.py", "ultralytics:yolov8n.yaml", "--data", file, "--images", images),
        *("--limit", 1, "--runs", 1, "--batch", 1),
    ).splitlines()
    assert printed[-5] == "1 images of 64x48, batch 1, 1 runs"
    assert "ratio 1.000" in printed[-4] and printed[-1].startswith("profile ")


def test_a_detector_is_trained_and_profiled(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("ultralytics")
    for split in ("train", "val"):
        file, images = write_coco(tmp_path / split, 4)
        (tmp_path / "data" / "annotations").mkdir(parents=True, exist_ok=True)
        file.rename(tmp_path / "data" / "annotations" / f"instances_{split}.json")
        (tmp_path / "data" / "images").mkdir(exist_ok=True)
        images.rename(tmp_path / "data" / "images" / split)
    out = tmp_path / "runs" / "yolov6n.pt"
    printed = run(
        *("train_ultralytics.py", "yolov6n.yaml", "--data", tmp_path / "data", "--out", out),
        *("--epochs", 1, "--imgsz", 64, "--batch", 4),
    )
    assert f"trained detector: {out}" in printed
    from dualres_plugin.hosts.registry import load_detector

    assert load_detector(str(out)).class_names == {0: "square", 1: "disc"}


@pytest.fixture
def detectors(tmp_path: Path) -> dict[str, str]:
    """Host -> a detector for the command line, of the installed hosts; random weights where none are shared."""
    from torchvision.models import get_model

    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    torch.manual_seed(0)
    torch.save(get_model(name, weights=None, weights_backbone=None, num_classes=4).state_dict(), tmp_path / "rcnn.pth")
    found = {"torchvision": f"torchvision:{name},weights={tmp_path / 'rcnn.pth'},num_classes=4"}
    if find_spec("ultralytics"):
        found["ultralytics"] = str(require_shared("weights", "yolo11n.pt"))
    if find_spec("mmdet"):
        config, weights = (require_shared("weights", f"yolox_nano{end}") for end in ("_cfg.py", ".pth"))
        found["mmdet"] = f"mmdet:{config},{weights}"
    if find_spec("effdet"):
        from tests.adapters.effdet.helpers import make_bench

        torch.save(make_bench(320).model.state_dict(), tmp_path / "lite0.pth")
        found["effdet"] = f"effdet:tf_efficientdet_lite0,checkpoint={tmp_path / 'lite0.pth'}"
    return found


@pytest.mark.shared
def test_plain_and_wrapped_hosts_side_by_side(run: Run, detectors: dict[str, str]) -> None:
    photos = require_shared("data", "coco_mini", "images", "val2017")
    printed = run("host_table.py", *detectors.values(), "--photos", photos, "--limit", 2)
    table = [line.strip("| ").split(" | ") for line in printed.splitlines() if line.startswith("| ")]
    rows = {name: dict(zip(detectors, cells)) for name, *cells in table}
    for host in detectors:
        assert rows["predict"][host] == rows["stream"][host] == "equal", host
        assert rows["training mode"][host] == "equal, mode kept", host
        assert rows["export"][host] == ("pair, checked" if host == "effdet" else "cond, checked"), host
        assert rows["sizes in pixels"][host].endswith(" run"), host
        size = 640 if host in ("ultralytics", "mmdet") else 320
        assert rows["own size"][host] == f"{size} px, low 0.5", host
        for wrong in ("uint8 array (3, H, W)", "uint8 tensor (3, H, W)"):
            taken = host == "ultralytics"
            assert rows[wrong][host].startswith("plain takes it; so" if taken else "plain fails"), host
            assert taken or "; refused: " in rows[wrong][host], host
    if "ultralytics" in detectors:
        assert rows["track"]["ultralytics"] == "equal" and rows["save"]["ultralytics"].startswith("refused")


def test_early_exits(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    threads = torch.get_num_threads()
    try:
        printed = run(
            *("vgg_sdn/run.py", "--out", tmp_path, "--width", 0.1, "--images", 128, "--epochs", 1),
            *("--count", 4, "--threads", 1, "--threshold", 0.2),
        )
    finally:
        torch.set_num_threads(threads)
    table = (tmp_path / "table4.txt").read_text()
    assert table.strip() in printed and "4 images, width 0.1, 1 threads" in table
    assert {"plain", "exits"} <= {path.stem for path in tmp_path.glob("*.onnx")}


def test_the_curve_by_mmdets_own_runner(run: Run, router: Path, tmp_path: Path) -> None:
    pytest.importorskip("mmdet")
    from tests.adapters.ultralytics.helpers import small_coco

    config, weights = "mmdet::yolox/yolox_nano_8xb8-300e_coco.py", require_shared("weights", "yolox_nano.pth")
    file, images = small_coco(tmp_path / "coco", 3)
    table = run(
        *("mmdet_curve.py", config, weights, "--annotations", file, "--images", images),
        *("--router", router, "--high", 128, "--rates", "0.5"),
    ).splitlines()
    rows = {(row[:40].strip(), row[41:47].strip()): row[47:].split() for row in table if row.rstrip()[-4:-3] == "."}
    high, low = rows["plain host at 128", ""], rows["plain host at 64", ""]
    name = str(router)[-40:]
    assert rows[name, "1.00"][0] == "100.0%" and rows[name, "1.00"][2] == high[2], "all high is the plain host"
    assert rows[name, "0.00"][0] == "0.0%" and float(rows[name, "0.50"][1]) < float(high[1])
    assert float(low[1]) < float(high[1])


def test_a_yolo_of_other_code_is_routed(run: Run, router: Path, tmp_path: Path) -> None:
    pytest.importorskip("ultralytics")
    weights = require_shared("weights", "yolo11n.pt")
    write_photos(tmp_path / "photos", 3)
    out = run(
        "ultralytics_callback.py",
        weights,
        tmp_path / "photos",
        "--router",
        router,
        "--imgsz",
        64,
        "--target-high-rate",
        1,
    )
    assert out.splitlines()[-1] == "3 images, 3 at high" and out.count(": high (score") == 3


def test_a_torchvision_loop_is_the_same_all_high(run: Run, router: Path, tmp_path: Path) -> None:
    from torchvision.models import get_model

    from tests.adapters.ultralytics.helpers import small_coco

    name = "ssdlite320_mobilenet_v3_large"
    torch.manual_seed(0)
    torch.save(get_model(name, weights=None, weights_backbone=None).state_dict(), tmp_path / "net.pth")
    file, images = small_coco(tmp_path / "coco", 2)
    arguments = ("torchvision_evaluate.py", name, "--weights", tmp_path / "net.pth", "--annotations", file)
    plain = run(*arguments, "--images", images)
    routed = run(*arguments, "--images", images, "--router", router, "--target-high-rate", 1)
    table = [line for line in plain.splitlines() if "IoU=" in line]
    assert len(table) == 12 and table == [line for line in routed.splitlines() if "IoU=" in line]
    assert plain.splitlines()[-1] == routed.splitlines()[-1] and routed.endswith("2 of 2 images at high\n")


def test_boxes_of_both_sizes_are_compared(run: Run, tmp_path: Path) -> None:
    profile = build_profile(tmp_path / "val", count=24, seed=0)
    printed = run("box_overlap.py", tmp_path / "val" / "profile", "--area", 0.0, "--score", 0.0)
    found = re.fullmatch(
        r"(\d+) big objects: median IoU of low with high ([\d.]+); \d+% above 0.5, \d+% above 0.8\n", printed
    )
    assert found and 0.0 < float(found[2]) <= 1.0
    assert int(found[1]) == sum(len(profile.detections("high", int(row))) for row in profile.originals)
    with pytest.raises(SystemExit, match="lower --area"):
        run("box_overlap.py", tmp_path / "val" / "profile", "--area", 1.1)


SCRIPTS = ("box_overlap.py", "compare_routers.py --train nowhere --val", "stream_controller.py --target 0.3")


@pytest.mark.parametrize("line", SCRIPTS)
def test_a_path_that_is_not_there_is_one_message(line: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    name, *options = line.split()
    with pytest.raises(SystemExit) as end:
        run(name, *options, "nowhere")
    assert end.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"{name}: ") and "nowhere" in message
