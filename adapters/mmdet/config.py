"""The top-level `dualres` key of an mmdet config.

mmengine has no hook between a config and the model that is built from it: `tools/*.py`, `init_detector` and
`DetInferencer` read the file with `Config.fromfile` and build `cfg.model`. What there is is `custom_imports`,
run inside `fromfile` just before the `Config` object is made. Importing the adapter extends two methods of
`Config` (`patches.extend_config`):

- a new `Config` with a `dualres` key gets `model=dict(type='DualResDetector', detector=<the model>, …)`;
- `merge_from_dict` (`--cfg-options`) sees the plain `model` and the `dualres` key, as the user wrote them.

Configs without a `dualres` key are left exactly as they are. Limits:

- a `dualres` key without the `custom_imports` line does nothing: mmengine ignores keys that it does not know;
- code that changes `cfg.model` after loading finds the detector in `cfg.model.detector`;
- `Config.fromfile(…, import_custom_modules=False)` wraps only once the adapter has been imported.

The explicit form, `model=dict(type='DualResDetector', detector=…, router=…)`, needs none of this.
"""

from __future__ import annotations

import difflib
from typing import Any

from mmengine.config import ConfigDict

from dualres_plugin.adapters.mmdet.settings import SETTINGS, unknown_keys_message
from dualres_plugin.common.errors import DualResError

KEY, TYPE, HOOK = "dualres", "DualResDetector", "DualResHook"


def wrap_model(cfg: dict[str, Any]) -> None:
    """Put the model of a config dict behind a router if it has a `dualres` key; twice is the same as once.

    Raises:
        DualResError: If the key is misspelt, holds unknown settings, or there is no model to route.
    """
    if cfg.get(KEY) is None:
        _check_spelling(cfg)
        return
    settings = cfg[KEY]
    if not isinstance(settings, dict):
        raise DualResError(f"the config's dualres key must be dict(router='runs/router', …), not {settings!r}.")
    unknown = [key for key in settings if key not in SETTINGS]
    if unknown:
        raise DualResError(unknown_keys_message(unknown))
    detector = plain_model(cfg)
    if detector is None:
        raise DualResError("the config has a dualres key but no model: put the detector's config in _base_.")
    # `backbone` is for init_detector, which looks for a key `init_cfg` in it.
    cfg["model"] = ConfigDict(type=TYPE, detector=detector, backbone=ConfigDict(), **settings)
    hooks = list(cfg.get("custom_hooks") or [])
    if not any(hook.get("type") == HOOK for hook in hooks):
        cfg["custom_hooks"] = [*hooks, ConfigDict(type=HOOK)]


def plain_model(cfg: dict[str, Any]) -> Any:
    """The detector's own config; None where there is no model."""
    model: Any = cfg.get("model")
    return model["detector"] if is_wrapped(model) else model


def is_wrapped(model: Any) -> bool:
    """Whether a model's config is that of a routed detector."""
    return isinstance(model, dict) and str(model.get("type", "")).rpartition(".")[2] == TYPE


def _check_spelling(cfg: dict[str, Any]) -> None:
    if is_wrapped(cfg.get("model")):
        return
    for key in difflib.get_close_matches(KEY, [str(k) for k in cfg], n=1, cutoff=0.8):
        if isinstance(cfg[key], dict) and key != KEY:
            raise DualResError(f"the config has a key '{key}': did you mean '{KEY}'?")
