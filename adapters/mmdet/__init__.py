"""MMDetection 3: any built detector, and `DualResDetector` with the `dualres` key in configs.

Importing this module (a config's `custom_imports` does) registers `DualResDetector` and `DualResHook`, makes
the `dualres` key work (`_mmdet_config` says how, and its limits), stands in for mmcv's compiled operations
where there are none (`_mmcv_ext`), and lets torch >= 2.6 read mmengine's checkpoints. On mmcv-lite, import it
before `mmdet.apis`.

    python -m dualres_plugin.adapters.mmdet CHECKPOINT OUT     # the router folder of a wrapped checkpoint
"""

from __future__ import annotations

from dualres_plugin.adapters import mmcv_ext as _mmcv_ext

_mmcv_ext.install()

try:
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=False)
except (AssertionError, ImportError) as error:  # mmdet asserts the versions of mmcv and mmengine
    raise ImportError(
        f"mmdet cannot be imported: {error}. Versions that work together: mmdet==3.3.0 mmengine==0.10.7 and "
        "either mmcv-lite==2.1.0 (pip install 'dualres-plugin[mmdet]') or a compiled mmcv==2.1.0 built for "
        "this torch (`make mmcv`); never both."
    ) from error

from dualres_plugin.adapters.mmdet import config as _mmdet_config  # noqa: E402
from dualres_plugin.adapters.mmdet.adapter import MMDetAdapter  # noqa: E402
from dualres_plugin.adapters.mmdet.batch import MMDetBatch  # noqa: E402
from dualres_plugin.adapters.mmdet.checkpoints import allow_checkpoints, export_router  # noqa: E402
from dualres_plugin.adapters.mmdet.detector import DualResDetector  # noqa: E402
from dualres_plugin.adapters.mmdet.hook import DualResHook  # noqa: E402
from dualres_plugin.adapters.mmdet.pipeline import config_file  # noqa: E402
from dualres_plugin.adapters.mmdet.routed import RoutedDetector  # noqa: E402

__all__ = [
    "DualResDetector",
    "DualResHook",
    "MMDetAdapter",
    "MMDetBatch",
    "RoutedDetector",
    "config_file",
    "export_router",
]

_mmdet_config.install()
allow_checkpoints()
