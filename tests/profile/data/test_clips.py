"""Videos, folders of frames, COCO-VID and MOTChallenge as data sets of clips."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.shard import Shard
from dualres_plugin.common.images.decode import UnreadableImageError, read_image
from dualres_plugin.common.images.video import VideoFrame, count_frames, frames
from dualres_plugin.predict.video import video_at
from dualres_plugin.profile.build import build_profile, build_shard
from dualres_plugin.profile.data.dataset import load_dataset
from dualres_plugin.profile.parts.clips import ClipRows
from dualres_plugin.profile.parts.merge import merge_shards
from dualres_plugin.profile.table import Profile
from tests.fakes import photo
from tests.profile.helpers import SETTINGS, Killed, adapter, kill_after

pytest.importorskip("cv2")


def film(path: Path, count: int, size: tuple[int, int] = (48, 64), seed: int = 0) -> Path:
    """An .mp4 whose frames all differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with video_at(path, 25.0) as video:
        for number in range(count):
            video.write(Image.fromarray(photo(seed + number, size)))
        video.finish()
    return path


def unpack(video: Path, folder: Path) -> Path:
    """The frames of a video as files that lose nothing."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames(video)):
        Image.fromarray(np.ascontiguousarray(frame.pixels)).save(folder / f"{number}.png")
    return folder


def made(out: Path, *clips: Path, **options: Any) -> Profile:
    dataset = load_dataset(None, clips=[str(clip) for clip in clips], every=options.pop("every", 1))
    return build_profile(adapter(), dataset, out, SETTINGS, progress=False, **options)


def rows_of(profile: Profile) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ("path", "clip")} for row in profile.table.to_pylist()]


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    return [film(tmp_path / "v" / "street.mp4", 7), film(tmp_path / "v" / "yard.mp4", 5, (64, 48), seed=50)]


def test_any_frame_is_the_one_that_reading_in_order_gives(videos: list[Path]) -> None:
    expected = [np.ascontiguousarray(frame.pixels) for frame in frames(videos[0])]
    for number in (3, 4, 1, 6, 0, 0):
        assert np.array_equal(read_image(VideoFrame(videos[0], number)), expected[number])
    assert count_frames(videos[0]) == (7, (48, 64)) and count_frames(videos[1]) == (5, (64, 48))
    for number in (7, 100):
        with pytest.raises(UnreadableImageError, match=f"frame {number} of video"):
            read_image(VideoFrame(videos[0], number))
    assert VideoFrame.of(str(VideoFrame(videos[0], 5))) == VideoFrame(videos[0], 5)
    assert VideoFrame.of(videos[0]) is None and VideoFrame.of("gone.mp4/gone_000001.jpg") is None


@pytest.mark.parametrize("workers", [1, 3])
def test_the_profile_of_videos_is_that_of_their_frames(tmp_path: Path, videos: list[Path], workers: int) -> None:
    folders = [unpack(video, tmp_path / "frames" / video.stem) for video in videos]
    ours, theirs = made(tmp_path / "a", *videos, workers=workers), made(tmp_path / "b", *folders)
    assert rows_of(ours) == rows_of(theirs) and len(ours) == 12
    assert made(tmp_path / "c", tmp_path / "v").table == ours.table, "a folder of videos"
    order = ClipRows.of(ours)
    assert order.names == ("street.mp4", "yard.mp4") and order.starts.tolist() == [0, 7, 12]
    assert ours.column("frame").tolist() == [*range(7), *range(5)]
    for row in (0, 6, 9):
        video, number = (videos[0], row) if row < 7 else (videos[1], row - 7)
        assert ours.image_file(row) == VideoFrame(video, number)


def test_every_second_frame(tmp_path: Path, videos: list[Path]) -> None:
    some = made(tmp_path / "a", videos[0], every=3)
    assert some.column("frame").tolist() == [0, 3, 6]
    whole = rows_of(made(tmp_path / "b", videos[0]))
    assert [{**row, "image_id": 0} for row in rows_of(some)] == [{**whole[i], "image_id": 0} for i in (0, 3, 6)]
    frames = unpack(videos[0], tmp_path / "frames")
    assert [r.path.name for r in load_dataset(None, clips=[str(frames)], every=3).records] == [
        "0.png", "3.png", "6.png"]  # fmt: skip
    with pytest.raises(DualResError, match="--every takes frames of clips"):
        load_dataset(None, frames, every=3)


def test_a_killed_one_is_resumed_and_shards_make_the_same(tmp_path: Path, videos: list[Path]) -> None:
    whole = made(tmp_path / "whole", *videos)
    dataset = load_dataset(None, clips=[str(v) for v in videos])
    with pytest.raises(Killed):
        host = adapter()
        host.on_pass = kill_after(4)
        build_profile(host, dataset, tmp_path / "again", SETTINGS, progress=False)
    assert made(tmp_path / "again", *videos).table == whole.table
    shards = [
        build_shard(adapter(), dataset, tmp_path / f"s{i}", SETTINGS, Shard(i, 2), progress=False) for i in (1, 2)
    ]
    assert merge_shards(tmp_path / "merged", shards).table == whole.table
    with pytest.raises(DualResError, match="other settings"):
        made(tmp_path / "again", videos[0])


def test_what_is_no_clip_is_refused(tmp_path: Path, videos: list[Path]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("x")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    for source, said in [
        (tmp_path / "none", "does not exist"),
        (tmp_path / "note.txt", "is no video and no folder"),
        (tmp_path / "empty", "no videos or frames in"),
        (broken, "cannot be opened"),
    ]:
        with pytest.raises(DualResError, match=said):
            load_dataset(None, clips=[str(source)])
    with pytest.raises(DualResError, match="is there twice"):
        load_dataset(None, clips=[str(videos[0]), str(tmp_path / "v")])
    with pytest.raises(DualResError, match="give one of them"):
        load_dataset(None, tmp_path, clips=[str(videos[0])])
    with pytest.raises(DualResError, match="views=3 are of photos"):
        build_profile(adapter(), load_dataset(None, videos[0]), tmp_path / "p", replace(SETTINGS, views=3))


def test_a_video_that_loses_frames_meanwhile_loses_rows(tmp_path: Path, videos: list[Path]) -> None:
    dataset = load_dataset(None, clips=[str(videos[0])])
    film(videos[0], 4)
    profile = build_profile(adapter(), dataset, tmp_path / "p", SETTINGS, progress=False)
    assert profile.column("frame").tolist() == [0, 1, 2, 3]
    assert "frame 4 of video" in profile.meta["left_out"][0]


def coco_vid(path: Path, names: list[str], file: str, frames_each: int = 3) -> Path:
    """A box in each frame that tells which one it is."""
    coco: dict[str, Any] = {"videos": [], "images": [], "annotations": [], "categories": [{"id": 1, "name": "square"}]}
    for clip, name in enumerate(names):
        coco["videos"].append({"id": clip, "name": name})
        for frame in range(frames_each):
            i = 10 * clip + frame
            entry = {"id": i, "file_name": file.format(name=name, frame=frame), "video_id": clip, "frame_id": frame}
            coco["images"].append(entry)
            coco["annotations"].append({"image_id": i, "category_id": 1, "bbox": [frame, 0, 8, 8]})
    path.write_text(json.dumps(coco))
    return path


def test_coco_vid_of_videos_and_of_frames_in_one_folder(tmp_path: Path, videos: list[Path]) -> None:
    data = coco_vid(tmp_path / "vid.json", ["street", "yard.mp4"], "{name}/{frame:06d}.jpg")
    dataset = load_dataset(data, tmp_path / "v")
    assert dataset.clips and [r.frame for r in dataset.records] == [0, 1, 2, 0, 1, 2]
    assert [r.path for r in dataset.records[:3]] == [VideoFrame(videos[0].resolve(), n) for n in range(3)]
    assert dataset.records[4].boxes[0].tolist() == [1, 0, 9, 8] and dataset.records[4].size == (64, 48)
    flat = tmp_path / "flat"
    flat.mkdir()
    for clip in ("a", "b"):
        for number in range(3):
            Image.fromarray(photo(number)).save(flat / f"{clip}{2 - number}.png")
    dataset = load_dataset(coco_vid(tmp_path / "flat.json", ["b", "a"], "{name}{frame}.png"), flat)
    profile = build_profile(adapter(), dataset, tmp_path / "p", SETTINGS, progress=False)
    order = ClipRows.of(profile)
    assert order.names == ("a", "b") and order.rows.tolist() == [3, 4, 5, 0, 1, 2], "one folder, two clips"


def test_odd_entries_of_coco_vid_are_left_out(tmp_path: Path, videos: list[Path]) -> None:
    data = coco_vid(tmp_path / "vid.json", ["street", "yard"], "{name}/{frame:06d}.jpg", frames_each=6)
    coco = json.loads(data.read_text())
    coco["images"][0]["video_id"] = 9
    coco["images"][1].pop("frame_id")
    data.write_text(json.dumps(coco))
    dataset = load_dataset(data, tmp_path / "v")
    assert len(dataset.records) == 9 and dataset.clips
    assert dataset.dropped["frames without a video_id of the file and a frame_id"] == 2
    assert dataset.dropped["frames past the end of their video"] == 1


def test_names_of_clips_are_only_data(tmp_path: Path, videos: list[Path]) -> None:
    names = ["\ud800<b>" * 3, "x" * 100_000, "../../street"]
    dataset = load_dataset(coco_vid(tmp_path / "vid.json", names, "{frame}.jpg", 1), tmp_path / "v")
    assert [r.path for r in dataset.records] == [VideoFrame(videos[0].resolve(), 0)], (
        "by its name, in this folder alone"
    )
    Image.fromarray(photo(0)).save(tmp_path / "v" / "0.jpg")
    dataset = load_dataset(tmp_path / "vid.json", tmp_path / "v")
    profile = build_profile(adapter(), dataset, tmp_path / "p", SETTINGS, progress=False)
    assert len(ClipRows.of(profile).names) == 3 and max(map(len, profile.column("clip"))) < 1000


def test_clips_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for camera in ("door", "yard"):
        (tmp_path / camera / "frames").mkdir(parents=True)
        Image.fromarray(photo(0)).save(tmp_path / camera / "frames" / "0.png")
    assert ClipRows.of(made(tmp_path / "p", tmp_path / "door", tmp_path / "yard")).names == (
        "door/frames",
        "yard/frames",
    )


def test_a_coco_file_of_the_frames_that_predict_names(tmp_path: Path, videos: list[Path]) -> None:
    coco = json.loads(coco_vid(tmp_path / "x.json", ["street"], "{name}_{frame:06d}.jpg").read_text())
    del coco["videos"]
    (tmp_path / "x.json").write_text(json.dumps(coco))
    dataset = load_dataset(tmp_path / "x.json", clips=[str(videos[0])])
    assert [r.path for r in dataset.records] == [VideoFrame(videos[0].resolve(), n) for n in range(3)]
    assert dataset.clips and dataset.labelled


def test_mot_challenge(tmp_path: Path) -> None:
    sequence = tmp_path / "train" / "MOT17-02"
    (sequence / "img1").mkdir(parents=True)
    (sequence / "gt").mkdir()
    for number in range(1, 4):
        Image.fromarray(photo(number)).save(sequence / "img1" / f"{number:06d}.jpg")
    people = ["1,1,10,5,20,30,1,1,1", "1,2,1,2,3,4,0,1,1"]
    others = ["3,1,10,5,20,30,1,7,0.5", "3,2,0,0,9,9,1,3,1"]
    (sequence / "gt" / "gt.txt").write_text("\n".join([*people, *others, "2,1,0,0,0,5,1,1,1", "nonsense,1"]))
    for data in (tmp_path / "train", sequence, sequence / "gt" / "gt.txt"):
        dataset = load_dataset(data)
        assert dataset.categories == {1: "person"} and dataset.clips
        assert [r.frame for r in dataset.records] == [1, 2, 3]
        assert dataset.records[0].boxes.tolist() == [[10, 5, 30, 35], [1, 2, 4, 6]]
        assert dataset.records[0].ignore.tolist() == [False, True]
        assert dataset.records[2].ignore.tolist() == [True], "class 7 is neither right nor wrong, class 3 a car"
        assert dataset.dropped.total() == 2
    assert [r.frame for r in load_dataset(sequence, every=2).records] == [1, 3]
    with pytest.raises(DualResError, match="frames beside it"):
        load_dataset(sequence, tmp_path)
    shutil.rmtree(sequence / "img1")
    with pytest.raises(DualResError, match="has no frames"):
        load_dataset(sequence)
