"""Bad input on the command line: one clear error and status 2, or a counted warning and nothing lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dualres_plugin.common.files.atomic import write_json
from dualres_plugin.profile.table import PARTS, Profile
from dualres_plugin.router.network import ResolutionRouter
from tests.contract.hosts import torchvision_model
from tests.e2e.cli import command, dualres, ok, subprocess_dualres
from tests.fakes import make_profile, photo, planted_profile, write_coco, write_photos

NAMES = {1: "square", 2: "disc", 3: "star"}
COMMANDS = ["profile", "train", "evaluate", "predict", "swap", "auc", "demo"]


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small torchvision detector in a file of its own."""
    path = tmp_path_factory.mktemp("weights") / "ssd.pth"
    model = torchvision_model("ssdlite320_mobilenet_v3_large")
    torch.save(model.state_dict(), path)
    return f"torchvision:ssdlite320_mobilenet_v3_large,weights={path},num_classes=4"


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    net = ResolutionRouter(backbone="tiny@3", input_size=32)
    net.calibrate(np.linspace(-1, 1, 50))
    return net.save(tmp_path_factory.mktemp("router") / "router")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", 3, [(90, 120)])
    return tmp_path / "photos"


# -- help ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example(name: str) -> None:
    done = ok(name, "--help")
    assert f"dualres {name}" in done.out.replace("\n", " ") and "Example" in done.out


def test_help_lists_every_command() -> None:
    done = subprocess_dualres("--help")
    assert done.status == 0 and all(name in done.out for name in COMMANDS)


def test_usage_errors_have_the_same_status() -> None:
    for arguments in (["profile"], ["nothing"], ["train", "x", "--epochs", "many", "--out", "y"]):
        assert dualres(*arguments).status == 2


def test_an_interrupt_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    from dualres_plugin.cli.app import main

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        main(interrupted)
    assert end.value.code == 130 and "the same command goes on" in capsys.readouterr().err


# -- bad arguments ------------------------------------------------------------------------------------------------


def test_a_high_size_below_the_low_size(detector: str, router: Path, photos: Path, tmp_path: Path) -> None:
    sizes = ("--high", 160, "--low", 320)
    for arguments in (
        ("profile", detector, "--images", photos, *sizes, "--out", tmp_path / "o"),
        ("predict", detector, photos, *sizes, "--router", router, "--out", tmp_path / "o"),
        ("swap", router, "--detector", detector, "--images", photos, *sizes, "--out", tmp_path / "o"),
    ):
        message = dualres(*arguments).message
        assert "must be smaller than" in message and not (tmp_path / "o").exists()


def test_a_router_for_another_version(detector: str, router: Path, photos: Path, tmp_path: Path) -> None:
    meta = json.loads((router / "router.json").read_text())
    other = tmp_path / "router"
    other.mkdir()
    write_json(other / "router.json", {**meta, "format_version": 2})
    (other / "router.safetensors").write_bytes((router / "router.safetensors").read_bytes())
    profile = planted_profile(tmp_path / "profile", 4, side=32).path
    for arguments in (
        ("predict", detector, photos, "--router", other, "--out", tmp_path / "o"),
        ("evaluate", profile, other, "--out", tmp_path / "o"),
        ("swap", other, "--detector", detector, "--images", photos, "--out", tmp_path / "o"),
    ):
        assert "format version 2, this dualres-plugin reads version 1" in dualres(*arguments).message


