"""Frames of videos in COCO annotations: which clip an image belongs to, and where its pixels are.

COCO-VID has a list `videos`, and each image a `video_id` and a `frame_id` that counts from 0. The frames may be files,
as of any COCO data set; where they are not, they are read from a video with the name of their clip.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from dualres_plugin.common.images.blobs import ImageFile
from dualres_plugin.common.images.video import VideoFrame, count_frames, is_video
from dualres_plugin.profile.data.records import Dataset, is_file, shown

FrameOf = tuple[str, int]  # clip, and number of the frame there
PHOTO: FrameOf = ("", 0)


class Videos:
    """The videos that a file of annotations may speak of.

    Args:
        images: a folder that is searched for videos, or a video.
    """

    def __init__(self, images: Path | str):
        self.images = Path(images)
        self.counted: dict[Path, tuple[int, tuple[int, int]]] = {}

    @cached_property
    def by_name(self) -> dict[str, Path]:
        """Path by file name and by stem."""
        if is_video(self.images):
            found = [self.images]
        else:
            found = sorted(p for p in self.images.rglob("*") if is_video(p)) if self.images.is_dir() else []
        return {name: path.resolve() for path in reversed(found) for name in (path.stem, path.name)}

    def place(self, name: str, file: ImageFile | None, frame_of: FrameOf) -> tuple[ImageFile | None, FrameOf]:
        """Where an image is: in its file, or else in a video.

        Args:
            name: in the annotations; "street_000012.jpg" is a frame of street.mp4, as `predict` names it.
            file: that should hold it; None where there is none.
            frame_of: its clip and number, or `PHOTO`.

        Returns:
            File and frame; the file as it was given where there is no such video either.
        """
        if file is not None and not (isinstance(file, Path) and not is_file(file)):
            return file, frame_of
        clip, number = Path(frame_of[0]).name, frame_of[1]
        if frame_of == PHOTO:
            clip, _, digits = Path(name).stem.rpartition("_")
            number = int(digits) if re.fullmatch(r"[0-9]{1,9}", digits) else -1
        video = self.by_name.get(clip)
        if video is None or number < 0:
            return file, frame_of
        return VideoFrame(video, number), (str(video), number)

    def size(self, file: ImageFile) -> tuple[int, int] | None:
        """(height, width) of a frame in pixels; None past the end of its video, and of files.

        Args:
            file: of `place`.
        """
        if not isinstance(file, VideoFrame):
            return None
        if file.video not in self.counted:
            self.counted[file.video] = count_frames(file.video)
        count, size = self.counted[file.video]
        return size if file.number < count else None


def frames_of(dataset: Dataset, coco: dict[str, Any], whole: Callable[..., int | None]) -> dict[int, FrameOf]:
    """Clip and frame of each image, by its id; of photos none.

    Args:
        dataset: is told of frames that are left out.
        coco: the lists `images` and, perhaps, `videos`.
        whole: reads a whole number, see `coco_json.whole`.
    """
    videos = coco.get("videos")
    images = [entry for entry in coco["images"] if isinstance(entry, dict)]
    if not isinstance(videos, list) or not any("video_id" in entry for entry in images):
        return {}
    names = {whole(v.get("id")): _name(v) for v in videos if isinstance(v, dict)}
    times = Counter(names.values())
    clips = {i: name if times[name] == 1 else f"{name} ({i})" for i, name in names.items()}
    found: dict[int, FrameOf] = {}
    for entry in images:
        clip = clips.get(whole(entry.get("video_id")))
        number = whole(entry.get("frame_id", entry.get("frame_index")), 2**31 - 1)
        if clip is None or number is None or number < 0:
            dataset.drop("frames without a video_id of the file and a frame_id", str(entry.get("file_name")))
        elif (i := whole(entry.get("id"))) is not None:
            found[i] = clip, number
    return found


def _name(video: dict[str, Any]) -> str:
    """Of a clip; it is data, and goes into a table and a page."""
    return shown(str(video.get("file_name") or video.get("name") or video.get("id")))
