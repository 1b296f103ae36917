"""A routed YOLO that remembers the last frame: predict, track, several cameras, and skipped frames."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("ultralytics")

from dualres_plugin import DualResWrapper, ResolutionRouter
from dualres_plugin.adapters.ultralytics import attach
from dualres_plugin.budget.pace import PacedController
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.decode import read_image
from dualres_plugin.profile.gains import iou_matrix
from tests.adapters.ultralytics.helpers import real_yolo, rows
from tests.budget.stream.test_stream import head

QUIET = {"verbose": False}
STILL = 6  # frames of a photo


@pytest.fixture(scope="module")
def yolo() -> Any:
    return real_yolo()


def film(path: Path, photos: list[Path]) -> Path:
    """A video that shows each photo for a while: nothing stirs, then a cut."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (640, 480))
    for photo in photos:
        frame = cv2.resize(read_image(photo)[..., ::-1], (640, 480))
        for _ in range(STILL):
            writer.write(frame)
    writer.release()
    return path


@pytest.fixture
def video(tmp_path: Path, photos: list[Path]) -> Path:
    return film(tmp_path / "film.mp4", photos[:2])


def wrapper(yolo: Any, router: ResolutionRouter, **options: Any) -> DualResWrapper:
    return DualResWrapper(yolo, router, target_high_rate=0.5, **options)


def routes(results: Iterator[Any]) -> list[str]:
    return [result.dualres.route for result in results]


def test_a_still_scene_is_skipped_and_shows_the_boxes_of_the_frame_before(
    yolo: Any, router: ResolutionRouter, video: Path
) -> None:
    found = list(wrapper(yolo, router, skip=3).predict(video, stream=True, **QUIET))
    names = [r.dualres.route for r in found]
    pattern = [False, False, True, True, True, False]
    assert [name == "skip" for name in names] == 2 * pattern, "and it runs again at the cut"
    for i in range(len(found)):
        if names[i] == "skip":
            now, before = rows(found[i]), rows(found[i - 1])
            assert len(now) == len(before) > 0
            same = np.abs(now[:, None, 4:] - before[None, :, 4:]).max(axis=2) < 1e-4
            assert (iou_matrix(now[:, :4], before[:, :4]) * same).max(axis=1).min() > 0.9


def test_without_skip_and_head_nothing_changes(yolo: Any, router: ResolutionRouter, video: Path) -> None:
    plain = list(wrapper(yolo, router).predict(video, stream=True, **QUIET))
    kept = wrapper(yolo, router, skip=1)
    kept.streams.streams.options = kept.streams.streams.options.__class__(hysteresis=0.0)  # type: ignore[union-attr]
    for a, b in zip(plain, kept.predict(video, stream=True, **QUIET), strict=True):
        assert a.dualres.route == b.dualres.route and np.array_equal(rows(a), rows(b))


def test_the_head_decides_from_the_second_frame_of_a_scene(yolo: Any, router: ResolutionRouter, video: Path) -> None:
    never = head(first=[1.0, 0.0], one_bias=-1.0, both_bias=-1.0)
    model = wrapper(yolo, router, memory=never)
    model.set_operating_point(threshold=-0.5)
    found = list(model.predict(video, stream=True, **QUIET))
    assert all(r.dualres.score == -1.0 for i, r in enumerate(found) if i % STILL)
    alone = [r.dualres.score for i, r in enumerate(wrapper(yolo, router).predict(video, **QUIET)) if not i % STILL]
    assert [r.dualres.score for r in found[::STILL]] == pytest.approx(alone)


def test_the_tracker_goes_on_over_skipped_frames(
    yolo: Any, router: ResolutionRouter, tmp_path: Path, photos: list[Path]
) -> None:
    one = film(tmp_path / "one.mp4", photos[:1])
    seen = [set(r.boxes.id.int().tolist()) for r in wrapper(yolo, router, skip=3).track(one, stream=True, **QUIET)]
    assert seen[0] and all(ids == seen[0] for ids in seen)


