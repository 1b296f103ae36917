"""torchvision: detection models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dualres_plugin.common.lazy import lazy

if TYPE_CHECKING:
    from dualres_plugin.adapters.torchvision.adapter import TorchvisionAdapter

_HOME = {
    "TorchvisionAdapter": "adapter",
}
__all__ = ["TorchvisionAdapter"]
__getattr__ = lazy(__name__, _HOME)
