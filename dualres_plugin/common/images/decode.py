"""Decoding photos: any file that people have, as RGB uint8 arrays."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.blobs import MOST_BYTES, ImageFile


class UnreadableImageError(DualResError):
    """One image that cannot be used; long jobs count it and go on."""


def read_image(path: ImageFile | str, size: tuple[int, int] | None = None) -> np.ndarray:
    """Decode a photo, turned as its EXIF data say: the hosts do so too.

    Args:
        path: the file, or what else a photo is read from.
        size: (height, width) that its annotation states. Where only the unrotated pixels have it, the boxes were drawn
            on those, so they are kept.

    Returns:
        (H, W, 3) RGB uint8.

    Raises:
        UnreadableImageError: If the file is missing, empty, truncated or no image, or its size is not `size`.
        DualResError: If the store that holds it does not answer.
    """
    try:
        with Image.open(_content(path)) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
            if size is not None and upright.size[::-1] != size and image.size[::-1] == size:
                upright = image
            pixels = to_rgb(upright)
    except FileNotFoundError:
        raise UnreadableImageError(f"'{path}' does not exist.") from None
    except DualResError:
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


def _content(path: ImageFile | str) -> Path | IO[bytes]:
    """What Pillow opens: a file by its path, anything else by its bytes."""
    if isinstance(path, (str, Path)):
        path = Path(path)
        if path.stat().st_size == 0:
            raise UnreadableImageError(f"'{path}' is empty (0 bytes).")
        return path
    content = path.read_bytes()
    if not content or len(content) > MOST_BYTES:
        wrong = f"has more than {MOST_BYTES >> 20} MB" if content else "is empty (0 bytes)"
        raise UnreadableImageError(f"'{path}' {wrong}.")
    return BytesIO(content)


def to_rgb(image: Image.Image) -> np.ndarray:
    """(H, W, 3) RGB uint8 of a PIL image in any mode."""
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


def image_size(path: ImageFile | str) -> tuple[int, int]:
    """(height, width) in pixels as displayed, from the header alone.

    Raises:
        UnreadableImageError: If the header cannot be read.
        DualResError: If the store that holds it does not answer.
    """
    try:
        with Image.open(path if isinstance(path, (str, Path)) else _content(path)) as image:
            w, h = image.size
            rotated = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except DualResError:
        raise
    except Exception as error:  # as in `read_image`
        raise UnreadableImageError(f"'{path}' is not an image that can be read: {error}") from None
    return (w, h) if rotated else (h, w)
