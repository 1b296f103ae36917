"""Whether two profiles show the same photos: a router must not be judged by what it learned from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from dualres_plugin.profile.table import Profile

KEPT = 256  # hashes: enough to estimate a share to a few percent, and two kilobytes of text
EVERY = 31  # bytes of a thumbnail that are looked at
AT_ONCE = 256  # thumbnails in memory


def image_sketch(profile: Profile) -> str:
    """A profile's photos in short: the smallest hashes of their thumbnails (a bottom-k sketch).

    Args:
        profile: its original images count, augmented views do not.

    Returns:
        Up to `KEPT` hashes of 10 digits, in order, with spaces between.
    """
    return " ".join(sorted(set(_hashes(profile)))[:KEPT])


def share_seen(sketch: str, profile: Profile) -> float:
    """How many of the sketched photos are in a profile; exact for up to `KEPT` photos, an estimate beyond.

    Args:
        sketch: made by `image_sketch`.
        profile: the other one; equal photos have equal thumbnails where the sides of the thumbnails are equal.

    Returns:
        0 to 1.
    """
    known = set(sketch.split())
    return len(known.intersection(_hashes(profile))) / len(known) if known else 0.0


def _hashes(profile: Profile) -> Iterator[str]:
    originals = profile.originals
    for start in range(0, len(originals), AT_ONCE):
        for thumbnail in profile.thumbnails(originals[start : start + AT_ONCE]).numpy():
            pixels = thumbnail.reshape(-1)[::EVERY]
            yield hashlib.blake2b(pixels.tobytes(), digest_size=5).hexdigest()
