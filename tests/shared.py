"""Finds the shared photos and weights that some tests need; a user does not have them, so those tests skip."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def shared_dir() -> Path | None:
    """`$DUALRES_SHARED`, or the folder `shared` beside the checkout; None where there is none."""
    path = Path(os.environ.get("DUALRES_SHARED", ROOT.parent / "shared"))
    return path if (path / "data").is_dir() else None


def require_shared(*parts: str) -> Path:
    """A path below the shared folder; skips the calling test where it is missing."""
    base = shared_dir()
    if base is None or not base.joinpath(*parts).exists():
        pytest.skip(f"needs shared/{'/'.join(parts)} (set DUALRES_SHARED to the folder that holds it)")
    return base.joinpath(*parts)
