"""Photos for people to look at: the file itself where it still exists, else the profile's thumbnail."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from dualres_plugin.common.images.decode import UnreadableImageError, read_image
from dualres_plugin.profile.table import Profile


def picture(profile: Profile, row: int) -> tuple[np.ndarray, bool]:
    """A photo at the size of its boxes. One that has moved, or is not what it was, is replaced by the stored
    thumbnail, enlarged.

    Args:
        profile: where the path and the thumbnail are.
        row: which row.

    Returns:
        (H, W, 3) RGB uint8 pixels, and whether they come from the photo itself.
    """
    size = int(profile.column("height")[row]), int(profile.column("width")[row])
    try:
        return read_image(profile.image_file(row), size), True
    except UnreadableImageError:
        small = profile.thumbnails(np.array([row]))[0].permute(1, 2, 0).numpy()
        return np.asarray(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC)), False


def small_jpeg(pixels: np.ndarray, side: int, quality: int = 70) -> bytes:
    """A JPEG whose longer side is `side` px or less.

    Args:
        pixels: (H, W, 3) RGB uint8.
        side: in pixels.
        quality: as Pillow counts it, 1 to 95.

    Returns:
        The file's content.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, optimize=True)
    return out.getvalue()


def data_uri(jpeg: bytes) -> str:
    """A picture as an address that holds it.

    Args:
        jpeg: content of the file.

    Returns:
        For the `src` of an image.
    """
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