def test_an_output_that_cannot_be_written(detector: str, router: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    out = tmp_path / "file" / "below"  # the superuser may write anywhere else
    profile = planted_profile(tmp_path / "profile", 8, side=32).path
    for arguments in (
        ("profile", detector, "--images", photos, "--out", out),
        ("train", profile, "--input-size", 32, "--epochs", 1, "--out", out),
        ("evaluate", profile, router, "--out", out),
        ("predict", detector, photos, "--router", router, "--out", out),
        ("swap", router, "--detector", detector, "--images", photos, "--out", out),
    ):
        assert f"cannot write to '{out}" in dualres(*arguments).message.replace(f"{out}/", f"{out}")
    assert (tmp_path / "file").read_text() == "x"


ERRORS: dict[str, tuple[Callable[[Any], tuple[object, ...]], str]] = {
    "no detector file": (
        lambda x: ("profile", "yolov6n.pt", "--images", x.photos, "--out", x.out),
        "ships yolov6n.yaml only",
    ),
    "unknown host": (lambda x: ("profile", "caffe:net", "--images", x.photos, "--out", x.out), "unknown host 'caffe'"),
    "no host": (lambda x: ("profile", "net.pth", "--images", x.photos, "--out", x.out), "Write HOST:NAME"),
    "no data at all": (lambda x: ("profile", x.detector, "--out", x.out), "give --data"),
    "no image folder": (
        lambda x: ("profile", x.detector, "--images", x.out / "none", "--out", x.out),
        "image folder .* does not exist",
    ),
    "no annotations": (
        lambda x: ("profile", x.detector, "--data", "none.json", "--images", x.photos, "--out", x.out),
        "annotation file 'none.json' does not exist",
    ),
    "zero views": (
        lambda x: ("profile", x.detector, "--images", x.photos, "--views", 0, "--out", x.out),
        "views=0 must be at least 1",
    ),
    "no such device": (
        lambda x: ("profile", x.detector, "--images", x.photos, "--device", "cuda:7", "--out", x.out),
        "device 'cuda:7' is not available",
    ),
    "no profile": (lambda x: ("train", x.out / "none", "--out", x.out), "profile .* does not exist"),
    "no config": (
        lambda x: ("train", x.profile, "--config", "none.yaml", "--out", x.out),
        "config 'none.yaml' does not exist",
    ),
    "unknown gain": (
        lambda x: ("train", x.profile, "--gain", "luck", "--input-size", 32, "--out", x.out),
        "unknown gain 'luck'",
    ),
    "unknown backbone": (
        lambda x: ("train", x.profile, "--backbone", "huge", "--input-size", 32, "--out", x.out),
        "unknown router backbone 'huge'",
    ),
    "thumbnails too small": (
        lambda x: ("train", x.profile, "--input-size", 224, "--out", x.out),
        "input_size 224 is larger than the profile's 32 px",
    ),
    "no labels to evaluate": (lambda x: ("evaluate", x.blind, x.router, "--out", x.out), "has no labels"),
    "no router": (
        lambda x: ("predict", x.detector, x.photos, "--router", x.out / "none", "--out", x.out),
        "router .* does not exist",
    ),
    "no source": (
        lambda x: ("predict", x.detector, x.photos / "none*", "--router", x.router, "--out", x.out),
        "no file, folder or glob match",
    ),
    "impossible rate": (
        lambda x: ("predict", x.detector, x.photos, "--router", x.router, "--target-high-rate", 2, "--out", x.out),
        "must lie between 0",
    ),
    "impossible rate to evaluate": (
        lambda x: ("evaluate", x.profile, x.router, "--target-high-rate", 1.5, "--out", x.out),
        "must lie between 0",
    ),
    "impossible budget": (
        lambda x: ("predict", x.detector, x.photos, "--router", x.router, "--gmacs", 0.0001, "--out", x.out),
        "below the cheapest point",
    ),
    "two budgets": (
        lambda x: (
            *("predict", x.detector, x.photos, "--router", x.router, "--gmacs", 1, "--threshold", 0),
            *("--out", x.out),
        ),
        "give only one of the budgets",
    ),
    "no images to swap on": (
        lambda x: ("swap", x.router, "--detector", x.detector, "--images", x.out / "none", "--out", x.out),
        "does not exist",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_one_clear_error(case: str, detector: str, router: Path, photos: Path, tmp_path: Path) -> None:
    class Paths:
        pass

    x: Any = Paths()
    x.detector, x.router, x.photos, x.out = detector, router, photos, tmp_path / "out"
    x.profile = planted_profile(tmp_path / "profile", 6, side=32).path
    x.blind = make_profile(tmp_path / "blind", [{}], labelled=False, thumbnail_size=32).path
    arguments, message = ERRORS[case]
    import re

    assert re.search(message, dualres(*arguments(x)).message)


# -- odd images -----------------------------------------------------------------------------------------------------


def odd_set(folder: Path) -> tuple[Path, Path]:
    """One image of every odd kind, labelled: 16-bit, grey, RGBA, thin, rotated, truncated, empty, without boxes."""
    import cv2

    data, images = write_coco(folder, 4, [(90, 120)], categories=NAMES)
    coco = json.loads(data.read_text())

    def add(name: str, h: int, w: int, boxes: list[list[float]] | None = None) -> Path:
        number = 100 + len(coco["images"])
        coco["images"].append({"id": number, "file_name": name, "height": h, "width": w})
        for box in [[4, 0, 30, max(1, h // 2)]] if boxes is None else boxes:
            row = {"bbox": box, "area": box[2] * box[3], "iscrowd": 0, "category_id": 1, "image_id": number}
            coco["annotations"].append({**row, "id": 1000 + len(coco["annotations"])})
        return images / name

    picture = photo(7, (90, 120))
    cv2.imwrite(str(add("deep.png", 90, 120)), picture[..., ::-1].astype(np.uint16) * 257)
    Image.fromarray(picture[..., 0].astype(np.uint16) * 257).save(add("deepgrey.png", 90, 120))
    Image.fromarray(picture[..., 0]).save(add("grey.png", 90, 120))
    Image.fromarray(np.dstack([picture, picture[..., 0]])).save(add("alpha.png", 90, 120))
    Image.fromarray(photo(8, (1, 120))).save(add("thin.png", 1, 120))
    Image.fromarray(photo(8, (1, 3000))).save(add("thinner.png", 1, 3000))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(add("turned.jpg", 120, 90), exif=exif)
    Image.fromarray(picture).save(add("bare.png", 90, 120, []))
    whole = add("truncated.jpg", 90, 120)
    Image.fromarray(picture).save(whole)
    whole.write_bytes(whole.read_bytes()[:900])
    add("zero.png", 90, 120).write_bytes(b"")
    add("missing.png", 90, 120)
    Image.fromarray(picture).save(add("flat.png", 90, 120, [[5, 5, 0, 10], [5, 5, 10, -3], [5, 5, 20, 20]]))
    data.write_text(json.dumps(coco))
    return data, images


@pytest.mark.parametrize("host", ["torchvision", "ultralytics"])
def test_odd_images_cost_only_themselves(host: str, detector: str, router: Path, tmp_path: Path) -> None:
    data, images = odd_set(tmp_path)
    if host == "ultralytics":
        pytest.importorskip("ultralytics")
        detector = "ultralytics:yolov8n.yaml"
        content = json.loads(data.read_text())
        content["categories"] = [{"id": i + 1, "name": f"kind {i}"} for i in range(80)]
        data.write_text(json.dumps(content))
    sizes = ("--high", 320, "--low", 160, "--batch", 4)
    done = ok("profile", detector, "--data", data, "--images", images, *sizes, "--views", 2, "--out", tmp_path / "p")
    profile = Profile.load(tmp_path / "p")
    left_out = " ".join(profile.meta["left_out"])
    for name in ("truncated.jpg", "zero.png", "missing.png"):
        assert name in left_out and name in done.err
    assert "2 boxes with zero or negative size" in left_out
    kept = {profile.image_path(int(r)).name for r in profile.originals}
    assert {"deep.png", "deepgrey.png", "grey.png", "alpha.png", "turned.jpg", "bare.png", "flat.png"} <= kept
    assert {"thin.png", "thinner.png"} <= kept
    by_name = {profile.image_path(int(r)).name: int(r) for r in profile.originals}
    assert len(profile.targets(by_name["flat.png"])) == 1 and len(profile.targets(by_name["bare.png"])) == 0
    assert np.isfinite(profile.column("loss_high")).all()
    assert (profile.column("height")[by_name["turned.jpg"]], profile.column("width")[by_name["turned.jpg"]]) == (
        120,
        90,
    )
    plain, deep = (profile.thumbnails(np.array([by_name[n]])).float() for n in ("alpha.png", "deep.png"))
    assert (plain - deep).abs().max() <= 1, "depth and transparency change nothing that the router sees"

    done = ok("predict", detector, images, "--router", router, "--high", 320, "--batch", 3, "--out", tmp_path / "drawn")
    assert "13 images" in done.out and "2 unreadable files left out" in done.out
    done = ok("swap", router, "--detector", detector, "--images", images, "--high", 320, "--out", tmp_path / "swapped")
    assert "calibrated on 13 images" in done.out


# -- resuming ------------------------------------------------------------------------------------------------------


def test_a_killed_profile_resumes_to_the_same_rows(detector: str, tmp_path: Path) -> None:
    data, images = write_coco(tmp_path / "set", 24, [(90, 120)], categories=NAMES)
    arguments = ("profile", detector, "--data", data, "--images", images, "--high", 320, "--low", 160, "--batch", 2)
    out = tmp_path / "killed"
    # A process of its own: it is killed as the machine would do it.
    process = subprocess.Popen(
        command(*arguments, "--out", out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ)
    )
    try:
        deadline = time.monotonic() + 240
        while len(list(out.glob(f"{PARTS}/batch-*"))) < 3 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = {p.name: p.stat().st_mtime_ns for p in out.glob(f"{PARTS}/batch-*")}
    assert 3 <= len(done) < 12
    again = ok(*arguments, "--out", out)
    assert f"{len(done)} batches are done" in again.err
    ok(*arguments, "--out", tmp_path / "whole")
    killed, whole = Profile.load(out), Profile.load(tmp_path / "whole")
    assert killed.table.equals(whole.table) and killed.meta == whole.meta


def test_a_low_size_that_crashes_the_network_is_no_matter_of_the_photos(router: Path, tmp_path: Path) -> None:
    torch.save(torchvision_model("ssd300_vgg16").state_dict(), tmp_path / "ssd.pth")
    ssd = f"torchvision:ssd300_vgg16,weights={tmp_path / 'ssd.pth'},num_classes=4"
    write_photos(tmp_path / "photos", 2)
    words = ("predict", ssd, tmp_path / "photos", "--router", router, "--target-high-rate", 0)
    done = dualres(*words, "--low", 150, "--out", tmp_path / "out")
    assert done.status == 2 and "the low size, 150 px (high is 300 px), on any photo" in done.err
    assert "Choose a larger low size: 270 px works." in done.err and "left out" not in done.err + done.out
    done = ok(*words, "--out", tmp_path / "plain")
    assert "2 images, 0 at high" in done.out and "left out" not in done.out
