"""Reading videos, frame by frame."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dualres_plugin.common.errors import DualResError
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
            yield SourceImage(f"{path.stem}_{number:06d}.jpg", frame[..., ::-1])
            number += 1
    finally:
        capture.release()
    if number < stated * (1 - UNSURE_FRAMES):
        logger.warning("video '%s' ends early: only %d of its %d frames can be read.", path, number, stated)


def _open_video(path: Path) -> Any:
    try:
        import cv2
    except ImportError:
        raise DualResError(f"reading video '{path}' needs OpenCV: pip install opencv-python-headless") from None
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise DualResError(f"video '{path}' cannot be opened.")
    return capture
