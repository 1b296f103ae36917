"""Dynamic-resolution object detection for detectors that people already run.

A tiny router looks at a thumbnail of each image and decides whether a frozen detector runs at its high or its low
resolution. `DualResWrapper` puts that around a detector, in the host's own types.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dualres_plugin.adapter import HostAdapter
    from dualres_plugin.auc_policy import AUCPolicy
    from dualres_plugin.errors import DualResError
    from dualres_plugin.hosts import adapt, load_detector
    from dualres_plugin.profile import Profile
    from dualres_plugin.router import ResolutionRouter
    from dualres_plugin.wrapper import DualResWrapper

__version__ = "0.1.0"

# Loaded on first use: `dualres --help` and the metric need no torch.
_HOME = {
    "AUCPolicy": "auc_policy",
    "DualResError": "errors",
    "DualResWrapper": "wrapper",
    "HostAdapter": "adapter",
    "Profile": "profile",
    "ResolutionRouter": "router",
    "adapt": "hosts",
    "load_detector": "hosts",
}
__all__ = [
    "AUCPolicy",
    "DualResError",
    "DualResWrapper",
    "HostAdapter",
    "Profile",
    "ResolutionRouter",
    "adapt",
    "load_detector",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dualres_plugin' has no attribute '{name}'")
    return getattr(import_module(f"dualres_plugin.{_HOME[name]}"), name)
