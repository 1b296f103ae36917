"""Dynamic-resolution object detection for detectors that people already run.

A tiny router looks at a thumbnail of each image and decides whether a frozen detector runs at its high or its low
resolution. `DualResWrapper` puts that around a detector, in the host's own types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dualres_plugin.common.lazy import lazy

if TYPE_CHECKING:
    from dualres_plugin.common.errors import DualResError
    from dualres_plugin.evaluate.auc_policy import AUCPolicy
    from dualres_plugin.hosts.contract import HostAdapter
    from dualres_plugin.hosts.registry import adapt, load_detector
    from dualres_plugin.predict.wrapper import DualResWrapper
    from dualres_plugin.profile.table import Profile
    from dualres_plugin.router.network import ResolutionRouter

__version__ = "0.1.0"

# Loaded on first use: `dualres --help` and the metric need no torch.
_HOME = {
    "AUCPolicy": "evaluate.auc_policy",
    "DualResError": "common.errors",
    "DualResWrapper": "predict.wrapper",
    "HostAdapter": "hosts.contract",
    "Profile": "profile.table",
    "ResolutionRouter": "router.network",
    "adapt": "hosts.registry",
    "load_detector": "hosts.registry",
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
__getattr__ = lazy(__name__, _HOME)


def __dir__() -> list[str]:  # completion shows names that are not loaded yet
    return sorted({*globals(), *__all__})
