"""Many processes make one profile: shards by hand and by a launcher, several devices, kills; with a real detector."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from dualres_plugin.profile.table import META, PARTS, ROWS
from tests.e2e.cli import command, dualres, ok
from tests.shared import require_shared

pytestmark = [pytest.mark.shared, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """`profile` of 20 photos by YOLO11n at 160 and 80 px, all but --out."""
    folder = tmp_path_factory.mktemp("scale")
    content = json.loads(require_shared("data/coco_mini/annotations/instances_val2017.json").read_text())
    content["images"] = content["images"][:20]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    (folder / "val.json").write_text(json.dumps(content))
    images = require_shared("data/coco_mini/images/val2017")
    detector = require_shared("weights/yolo11n.pt")
    return ["profile", detector, "--data", folder / "val.json", "--images", images, "--high", 160, "--batch", 2]


@pytest.fixture(scope="module")
def whole(arguments: list[object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "p"
    ok(*arguments, "--out", out)
    return out


def equal(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in (META, ROWS))


def test_four_shards_are_one_profile(
    arguments: list[object], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "p"
    for shard in ("1/4", "3/4"):
        said = ok(*arguments, "--out", out, "--shard", shard).out
    assert f"shard 3/4 in {out}.3-of-4" in said and f"dualres profile-merge {out} {out}.*-of-4" in said
    missing = dualres("profile-merge", out, *sorted(tmp_path.glob("p.*"))).message
    assert missing == "2 of 4 shards are missing: 2/4, 4/4."
    monkeypatch.setenv("WORLD_SIZE", "4")
    for rank in ("1", "3"):  # as torchrun numbers them, from 0
        monkeypatch.setenv("RANK", rank)
        ok(*arguments, "--out", out, "--shard", "auto")
    ok("profile-merge", out, *sorted(tmp_path.glob("p.*")))
    assert equal(out, whole)


def test_two_devices_are_two_processes(arguments: list[object], whole: Path, tmp_path: Path) -> None:
    ok(*arguments, "--out", tmp_path / "p", "--device", "cpu,cpu")
    assert equal(tmp_path / "p", whole) and [path.name for path in tmp_path.iterdir()] == ["p"]
    ok(*arguments, "--out", tmp_path / "p", "--device", "cpu,cpu")  # complete already
    assert "other settings" in dualres(*arguments, "--out", tmp_path / "p", "--device", "cpu,cpu", "--seed", 1).message


def test_a_shard_killed_with_signal_9_resumes(arguments: list[object], whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "p"
    ok(*arguments, "--out", out, "--shard", "1/2")
    parts = tmp_path / "p.2-of-2" / PARTS
    process = subprocess.Popen(command(*arguments, "--out", out, "--shard", "2/2"), env=dict(os.environ))
    until = time.monotonic() + 120
    while not list(parts.glob("batch-*")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(parts.glob("*-00000*")), "killed before its first batch"
    ok(*arguments, "--out", out, "--shard", "2/2")
    ok("profile-merge", out, tmp_path / "p.1-of-2", tmp_path / "p.2-of-2")
    assert equal(out, whole)


@pytest.mark.localhost
def test_a_ray_worker_makes_the_same_profile(
    arguments: list[object], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="needs pip install ray[data]")
    ok(
        *arguments, "--out", tmp_path / "p", "--engine", "ray", "--concurrency", 1
    )  # two: tests/profile/parts/test_cluster.py
    assert equal(tmp_path / "p", whole) and not ray.is_initialized()  # its own cluster is gone again


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard", "5/4"], "--shard 5/4: give NUMBER/COUNT"),
        (["--shard", "0/4"], "--shard 0/4: give NUMBER/COUNT"),
        (["--shard", "auto"], "neither torchrun"),
        (["--engine", "spark"], "known are local and ray"),
        (["--address", "auto"], "are of --engine ray"),
        (["--engine", "ray", "--shard", "1/2"], "leave it out with --engine ray"),
        (["--device", "cpu,cpu", "--shard", "1/2"], "several devices"),
        (["--device", "cpu,cpu", "--engine", "ray"], "workers have one device each"),
    ],
)
def test_what_cannot_be_is_one_error(
    options: list[str], message: str, arguments: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "SLURM_ARRAY_TASK_ID", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    assert message in dualres(*arguments, "--out", tmp_path / "p", *options).message


def test_the_plan_runs_nothing(arguments: list[object], tmp_path: Path) -> None:
    said = ok(*arguments, "--views", 3, "--out", tmp_path / "p", "--plan").out
    assert said.startswith("20 images, 60 rows, ") and "GMACs per row: 160 px 0." in said and ", 80 px 0." in said
    assert not (tmp_path / "p").exists()


def test_shards_of_predict_are_together_the_whole(arguments: list[object], tmp_path: Path) -> None:
    detector, images = arguments[1], arguments[5]
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(str(p) for p in sorted(Path(str(images)).glob("*.jpg"))[:9]))
    options = ["--high", 160, "--no-save", "--threshold", 0]
    ok("predict", detector, listed, "--out", tmp_path / "whole", *options)
    for i in (1, 2):
        ok("predict", detector, listed, "--out", tmp_path / "p", "--shard", f"{i}/2", *options)
    tables = [(tmp_path / name / "routes.csv").read_text().splitlines() for name in ("whole", "p.1-of-2", "p.2-of-2")]
    whole, one, two = (table[1:] for table in tables)
    assert (len(one), len(two)) == (5, 4) and [row for pair in zip(one, [*two, None]) for row in pair][:9] == whole
    assert (
        "nothing to do for shard 10"
        in dualres("predict", detector, listed, "--out", tmp_path / "p", "--shard", "10/10", *options).message
    )
