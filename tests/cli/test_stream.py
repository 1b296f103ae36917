"""`dualres train-stream`: where the head goes, and what `predict` does with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from dualres_plugin.budget.stream.head import StreamHead
from dualres_plugin.cli.app import app
from dualres_plugin.common.errors import DualResError
from dualres_plugin.predict.video import video_at
from dualres_plugin.router.network import ResolutionRouter
from tests.shared import require_shared
from tests.train.test_stream import SIDE, clips_profile


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


@pytest.fixture
def router(tmp_path: Path) -> Path:
    folder = tmp_path / "router"
    made = ResolutionRouter(backbone="tiny@4", input_size=SIDE).eval()
    made.calibrate([-1.0, 0.0, 1.0])
    made.save(folder)
    return folder


def test_the_head_goes_beside_the_router_or_both_elsewhere(tmp_path: Path, router: Path) -> None:
    clips_profile(tmp_path / "clips")
    assert "rank correlation" in run("train-stream", tmp_path / "clips", "--router", router)
    ours = StreamHead.load(router)
    run("train-stream", tmp_path / "clips", "--router", router, "--out", tmp_path / "both")
    assert StreamHead.load(tmp_path / "both") == ours
    assert ResolutionRouter.from_pretrained(tmp_path / "both").config.input_size == SIDE


def test_from_videos_to_a_head(tmp_path: Path, router: Path) -> None:
    """Label-free, with a real detector, and no frame on disk."""
    pytest.importorskip("ultralytics")
    weights = require_shared("weights", "yolo11n.pt")
    photos = sorted(require_shared("data", "coco_mini", "images", "val2017").glob("*.jpg"))[:6]
    (tmp_path / "v").mkdir()
    for photo in photos:
        with Image.open(photo) as picture, video_at(tmp_path / "v" / f"{photo.stem}.mp4", 25.0) as video:
            for left in range(4):
                video.write(picture.convert("RGB").resize((340, 260)).crop((left, 0, 320 + left, 240)))
            video.finish()
    told = run("profile", weights, tmp_path / "v", "--high", 320, "--thumbnail", 32, "--out", tmp_path / "clips")
    assert "24 views of 24 images" in told and sorted(f.suffix for f in (tmp_path / "v").iterdir()) == [".mp4"] * 6
    assert "6 clips" in run("train-stream", tmp_path / "clips", "--router", router)
    assert StreamHead.load(router).info["frames"] == 24
    one = tmp_path / "v" / f"{photos[0].stem}.mp4"
    few = run("profile", weights, one, "--every", 2, "--high", 320, "--out", tmp_path / "few")
    assert "2 views of 2 images" in few


def test_predict_holds_frames_per_second(tmp_path: Path, router: Path) -> None:
    """A real detector; whatever this machine does, far fewer frames than it can are all high, far more all low."""
    pytest.importorskip("ultralytics")
    weights = require_shared("weights", "yolo11n.pt")
    with video_at(tmp_path / "v.mp4", 25.0) as video:
        for number in range(90):
            video.write(Image.fromarray(np.random.default_rng(number).integers(0, 255, (120, 160, 3), dtype=np.uint8)))
        video.finish()
    shares: dict[float, float] = {}
    for fps in (0.2, 5000):
        told = run("predict", weights, tmp_path / "v.mp4", "--router", router, "--fps", fps, "--high", 160, "--no-save",
                   "--out", tmp_path / str(fps))  # fmt: skip
        assert f"frames a second at the end, {fps:g} wanted" in told and "ms a frame by size" in told
        shares[fps] = float(told.split("(")[1].split("%")[0])
    assert shares[0.2] > 80 > 20 > shares[5000]
    with pytest.raises(DualResError, match="only one of the budgets"):
        run("predict", weights, tmp_path / "v.mp4", "--fps", 5, "--ms", 5, "--out", tmp_path / "none")


@pytest.mark.parametrize("name", ["default", "small"])
def test_the_folder_of_a_router_that_ships_is_not_written_to(tmp_path: Path, name: str) -> None:
    with pytest.raises(DualResError, match="--out"):
        run("train-stream", tmp_path, "--router", name)


def test_predict_remembers_and_skips(tmp_path: Path, router: Path) -> None:
    pytest.importorskip("ultralytics")
    weights = require_shared("weights", "yolo11n.pt")
    clips_profile(tmp_path / "clips")
    run("train-stream", tmp_path / "clips", "--router", router)
    (tmp_path / "frames").mkdir()
    still = Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)).resize((320, 240))
    for number in range(4):
        still.save(tmp_path / "frames" / f"{number}.png")
    told = run("predict", weights, tmp_path / "frames", "--router", router, "--memory", router, "--skip", 2,
               "--no-save", "--out", tmp_path / "out")  # fmt: skip
    assert "skip 2 (50%)" in told
    routes = [line.split(",")[1] for line in (tmp_path / "out" / "routes.csv").read_text().splitlines()[1:]]
    assert [route == "skip" for route in routes] == [False, False, True, True]
