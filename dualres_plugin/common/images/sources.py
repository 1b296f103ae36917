"""What people pass as a source: files, folders, globs, lists, shards, URLs, videos, arrays, tensors, or many."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.blobs import ImageFile, RemoteFile, TarMember, is_url
from dualres_plugin.common.images.decode import UnreadableImageError, read_image, to_rgb
from dualres_plugin.common.images.photo import SourceImage, check_photo, check_tensor
from dualres_plugin.common.images.remote import list_remote
from dualres_plugin.common.images.tars import is_tar, list_tar, shards_of
from dualres_plugin.common.images.video import VIDEO_SUFFIXES, frames

Item = TypeVar("Item")
OnSkip = Callable[[str], object]  # told why an image is left out
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def list_images(folder: Path | str) -> list[Path]:
    """All image files below a folder, sorted.

    Args:
        folder: is searched to the bottom.

    Raises:
        DualResError: If the folder is missing, cannot be read, or holds none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DualResError(f"image folder '{folder}' does not exist.")
    found = list(walk_images(folder))
    if not found:
        raise DualResError(f"no images in '{folder}' ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    return found


def walk_images(folder: Path) -> Iterator[Path]:
    """Image files below a folder as they are found, in the order of sorted paths; one folder is in memory at a time.

    Args:
        folder: is searched to the bottom, but for links to folders.

    Raises:
        DualResError: If a folder in it cannot be read: half of the images would be missing without a word.
    """
    try:
        with os.scandir(folder) as entries:
            inside = sorted((e.name, _is_folder(e), e.is_symlink()) for e in entries)
    except OSError as error:
        raise DualResError(f"image folder '{folder}' cannot be read: {error.strerror}.") from None
    for name, is_folder, is_link in inside:
        if is_folder and not is_link:
            yield from walk_images(folder / name)
        elif not is_folder and Path(name).suffix.lower() in IMAGE_SUFFIXES:
            yield folder / name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def iter_source(source: Any, on_skip: OnSkip | None = None) -> Iterator[SourceImage]:
    """Images of what people pass as a source: a path, folder, glob, list file (.txt), .tar shards, URL, video, array or
    tensor, or many.

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
            yield from frames(local_file(path))
        else:
            yield from _one(path, path.name, on_skip if len(paths) > 1 else None)


def local_file(path: ImageFile) -> Path:
    """The path of a video, which OpenCV opens itself.

    Raises:
        DualResError: If it is in an archive or a store.
    """
    if not isinstance(path, Path):
        raise DualResError(f"video '{path}' has to be a file of this machine.")
    return path


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
        file = item if isinstance(item, (RemoteFile, TarMember)) else Path(item)
        if isinstance(file, Path) and file.is_dir():
            raise DualResError(
                f"'{file}' is a folder inside of a list: a list holds photos. Give the folder by itself."
            )
        try:
            yield SourceImage(file.name, read_image(file), file)
        except UnreadableImageError as error:
            if on_skip is None:
                raise
            on_skip(str(error))


def expand_source(source: str | Path) -> list[ImageFile]:
    """The files that a path, folder, glob, list file, .tar shard or URL stands for.

    Args:
        source: a list file (.txt) has a path per line, relative to itself, or a URL; "photos-{000..099}.tar" are
            shards; a URL of a folder is searched to the bottom.

    Raises:
        DualResError: If there are none, or a shard or folder cannot be read to its end.
    """
    text, path = str(source), Path(source)
    if is_url(text):
        return list(tar_members(text)) if is_tar(text) else list(list_remote(text, IMAGE_SUFFIXES))
    try:
        is_dir, is_file = path.is_dir(), path.is_file()
    except OSError as error:  # a name longer than the file system takes
        raise DualResError(f"source '{text[:200]}' cannot be read: {error.strerror}.") from None
    if is_dir:
        return list(list_images(path))
    if path.suffix.lower() == ".txt" and is_file:
        lines = (line.strip() for line in _list_text(path).splitlines())
        return [RemoteFile(line) if is_url(line) else path.parent / line for line in lines if line]
    return list(tar_members(text)) if is_tar(text) else list(_matching(source, is_file))


def _matching(source: str | Path, is_file: bool) -> list[Path]:
    """The file itself, or what a glob finds."""
    if is_file:
        return [Path(source)]
    found = [Path(p) for p in sorted(glob.glob(str(source), recursive=True))]  # noqa: PTH207 - absolute patterns too
    if not found:
        raise DualResError(f"source '{source}' does not exist (no file, folder or glob match).")
    return found


def tar_members(pattern: str, suffixes: Collection[str] = IMAGE_SUFFIXES) -> list[TarMember]:
    """The members of .tar shards.

    Args:
        pattern: a name, range or glob of shards, or a URL of them.
        suffixes: of the members that are wanted; others are passed over.

    Raises:
        DualResError: If a shard is missing or damaged, or no photo is in them.
    """
    shards = shards_of(pattern)
    if len(shards) == 1 and not is_url(pattern):
        shards = [str(p) for p in _matching(pattern, Path(pattern).is_file())]
    found = [member for shard in shards for member in list_tar(shard, suffixes)]
    if not any(member.suffix.lower() in IMAGE_SUFFIXES for member in found):
        raise DualResError(f"no images in '{pattern}' ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    return found


def lookup(images: str) -> Callable[[str], ImageFile | None]:
    """Finds photos by the names that annotations have for them, in .tar shards or below a URL.

    Args:
        images: shards or a URL, as of `expand_source`.

    Returns:
        A function of a name; None where there is no such photo. Over HTTP, which lists nothing, every name is taken.

    Raises:
        DualResError: As `expand_source` does.
    """
    if is_tar(images):
        members = {m.key.removeprefix("./"): m for m in tar_members(images)}
        return members.get
    root = images.rstrip("/") + "/"
    if images.startswith(("http://", "https://")):
        return lambda name: RemoteFile(root + name)
    known = {file.url for file in list_remote(images, IMAGE_SUFFIXES)}
    return lambda name: RemoteFile(root + name) if root + name in known else None


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
