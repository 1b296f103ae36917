"""Commands that are stopped at random moments, or run out of disk: nothing half-written, nothing lost, one message.

DUALRES_KILLS=N stops every command N times by every signal; 1 by default.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dualres_plugin.router.network import ResolutionRouter
from tests.contract.hosts import torchvision_model
from tests.e2e.cli import dualres, ok
from tests.fakes import planted_profile, write_photos
from tests.shared import shared_dir
from tests.support.faults import contents, full_disk, leftovers, run_in, stop_in

Run = tuple[float, dict[str, bytes]]  # seconds, and every file by name
Runs = dict[str, Run]
KILLS = int(os.environ.get("DUALRES_KILLS", "1"))
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Detector, router, photos and profile, beside the folders that the commands run in."""
    base = tmp_path_factory.mktemp("work")
    torch.manual_seed(0)
    torch.save(torchvision_model("ssdlite320_mobilenet_v3_large").state_dict(), base / "ssd.pth")
    net = ResolutionRouter(backbone="tiny@3", input_size=32)
    net.calibrate(np.linspace(-1, 1, 50))
    net.save(base / "router")
    write_photos(base / "photos", 40, [(90, 120)])
    planted_profile(base / "profile", 40, side=32)
    return base


SSD = "torchvision:ssdlite320_mobilenet_v3_large,weights=../../ssd.pth,num_classes=4"
PREDICT = (
    *("predict", SSD, "../../photos", "--router", "../../router", "--conf", 0.01),
    *("--save-txt", "--show-routes", "--out", "out"),
)
COMMANDS: dict[str, tuple[object, ...]] = {
    "predict": PREDICT,
    "train": ("train", "../../profile", "--backbone", "tiny@3", "--input-size", 32, "--epochs", 40, "--out", "out"),
    "evaluate": ("evaluate", "../../profile", "../../router", "--out", "out"),
    "demo": ("demo", "--images", 12, "--out", "out"),
}


@pytest.fixture(scope="module")
def whole(work: Path) -> Runs:
    """Seconds and results of runs that nobody stops, by command; filled when one is asked for."""
    return {}


def undisturbed(name: str, work: Path, whole: Runs) -> tuple[float, dict[str, bytes]]:
    if name not in whole:
        seconds, status, said = run_in(work / "whole" / name, *COMMANDS[name])
        assert status == 0, said[-2000:]
        whole[name] = seconds, contents(work / "whole" / name)
    return whole[name]


def same(a: dict[str, bytes], b: dict[str, bytes]) -> None:
    """Equal files; what says how long something took, or holds a time of day, need only be there."""
    assert a.keys() == b.keys()
    exact = [
        name for name in a if not name.endswith((".html", "metrics.json", "profile.json", ".parquet", "images.txt"))
    ]
    assert [name for name in exact if a[name] != b[name]] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_stopped_by_one_signal_after_the_other(name: str, work: Path, whole: Runs) -> None:
    """Each stop is of the run that follows the last stop, in its folder; the run that nobody stops makes up for all."""
    seconds, results = undisturbed(name, work, whole)
    for seed in range(KILLS):
        folder = work / f"{name}-{seed}" / "run"
        for number in [signal.SIGKILL] if name == "demo" else STATUS:  # its parts meet every signal by themselves
            begun = (folder / "out").exists()
            status = stop_in(folder, number, seconds, 100 * number + seed, *COMMANDS[name])
            if status != 0 and number != signal.SIGKILL:
                early = status in (1, -number) and (folder / "out").exists() == begun  # before Python came to it
                # All was done: Python was ending.
                late = status == -number and contents(folder).keys() == results.keys()
                assert early or late or status == STATUS[number], number
                assert leftovers(folder) == [], number
            files_are_whole(folder)
        finish(folder, *COMMANDS[name])
        same(contents(folder), results)


def files_are_whole(folder: Path) -> None:
    """Every file with a name of its own can be read."""
    for file in folder.rglob("*.json"):
        if not file.name.startswith("."):
            json.loads(file.read_text())
    for file in folder.rglob("*.jpg"):
        if not file.name.startswith("."):
            Image.open(file).load()


def finish(folder: Path, *arguments: object) -> None:
    """The same command again, to its end."""
    _, status, said = run_in(folder, *arguments)
    assert status == 0, said[-2000:]
    assert leftovers(folder) == []


def test_an_export_stopped_by_one_signal_after_the_other(tmp_path: Path) -> None:
    shared = shared_dir()
    if shared is None or not (shared / "weights" / "yolo11n.pt").exists():
        pytest.skip("needs shared/weights/yolo11n.pt")
    net = ResolutionRouter(backbone="tiny@3", input_size=32)
    net.calibrate(np.linspace(-1, 1, 50))
    net.save(tmp_path / "router")
    folder = tmp_path / "run"
    arguments = (
        *("export", shared / "weights" / "yolo11n.pt", "--router", "../router", "--high", 64, "--low", 32),
        *("--photos", 0, "--out", "m.onnx"),
    )
    for number in STATUS:
        stop_in(folder, number, 15, int(number), *arguments)
        assert number == signal.SIGKILL or leftovers(folder) == [], number
    finish(folder, *arguments)
    assert list(contents(folder)) == ["m.onnx"]


# -- full disks ----------------------------------------------------------------------------------------------------


def test_predict_on_a_full_disk_goes_on_when_there_is_room(
    work: Path, whole: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, results = undisturbed("predict", work, whole)
    folder = work / "disk" / "run"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    with full_disk(folder / "out", 160) as out:
        message = dualres(*PREDICT).message
        assert "no space left to write" in message and leftovers(out) == []
        done = len(list(out.glob("*.jpg")))
        assert 0 < done < 40
        for file in out.rglob("*"):
            if file.suffix == ".jpg":
                Image.open(file).load()
            elif file.suffix == ".json":
                json.loads(file.read_text())
        kept = contents(out)
    for name, data in kept.items():
        (folder / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "out" / name).write_bytes(data)
    ok(*PREDICT)
    same({f"out/{k}": v for k, v in contents(folder / "out").items()}, results)


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_earlier_results_outlive_a_full_disk(name: str, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = work / f"full-{name}" / "run"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    with full_disk(folder / "disk", 2048) as disk:
        arguments = (*COMMANDS[name][:-1], "disk/out")
        ok(*arguments)
        before = contents(disk)
        (disk / "filler").write_bytes(b"x" * 4096)
        with (disk / "filler").open("ab", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"x" * 4096)
            except OSError:
                pass
        message = dualres(*arguments).message
        assert "No space left" in message or "no space left" in message
        after = contents(disk)
        after.pop("filler")
        assert after == before and leftovers(disk) == []
