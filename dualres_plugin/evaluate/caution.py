"""What makes an evaluation worthless or doubtful, told so that nobody overlooks it."""

from __future__ import annotations

from typing import Any

from dualres_plugin.profile.overlap import share_seen
from dualres_plugin.profile.table import Profile


def cautions(info: dict[str, Any], profile: Profile) -> list[str]:
    """Warnings about judging a router on a profile.

    Args:
        info: of the router; it says which images it was trained on. Routers of older versions do not say, so nothing
            can be said about them.
        profile: what it is judged on.

    Returns:
        Sentences; none where nothing is known to be wrong.
    """
    found = []
    seen = _seen(info, profile)
    if seen > 0:
        found.append(
            f"this router was trained on {'these images' if seen >= 0.995 else 'some of these images'} "
            f"({seen:.0%} of its training images are among them): every number here is too good. Evaluate on images "
            "that trained nothing."
        )
    found += [text for text in profile.meta.get("notes", []) if isinstance(text, str)]
    said = info.get("warnings", [])
    return found + [text for text in said if isinstance(text, str)] if isinstance(said, list) else found


def _seen(info: dict[str, Any], profile: Profile) -> float:
    """Share of a router's training images that a profile shows."""
    own = profile.meta.get("dataset_fingerprint")
    trained = info.get("trained_on", [])
    origins = [o for o in trained if isinstance(o, dict)] if isinstance(trained, list) else []
    if own and any(origin.get("dataset_fingerprint") == own for origin in origins):
        return 1.0
    sketches = {str(origin["images"]) for origin in origins if origin.get("images")}
    return max((share_seen(sketch, profile) for sketch in sketches), default=0.0)
