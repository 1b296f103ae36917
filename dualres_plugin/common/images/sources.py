"""Reading photos: any file that people have, as RGB uint8 arrays."""

from __future__ import annotations

import glob
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dualres_plugin.common.errors import DualResError

if TYPE_CHECKING:  # the exported runtime reads photos without torch
    from torch import Tensor

    from dualres_plugin.common.types import RouterImages

logger = logging.getLogger("dualres")
Item = TypeVar("Item")
OnSkip = Callable[[str], object]  # told why an image is left out
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
UNSURE_FRAMES = 0.02  # some containers state the number of frames from rate and duration, which is not exact
MOST_TENSOR = 2.0  # resampling overshoots 1 a little; pixels from 0 to 255 are far above
VIDEO_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"}


class UnreadableImageError(DualResError):
    """One image that cannot be used; long jobs count it and go on."""


@dataclass(frozen=True)
class SourceImage:
    """One image of a source.

    Attributes:
        name: file name, or `image12` / `video_000012` for arrays and frames.
        pixels: (H, W, 3) RGB uint8.
        path: of its file; None for arrays and frames.
    """

    name: str
    pixels: np.ndarray
    path: Path | None = None

    def tensor(self) -> Tensor:
        """(3, H, W) RGB in [0, 1]."""
        import torch

        from dualres_plugin.common.resize import to_unit

        # Pixels straight from an image library may be read-only, which torch warns about.
        pixels = np.require(self.pixels, requirements=["C", "W"])
        return to_unit(torch.from_numpy(pixels).permute(2, 0, 1))


