"""From the body of a request to a photo. Whoever sends it is not trusted: limits are checked before pixels are made."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image, ImageOps
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from dualres_plugin.common.images.decode import to_rgb
from dualres_plugin.serve.settings import Refused

SIGNATURES = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}
# A progressive JPEG has about ten scans. Each is a pass over all pixels and may be a few bytes long: a small file with
# a hundred thousand of them would keep a worker for hours.
SCAN, MOST_SCANS = b"\xff\xda", 100


def decode_photo(data: bytes, max_mpx: float) -> np.ndarray:
    """Decode a photo, turned as its EXIF data say, like `common.images.decode.read_image`.

    Args:
        data: the file's bytes.
        max_mpx: millions of pixels that it may have, by its header.

    Returns:
        (H, W, 3) RGB uint8.

    Raises:
        Refused: 415 if it is no JPEG or PNG, 413 if it has too many pixels, 422 if it is damaged.
    """
    kind = next((kind for start, kind in SIGNATURES.items() if data.startswith(start)), None)
    if kind is None:
        raise Refused(415, "the photo is neither a JPEG nor a PNG.")
    if kind == "JPEG" and data.count(SCAN) > MOST_SCANS:
        raise Refused(422, f"the JPEG has more than {MOST_SCANS} scans.")
    try:
        with Image.open(BytesIO(data), formats=[kind]) as image:
            check_pixels(image.height, image.width, max_mpx)
            image.load()
            return to_rgb(ImageOps.exif_transpose(image))
    except (Refused, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise Refused(413, f"the photo has more than the {max_mpx:g} million pixels that one may have.") from None
    except Exception:  # decoders of damaged bytes raise anything: struct.error, zlib.error, IndexError …
        raise Refused(422, "the photo is damaged or cut short.") from None


def check_pixels(height: int, width: int, max_mpx: float) -> None:
    """Refuse a photo that is too large.

    Args:
        height, width: in pixels.
        max_mpx: the limit, in millions of pixels.

    Raises:
        Refused: 413 if it is.
    """
    if height * width > max_mpx * 1e6:
        raise Refused(
            413, f"the photo has {width}x{height} pixels, more than the {max_mpx:g} million that one may have."
        )


def photo_bytes(body: bytes, content_type: str) -> bytes:
    """The photo in a body: all of it, or the one file of a form.

    Args:
        body: of the request.
        content_type: its header. Only a form is told by it: clients call photos anything.

    Raises:
        Refused: 400 if the form cannot be read, or is not one file.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        return body
    parts: list[bytearray] = []

    def begin() -> None:
        if parts:
            raise Refused(400, "the form has several parts: send one, the photo.")
        parts.append(bytearray())

    def more(data: bytes, start: int, end: int) -> None:
        parts[-1].extend(data[start:end])

    try:
        parser = MultipartParser(options.get(b"boundary", b""), {"on_part_begin": begin, "on_part_data": more})
        parser.write(body)
        parser.finalize()
    except FormParserError:
        parts.clear()
    if not parts:
        raise Refused(400, "the form cannot be read: send the photo as one part, or as the body itself.")
    return bytes(parts[0])
