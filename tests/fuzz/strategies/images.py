"""Photos that are damaged, of odd kinds, or none."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from PIL import Image

from tests.fakes import photo
from tests.fuzz.strategies.mutate import damaged_bytes

KINDS = (
    ("PNG", "L"), ("PNG", "LA"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "1"), ("PNG", "I;16"), ("JPEG", "CMYK"),
    ("JPEG", "L"), ("TIFF", "F"), ("TIFF", "I"), ("GIF", "P"), ("BMP", "RGB"), ("WEBP", "RGB"),
)  # fmt: skip
SIZES = ((1, 1), (1, 300), (300, 1), (2, 3), (48, 64))


def valid() -> bytes:
    """A small JPEG."""
    return encoded("JPEG", "RGB", (48, 64))


def encoded(kind: str, mode: str, size: tuple[int, int]) -> bytes:
    """A photo of (height, width) in a file format and colour mode."""
    file = io.BytesIO()
    _converted(Image.fromarray(photo(0, size)), mode).save(file, kind)
    return file.getvalue()


def _converted(image: Image.Image, mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
    return image.convert(mode)


def mutated(valid: bytes) -> SearchStrategy[bytes]:
    """Damaged bytes, or a whole photo of another kind (whatever the name's ending says).

    Args:
        valid: a photo.
    """
    others = st.tuples(st.sampled_from(KINDS), st.sampled_from(SIZES)).map(lambda k: encoded(*k[0], k[1]))
    return st.one_of(damaged_bytes(valid), others, others.flatmap(damaged_bytes))
