"""Where the package keeps the router that it ships, and the name of it where a folder is asked for."""

from __future__ import annotations

from pathlib import Path

DEFAULT = "default"
DEFAULT_FOLDER = Path(__file__).parents[2] / "router" / "default_router"
