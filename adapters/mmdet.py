"""MMDetection 3: any built detector, and `DualResDetector` with the `dualres` key in configs.

Importing this module (a config's `custom_imports` does) registers `DualResDetector` and `DualResHook`, makes
the `dualres` key work (`_mmdet_config` says how, and its limits), stands in for mmcv's compiled operations
where there are none (`_mmcv_ext`), and lets torch >= 2.6 read mmengine's checkpoints. On mmcv-lite, import it
before `mmdet.apis`.

    python -m dualres_plugin.adapters.mmdet CHECKPOINT OUT     # the router folder of a wrapped checkpoint
"""

from __future__ import annotations

from dualres_plugin.adapters import _mmcv_ext

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

from dualres_plugin.adapters import _mmdet_config  # noqa: E402
from dualres_plugin.adapters._mmdet_adapter import MMDetAdapter  # noqa: E402
from dualres_plugin.adapters._mmdet_batch import MMDetBatch  # noqa: E402
from dualres_plugin.adapters._mmdet_hook import DualResHook, allow_checkpoints, export_router  # noqa: E402
from dualres_plugin.adapters._mmdet_model import DualResDetector  # noqa: E402
from dualres_plugin.adapters._mmdet_pipeline import config_file  # noqa: E402
from dualres_plugin.adapters._mmdet_routed import RoutedDetector  # noqa: E402

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


def main(arguments: list[str] | None = None) -> None:
    """Command line: write the router folder of a wrapped checkpoint."""
    import argparse

    parser = argparse.ArgumentParser(description="Write the router of a checkpoint that mmdet trained as a folder.")
    parser.add_argument("checkpoint", help="a .pth of a routed detector")
    parser.add_argument("out", help="the folder to write")
    parser.add_argument("--config", help="config file, for checkpoints that do not hold theirs")
    options = parser.parse_args(arguments)
    print(f"router: {export_router(options.checkpoint, options.out, options.config)}")


if __name__ == "__main__":
    main()