def read_image(path: Path | str, size: tuple[int, int] | None = None) -> np.ndarray:
    """Decode a photo, turned as its EXIF data say: the hosts do so too.

    Args:
        path: the file.
        size: (height, width) that its annotation states. Where only the unrotated pixels have it, the boxes were drawn
            on those, so they are kept.

    Returns:
        (H, W, 3) RGB uint8.

    Raises:
        UnreadableImageError: If the file is missing, empty, truncated or no image, or its size is not `size`.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise UnreadableImageError(f"'{path}' is empty (0 bytes).")
        with Image.open(path) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
            if size is not None and upright.size[::-1] != size and image.size[::-1] == size:
                upright = image
            pixels = _to_rgb(upright)
    except FileNotFoundError:
        raise UnreadableImageError(f"'{path}' does not exist.") from None
    except UnreadableImageError:
        raise
    except (UnidentifiedImageError, ImportError):  # Ultralytics makes PIL ask for a HEIF package in such a case
        raise UnreadableImageError(f"'{path}' is not an image that can be read.") from None
    except Exception as error:  # decoders of damaged bytes raise anything: struct.error, zlib.error, IndexError …
        raise UnreadableImageError(f"'{path}' is damaged: {error}.") from None
    if size is not None and pixels.shape[:2] != size:
        raise UnreadableImageError(
            f"'{path}' is {pixels.shape[1]}x{pixels.shape[0]} pixels, its annotation says {size[1]}x{size[0]}."
        )
    return pixels


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit grey: keep the upper eight bits, do not clip
        deep = np.nan_to_num(np.asarray(image).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        largest = deep.max(initial=0)
        if image.mode == "F" and largest <= 1:  # floats from 0 to 1, as scientific software writes them
            deep = np.round(deep * 255)
        eight = np.clip(deep / 257.0 if largest > 255 else deep, 0, 255).astype(np.uint8)
        return np.repeat(eight[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        # Hosts drop the alpha channel; the colours below it are what a camera saw.
        return np.asarray(image.convert("RGBA"))[..., :3].copy()
    return np.array(image.convert("RGB"))


def image_size(path: Path | str) -> tuple[int, int]:
    """(height, width) in pixels as displayed, from the header alone.

    Raises:
        UnreadableImageError: If the header cannot be read.
    """
    try:
        with Image.open(path) as image:
            w, h = image.size
            rotated = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except Exception as error:  # as in `read_image`
        raise UnreadableImageError(f"'{path}' is not an image that can be read: {error}") from None
    return (w, h) if rotated else (h, w)


def list_images(folder: Path | str) -> list[Path]:
    """All image files below a folder, sorted.

    Args:
        folder: is searched to the bottom.

    Raises:
        DualResError: If the folder is missing or holds none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DualResError(f"image folder '{folder}' does not exist.")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise DualResError(f"no images in '{folder}' ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    return found


def iter_source(source: Any, on_skip: OnSkip | None = None) -> Iterator[SourceImage]:
    """Images of what people pass as a source: path, folder, glob, list file (.txt), video, array, tensor, or many.

    A list or tuple holds paths, arrays, tensors or PIL images; an iterator, such as a camera's frames, is read no
    further than its images are used.

    Args:
        source: arrays are (H, W, 3) RGB uint8, tensors (3, H, W) RGB in [0, 1].
        on_skip: called with the message of each unreadable file of a folder, glob or list, which is then left out;
            a single unreadable file raises.

    Yields:
        One image at a time, with its name.

    Raises:
        DualResError: If the source does not exist or cannot be read, or an array or tensor is no such picture.
    """
    if isinstance(source, (list, tuple, Iterator)):
        for i, item in enumerate(source):
            yield from _one(item, f"image{i}", on_skip)
        return
    if not isinstance(source, (str, Path)):
        yield from _one(source, "image0", None)
        return
    paths = expand_source(source)
    for path in paths:
        if path.suffix.lower() in VIDEO_SUFFIXES:
            yield from _frames(path)
        else:
            yield from _one(path, path.name, on_skip if len(paths) > 1 else None)


def check_photo(photo: np.ndarray) -> np.ndarray:
    """Return the photo if it is RGB uint8.

    Args:
        photo: should be (H, W, 3).

    Raises:
        DualResError: If it is not (H, W, 3) uint8, or empty.
    """
    if not isinstance(photo, np.ndarray):
        raise DualResError(f"an image must be a numpy array (H, W, 3) or a path, not {type(photo).__name__}.")
    if photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
        raise DualResError(f"an image must have the shape (H, W, 3), RGB; got {photo.shape}.")
    if photo.dtype != np.uint8:
        raise DualResError(f"an image must be uint8, 0 to 255; got {photo.dtype}. Convert it before.")
    return photo


def check_tensor(photo: Tensor) -> Tensor:
    """Return the photo if it is RGB in [0, 1].

    Args:
        photo: should be (3, H, W), floating.

    Raises:
        DualResError: If it is not (3, H, W), empty, whole numbers, or has values far above 1: read as [0, 1] these
            would be white.
    """
    if photo.ndim != 3 or photo.shape[0] != 3 or not photo.numel():
        raise DualResError(f"a tensor must have the shape (3, H, W), RGB; got {tuple(photo.shape)}.")
    if not photo.is_floating_point():
        raise DualResError(
            f"a tensor must be floating, RGB in [0, 1]; got {photo.dtype}. Divide it by 255, or give a uint8 array "
            "(H, W, 3)."
        )
    largest = float(photo.max())
    if largest > MOST_TENSOR:
        raise DualResError(f"a tensor must be RGB in [0, 1]; this one reaches {largest:g}. Divide it by 255.")
    return photo


def in_batches(items: Iterable[Item], count: int) -> Iterator[list[Item]]:
    """The items in lists, read as they are used.

    Args:
        items: any number of them.
        count: length of a list; the last one may be shorter.
    """
    left = iter(items)
    while part := list(islice(left, count)):
        yield part


def expand_source(source: str | Path) -> list[Path]:
    """The files that a path, folder, glob or list file stands for.

    Args:
        source: a list file (.txt) has a path per line, relative to itself.

    Raises:
        DualResError: If there are none.
    """
    path = Path(source)
    try:
        is_dir, is_file = path.is_dir(), path.is_file()
    except OSError as error:  # a name longer than the file system takes
        raise DualResError(f"source '{str(source)[:200]}' cannot be read: {error.strerror}.") from None
    if is_dir:
        return list_images(path)
    if path.suffix.lower() == ".txt" and is_file:
        lines = [line.strip() for line in _list_text(path).splitlines() if line.strip()]
        return [Path(line) if Path(line).is_absolute() else path.parent / line for line in lines]
    if is_file:
        return [path]
    found = [Path(p) for p in sorted(glob.glob(str(source), recursive=True))]  # noqa: PTH207 - absolute patterns too
    if not found:
        raise DualResError(f"source '{source}' does not exist (no file, folder or glob match).")
    return found


def _list_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if "\0" in text:  # no path can hold one
            raise UnicodeError
        return text
    except UnicodeError:
        raise DualResError(f"list of images '{path}' is not a text file (UTF-8) with a path per line.") from None
    except OSError as error:
        raise DualResError(f"cannot read list of images '{path}': {error.strerror}.") from None


def _one(item: Any, name: str, on_skip: OnSkip | None) -> Iterator[SourceImage]:
    if isinstance(item, SourceImage):
        yield item
    elif hasattr(item, "detach"):  # a tensor
        pixels = check_tensor(item).detach().cpu().permute(1, 2, 0).clamp(0, 1) * 255
        yield SourceImage(name, pixels.round().byte().numpy())
    elif isinstance(item, np.ndarray):
        yield SourceImage(name, check_photo(item))
    elif isinstance(item, Image.Image):
        yield SourceImage(name, _to_rgb(item))
    else:
        try:
            yield SourceImage(Path(item).name, read_image(item), Path(item))
        except UnreadableImageError as error:
            if on_skip is None:
                raise
            on_skip(str(error))


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


def _open_video(path: Path) -> Any:
    try:
        import cv2
    except ImportError:
        raise DualResError(f"reading video '{path}' needs OpenCV: pip install opencv-python-headless") from None
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise DualResError(f"video '{path}' cannot be opened.")
    return capture


def _frames(path: Path) -> Iterator[SourceImage]:
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


def router_images_of(images: Sequence[np.ndarray]) -> RouterImages:
    """The router's input for photos without padding.

    Args:
        images: (H, W, 3) RGB uint8 each.

    Returns:
        One (3, H, W) tensor and content box per image; the whole picture is content.
    """
    from dualres_plugin.common.types import RouterImages

    tensors = [SourceImage("", image).tensor() for image in images]
    return RouterImages(tensors, [(0, 0, t.shape[2], t.shape[1]) for t in tensors])
