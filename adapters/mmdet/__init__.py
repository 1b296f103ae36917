"""MMDetection 3: any built detector, and `DualResDetector` with the `dualres` key in configs.

Importing this module (a config's `custom_imports` does) registers `DualResDetector` and `DualResHook`, makes
the `dualres` key work (`config` says how, and its limits), stands in for mmcv's compiled operations where there are
none (`mmcv_ext`), and lets torch >= 2.6 read mmengine's checkpoints. On mmcv-lite, import it before `mmdet.apis`.

    python -m dualres_plugin.adapters.mmdet CHECKPOINT OUT     # the router folder of a wrapped checkpoint
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from dualres_plugin.adapters import mmcv_ext
from dualres_plugin.common.lazy import lazy

if TYPE_CHECKING:
    from dualres_plugin.adapters.mmdet.adapter import MMDetAdapter
    from dualres_plugin.adapters.mmdet.batch import MMDetBatch
    from dualres_plugin.adapters.mmdet.checkpoints import export_router
    from dualres_plugin.adapters.mmdet.detector import DualResDetector
    from dualres_plugin.adapters.mmdet.hook import DualResHook
    from dualres_plugin.adapters.mmdet.pipeline import config_file
    from dualres_plugin.adapters.mmdet.routed import RoutedDetector

_HOME = {
    "DualResDetector": "detector",
    "DualResHook": "hook",
    "MMDetAdapter": "adapter",
    "MMDetBatch": "batch",
    "RoutedDetector": "routed",
    "config_file": "pipeline",
    "export_router": "checkpoints",
}
__all__ = [
    "DualResDetector",
    "DualResHook",
    "MMDetAdapter",
    "MMDetBatch",
    "RoutedDetector",
    "config_file",
    "export_router",
]
__getattr__ = lazy(__name__, _HOME)


def _prepare() -> None:
    """Make mmdet importable and fill its registries; in this order, as the modules of this folder import mmdet.

    Raises:
        ImportError: If mmdet is missing, or the versions around it do not fit.
    """
    mmcv_ext.install()
    try:
        from mmdet.utils import register_all_modules

        register_all_modules(init_default_scope=False)
    except (AssertionError, ImportError) as error:  # mmdet asserts the versions of mmcv and mmengine
        raise ImportError(
            f"mmdet cannot be imported: {error}. Versions that work together: mmdet==3.3.0 mmengine==0.10.7 and "
            "either mmcv-lite==2.1.0 (pip install 'dualres-plugin[mmdet]') or a compiled mmcv==2.1.0 built for "
            "this torch (`make mmcv`); never both."
        ) from error
    for registers in ("detector", "hook"):
        import_module(f"{__name__}.{registers}")
    from dualres_plugin.adapters.mmdet.patches import allow_checkpoints, extend_config

    extend_config()
    allow_checkpoints()


_prepare()
