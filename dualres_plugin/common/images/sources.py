"""What people pass as a source: files, folders, globs, list files, videos, arrays, tensors, or many of them."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.decode import UnreadableImageError, read_image, to_rgb
from dualres_plugin.common.images.photo import SourceImage, check_photo, check_tensor
from dualres_plugin.common.images.video import VIDEO_SUFFIXES, frames

Item = TypeVar("Item")
OnSkip = Callable[[str], object]  # told why an image is left out
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


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
            yield from frames(path)
        else:
            yield from _one(path, path.name, on_skip if len(paths) > 1 else None)


def _one(item: Any, name: str, on_skip: OnSkip | None) -> Iterator[SourceImage]:
    if isinstance(item, SourceImage):
        yield item
    elif hasattr(item, "detach"):  # a tensor
        pixels = check_tensor(item).detach().cpu().permute(1, 2, 0).clamp(0, 1) * 255
        yield SourceImage(name, pixels.round().byte().numpy())
    elif isinstance(item, np.ndarray):
        yield SourceImage(name, check_photo(item))
    elif isinstance(item, Image.Image):
        yield SourceImage(name, to_rgb(item))
    else:
        try:
            yield SourceImage(Path(item).name, read_image(item), Path(item))
        except UnreadableImageError as error:
            if on_skip is None:
                raise
            on_skip(str(error))


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


def in_batches(items: Iterable[Item], count: int) -> Iterator[list[Item]]:
    """The items in lists, read as they are used.

    Args:
        items: any number of them.
        count: length of a list; the last one may be shorter.
    """
    left = iter(items)
    while part := list(islice(left, count)):
        yield part
