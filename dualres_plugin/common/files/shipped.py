"""Where the package keeps the routers that it ships, and their names where a folder is asked for."""

from __future__ import annotations

from pathlib import Path

DEFAULT, SMALL = "default", "small"
_ROUTERS = Path(__file__).parents[2] / "router"
SHIPPED = {DEFAULT: _ROUTERS / "default_router", SMALL: _ROUTERS / "small_router"}


def router_folder(path: Path | str) -> Path:
    """The folder of a router.

    Args:
        path: the folder, or the name of a router that ships: a folder of that name is meant by `./default`.

    Returns:
        The folder, which may not exist.
    """
    return SHIPPED.get(str(path), Path(path))
