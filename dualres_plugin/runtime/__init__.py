"""Runs exported files on photos. Loads neither torch nor the host of the detector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dualres_plugin.common.lazy import lazy

if TYPE_CHECKING:
    from dualres_plugin.runtime.result import SessionResult
    from dualres_plugin.runtime.session import DualResSession

_HOME = {
    "DualResSession": "session",
    "SessionResult": "result",
}
__all__ = ["DualResSession", "SessionResult"]
__getattr__ = lazy(__name__, _HOME)


def __dir__() -> list[str]:  # completion shows names that are not loaded yet
    return sorted({*globals(), *__all__})
