"""A video of drawn frames, which takes its name when it can be played."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import temporary_file


class Video:
    """Writes frames to an .mp4; the size is that of the first frame.

    Args:
        path: of the finished video.
        temporary: where it is written until then.
        rate: frames per second.
    """

    def __init__(self, path: Path, temporary: Path, rate: float):
        self.path = path
        self.temporary = temporary
        self.rate = rate
        self.frames = 0
        self.writer: Any = None

    def write(self, frame: Image.Image) -> None:
        """Add a frame."""
        import cv2

        if self.writer is None:
            fourcc = cv2.VideoWriter.fourcc(*"mp4v")
            self.writer = cv2.VideoWriter(str(self.temporary), fourcc, self.rate, frame.size)
        self.writer.write(np.ascontiguousarray(np.asarray(frame)[..., ::-1]))
        self.frames += 1

    def finish(self) -> None:
        """Close the video and give it its name.

        Raises:
            DualResError: If it lacks frames: OpenCV says nothing of a full disk.
        """
        import cv2

        if self.writer is None:
            return
        self.close()
        made = cv2.VideoCapture(str(self.temporary))
        held = int(made.get(cv2.CAP_PROP_FRAME_COUNT)) if made.isOpened() else 0
        made.release()
        if held < self.frames:
            raise DualResError(
                f"'{self.path}' could not be written: it would hold {held} of {self.frames} frames. Is the disk full? "
                "Free some space, or choose another --out."
            )
        self.temporary.replace(self.path)

    def close(self) -> None:
        """Let go of the file."""
        if self.writer is not None:
            self.writer.release()
            self.writer = None


@contextmanager
def video_at(path: Path, rate: float) -> Iterator[Video]:
    """A video in the making; nothing is left of it unless it was finished.

    Args:
        path: of the finished video.
        rate: frames per second.

    Yields:
        The video; `finish` gives it its name.
    """
    with temporary_file(path) as temporary:
        video = Video(path, temporary, rate)
        try:
            yield video
        finally:
            video.close()
