"""Ultralytics: `YOLO` objects, wrapped or by callback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dualres_plugin.common.lazy import lazy

if TYPE_CHECKING:
    from dualres_plugin.adapters.ultralytics.adapter import UltralyticsAdapter
    from dualres_plugin.adapters.ultralytics.callbacks import attach, detach

_HOME = {
    "UltralyticsAdapter": "adapter",
    "attach": "callbacks",
    "detach": "callbacks",
}
__all__ = ["UltralyticsAdapter", "attach", "detach"]
__getattr__ = lazy(__name__, _HOME)


def __dir__() -> list[str]:  # completion shows names that are not loaded yet
    return sorted({*globals(), *__all__})