def test_frames_that_come_one_by_one_are_one_stream(yolo: Any, router: ResolutionRouter, photos: list[Path]) -> None:
    model = wrapper(yolo, router, skip=1)
    frame = read_image(photos[0])[..., ::-1]
    assert [model.predict(frame, **QUIET)[0].dualres.route == "skip" for _ in range(4)] == [False, False, True, False]


def test_cameras_in_one_batch_remember_each_its_own(
    yolo: Any, router: ResolutionRouter, tmp_path: Path, photos: list[Path]
) -> None:
    """The host's own list of streams: a batch holds a frame of each."""
    videos = [film(tmp_path / f"{i}.mp4", [photos[i]]) for i in range(2)]
    (tmp_path / "cameras.streams").write_text("\n".join(map(str, videos)))
    model = wrapper(yolo, router, skip=2)
    found = list(model.predict(tmp_path / "cameras.streams", stream=True, stream_buffer=True, **QUIET))
    assert model.streams is not None and sorted(model.streams.streams.by_name) == ["0", "1"]
    assert {r.dualres.route for r in found} >= {"skip"}
    assert all(s.memory.frames >= STILL - 1 for s in model.streams.streams.by_name.values())


def test_a_batch_of_frames_of_one_video_is_refused(yolo: Any, router: ResolutionRouter, video: Path) -> None:
    with pytest.raises(DualResError, match="batch=1"):
        wrapper(yolo, router, skip=1).predict(video, batch=4, **QUIET)


def test_a_stream_goes_on_after_a_restart(yolo: Any, router: ResolutionRouter, video: Path) -> None:
    first, second = (wrapper(yolo, router, skip=3, hold_rate=True) for _ in range(2))
    whole = routes(wrapper(yolo, router, skip=3, hold_rate=True).predict(video, stream=True, **QUIET))
    capture = cv2.VideoCapture(str(video))
    frames = [capture.read()[1] for _ in range(2 * STILL)]
    before = [first.predict(frame, **QUIET)[0].dualres.route for frame in frames[:4]]
    assert first.streams is not None and second.streams is not None
    second.streams.resume(json.loads(json.dumps(first.streams.saved())))
    assert before + [second.predict(frame, **QUIET)[0].dualres.route for frame in frames[4:]] == whole


def test_attach_remembers_too(router: ResolutionRouter, video: Path) -> None:
    from dualres_plugin.adapters.ultralytics import attach

    yolo = attach(real_yolo(), router, target_high_rate=0.5, skip=3)
    found = routes(yolo.predict(video, stream=True, **QUIET))
    assert [name == "skip" for name in found] == 2 * [False, False, True, True, True, False]


@pytest.mark.parametrize("way", ["predict", "track", "attach"])
def test_frames_per_second_are_held_where_the_machine_becomes_slower(
    way: str, router: ResolutionRouter, tmp_path: Path, photos: list[Path]
) -> None:
    """The host's own loop; a clock stands for the machine: 60 and 20 ms a frame, half as much again from the 120th."""
    one = film(tmp_path / "one.mp4", [photos[i % 3] for i in range(40)])
    yolo = real_yolo()
    model = attach(yolo, router, fps=25) if way == "attach" else DualResWrapper(yolo, router, fps=25)
    controller = yolo._dualres.routing.decide.controller if way == "attach" else model.controller
    assert isinstance(controller, PacedController)
    now, ends = [0.0], []

    def clock() -> float:
        took = {None: 0.0, 0: 0.060, 1: 0.020}[controller._running]
        now[0] += took * (1.5 if len(ends) > 120 else 1.0)
        ends.append(now[0])
        return now[0]

    controller._clock = clock
    run = model.track if way == "track" else model.predict
    assert sum(1 for _ in run(one, stream=True, imgsz=64, **QUIET)) == len(ends) == 240
    for begin, end in ((40, 120), (150, 239)):
        assert (end - begin) / (ends[end] - ends[begin]) == pytest.approx(25, rel=0.06)
    assert controller.pace.times_ms == pytest.approx((90, 30))
