"""Clips as a data set: videos, and folders of frames named in order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.sources import IMAGE_SUFFIXES, walk_images
from dualres_plugin.common.images.video import VIDEO_SUFFIXES, VideoFrame, count_frames, is_video
from dualres_plugin.profile.data.records import Dataset, ImageRecord, shown


def read_clips(sources: Sequence[Path | str], every: int = 1) -> Dataset:
    """Frames without labels, clip after clip.

    Args:
        sources: videos, and folders that are searched to the bottom for videos and for frames. The frames of a folder
            are a clip, in the order of the numbers in their names.
        every: n, to take every n-th frame of a clip, beginning with the first.

    Returns:
        At least one frame; each knows its clip and its number there.

    Raises:
        DualResError: If a source is missing, holds no frame, or is there twice.
    """
    dataset = Dataset(shown(", ".join(Path(source).name for source in sources[:3])), [], labelled=False)
    seen = set[Path]()
    for source in map(Path, sources):
        for clip in _clips_of(source):
            path = clip[0].parent if isinstance(clip, list) else clip
            if path.resolve() in seen:
                raise DualResError(f"clip '{path}' is there twice: name it once.")
            seen.add(path.resolve())
            _add(dataset, clip, every)
    if not dataset.records:
        raise DualResError(f"no usable frame in {', '.join(map(str, sources))}: {'; '.join(dataset.warnings())}.")
    return dataset


def _clips_of(source: Path) -> Iterator[Path | list[Path]]:
    """Videos, and the frames of each folder."""
    if source.is_file() and is_video(source):
        yield source
    elif source.is_dir():
        frames = list(walk_images(source))
        videos = sorted(path for path in source.rglob("*") if is_video(path) and path.is_file())
        if not frames and not videos:
            kinds = ", ".join(sorted(VIDEO_SUFFIXES | IMAGE_SUFFIXES))
            raise DualResError(f"no videos or frames in '{source}' ({kinds}).")
        yield from videos
        for _, inside in groupby(sorted(frames, key=lambda path: str(path.parent)), key=lambda path: path.parent):
            yield sorted(inside, key=lambda path: in_order(path.name))
    else:
        what = "is no video and no folder of clips" if source.exists() else "does not exist"
        raise DualResError(f"'{source}' {what}: give videos ({', '.join(sorted(VIDEO_SUFFIXES))}), or folders.")


def _add(dataset: Dataset, clip: Path | list[Path], every: int) -> None:
    if isinstance(clip, list):
        folder = str(clip[0].parent.resolve())
        for number in range(0, len(clip), every):
            dataset.add(len(dataset.records) + 1, clip[number], None, [], (folder, number))
        return
    video = clip.resolve()
    count, size = count_frames(video)
    if not count:
        dataset.drop("videos without a frame", video.name)
    for number in range(0, count, every):
        dataset.add(len(dataset.records) + 1, VideoFrame(video, number), size, [], (str(video), number))


def take_every(dataset: Dataset, every: int) -> None:
    """Keep every n-th frame of each clip, beginning with the first.

    Args:
        dataset: of clips; changed in place.
        every: n; 1 keeps all.

    Raises:
        DualResError: If it holds photos.
    """
    if every == 1:
        return
    if not dataset.clips:
        raise DualResError("--every takes frames of clips, and these are photos: name videos or folders of frames.")
    dataset.records = [r for clip in _by_clip(dataset.records) for r in clip[::every]]
    dataset.records.sort(key=lambda record: record.id)


def check_views(dataset: Dataset, views: int) -> None:
    """Refuse views of videos: a mosaic takes frames from anywhere, and each would decode its video from the start.

    Args:
        dataset: to be profiled.
        views: of each image.

    Raises:
        DualResError: If there are to be more than the frames themselves.
    """
    if views > 1 and any(isinstance(record.path, VideoFrame) for record in dataset.records):
        raise DualResError(f"views={views} are of photos: 1 for videos, or write their frames to a folder.")


def _by_clip(records: Iterable[ImageRecord]) -> Iterator[list[ImageRecord]]:
    ordered = sorted(records, key=lambda r: (r.clip, r.frame))
    for _, clip in groupby(ordered, key=lambda r: r.clip):
        yield list(clip)


def in_order(name: str) -> list[tuple[int, str]]:
    """A key by which frame 2 comes before frame 10, whether or not their numbers are padded.

    Args:
        name: of a frame's file.
    """
    parts = re.split(r"(\d+)", name)
    return [(int(part) if part.isdecimal() else -1, part) for part in parts]
