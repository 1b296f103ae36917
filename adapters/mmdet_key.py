"""Refuses a `dualres` key in an mmdet config that nothing follows, where the stand-in for mmcv is loaded.

mmengine ignores keys that it does not know, so a config whose `custom_imports` line is missing, or is not run, as in
configs with `read_base()`, would test or train the plain detector without a word. On mmcv-lite, mmdet loads the
stand-in (`mmcv_ext`), which puts this watch up; with compiled mmcv nothing of this package runs, and nothing can be
said.

Outside `mmdet/`, as `mmcv_ext`: it is imported while mmdet is loading.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from dualres_plugin.common.errors import DualResError

ADAPTER = "dualres_plugin.adapters.mmdet"
_HELP = (
    f"the adapter was not imported. Add the line custom_imports = dict(imports=['{ADAPTER}'], "
    "allow_failed_imports=False) to the config; in one with read_base(), where mmengine runs no custom_imports and "
    f"imports nothing before it is used, the line __import__('{ADAPTER}')."
)


def watch() -> None:
    """Check every config when it is made, and a runner's when its model is built, until the adapter is imported.

    `tools/train.py` loads its config before mmdet's modules, hence the second place.

    To undo it: `Config.__init__ = Config.__init__.__wrapped__`, and `Runner.build_model` likewise.
    """
    if ADAPTER in sys.modules or "mmengine" not in sys.modules:
        return
    from mmengine.config import Config
    from mmengine.runner import Runner

    Config.__init__ = _checked(Config.__init__, lambda config: config)
    Runner.build_model = _checked(Runner.build_model, lambda runner: runner.cfg)


def _checked(original: Callable[..., Any], config_of: Callable[[Any], Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        check(config_of(self))
        return result

    return method


def check(cfg: Any) -> None:
    """Refuse a key that nothing follows.

    Args:
        cfg: mmengine's `Config`.

    Raises:
        DualResError: If it has a `dualres` key and the adapter is not imported.
    """
    if ADAPTER not in sys.modules and cfg.get("dualres") is not None:
        raise DualResError(f"the dualres key of the config '{cfg.filename or ''}' would be ignored: {_HELP}")
