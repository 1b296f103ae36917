"""Reading videos, frame by frame."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.decode import UnreadableImageError
from dualres_plugin.common.images.photo import SourceImage

logger = logging.getLogger("dualres")
VIDEO_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"}
UNSURE_FRAMES = 0.02  # some containers state the number of frames from rate and duration, which is not exact


def video_rate(path: Path) -> float:
    """Frames per second of a video; 25 where the file does not say.

    Args:
        path: of the video.

    Raises:
        DualResError: If the video cannot be opened.
    """
    capture = _open_video(path)
    try:
        import cv2

        rate = float(capture.get(cv2.CAP_PROP_FPS))
    finally:
        capture.release()
    return rate if 1 <= rate <= 1000 else 25.0


def frames(path: Path) -> Iterator[SourceImage]:
    """The frames of a video, one at a time; a warning where it ends before the length that it states.

    Args:
        path: of the video.

    Raises:
        DualResError: If the video cannot be opened.
    """
    import cv2

    capture = _open_video(path)
    try:
        stated = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        number = 0
        while True:
            ok, frame = capture.read()
            if not ok:
                break
            yield SourceImage(frame_name(path, number), frame[..., ::-1])
            number += 1
    finally:
        capture.release()
    _tell_early_end(path, number, stated)


def is_video(path: Path | str) -> bool:
    """Whether a name is that of a video."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def frame_name(video: Path, number: int) -> str:
    """What a frame is called, as a file of its own would be.

    Args:
        video: the file.
        number: of the frame, from 0.
    """
    return f"{video.stem}_{number:06d}.jpg"


def count_frames(path: Path) -> tuple[int, tuple[int, int]]:
    """How many frames a video has, found by decoding it: what containers state is not exact.

    Args:
        path: of the video.

    Returns:
        The number, and (height, width) of the first frame in pixels; 0 and (0, 0) of a video without one.

    Raises:
        DualResError: If the video cannot be opened.
    """
    import cv2

    capture = _open_video(path)
    try:
        stated = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        ok, first = capture.read()
        number = int(ok)
        while ok and capture.grab():
            number += 1
    finally:
        capture.release()
    _tell_early_end(path, number, stated)
    return number, tuple(first.shape[:2]) if ok else (0, 0)


@dataclass(frozen=True)
class VideoFrame:
    """A frame of a video: an `ImageFile` like any other.

    Attributes:
        video: the file.
        number: of the frame, from 0.
    """

    video: Path
    number: int

    def __str__(self) -> str:
        return str(self.video / self.name)

    @classmethod
    def of(cls, text: Path | str) -> VideoFrame | None:
        """The frame that `str` of one names; None for any other path.

        Args:
            text: such as "street.mp4/street_000012.jpg".
        """
        path = Path(text)
        found = re.fullmatch(r".*_(\d{6,})\.jpg", path.name)
        return cls(path.parent, int(found[1])) if found and is_video(path.parent) and path.parent.is_file() else None

    @property
    def name(self) -> str:
        """As `predict` names it."""
        return frame_name(self.video, self.number)

    @property
    def suffix(self) -> str:
        """Of its name."""
        return ".jpg"

    def read_bytes(self) -> bytes:
        """The frame as a bitmap (BMP), no pixel changed.

        A video is decoded forward from where this thread has last read it, or from its beginning: seeking lands
        beside the frame that was asked for in some files. So frames in order cost one pass, others one each.

        Raises:
            UnreadableImageError: If the video has no such frame.
            DualResError: If the video cannot be opened.
        """
        import cv2

        frame = _frame(self.video, self.number)
        ok, content = (False, None) if frame is None else cv2.imencode(".bmp", frame)
        if not ok or content is None:
            raise UnreadableImageError(f"frame {self.number} of video '{self.video}' cannot be read.")
        return bytes(content)


class _Opened(threading.local):
    """The video that a thread reads.

    Attributes:
        path: of the video; None at first.
        capture: OpenCV's.
        next: number of the frame that comes next.
    """

    path: Path | None = None
    capture: Any = None
    next = 0


_opened = _Opened()


def _frame(path: Path, number: int) -> Any:
    """(H, W, 3) BGR uint8; None where the video ends before it."""
    if _opened.path != path or _opened.next > number:
        if _opened.capture is not None:
            _opened.capture.release()
        _opened.path = None  # until the other one is open
        _opened.capture, _opened.next, _opened.path = _open_video(path), 0, path
    while _opened.next < number:
        if not _opened.capture.grab():
            return None
        _opened.next += 1
    ok, frame = _opened.capture.read()
    _opened.next += ok
    return frame if ok else None


def _tell_early_end(path: Path, read: int, stated: int) -> None:
    if read < stated * (1 - UNSURE_FRAMES):
        logger.warning("video '%s' ends early: only %d of its %d frames can be read.", path, read, stated)


def _open_video(path: Path) -> Any:
    try:
        import cv2
    except ImportError:
        raise DualResError(f"reading video '{path}' needs OpenCV: pip install opencv-python-headless") from None
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise DualResError(f"video '{path}' cannot be opened.")
    return capture
