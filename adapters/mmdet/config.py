"""The top-level `dualres` key of an mmdet config.

mmengine has no hook between a config and the model that is built from it: `tools/*.py`, `init_detector` and
`DetInferencer` read the file with `Config.fromfile` and build `cfg.model`, which does not see the keys beside it. What
there is is `custom_imports`, run inside `fromfile` just before the `Config` object is made. Importing the adapter makes
`Config` follow the key (`patches.extend_config`), when it is made and whenever `cfg.dualres` or `cfg.model` is set:

- with a `dualres` key the model is `dict(type='DualResDetector', detector=<the model>, dualres=<the key>)`; it is the
  key's own dict, so `cfg.dualres.low = 0.4` after loading counts;
- `dualres = None` gives the plain model back, also in a config that inherits from a dumped one;
- `merge_from_dict` (`--cfg-options`) sees the plain `model` and the `dualres` key, as the user wrote them.

Configs without a `dualres` key are left exactly as they are. Limits:

- mmengine ignores keys that it does not know, so a `dualres` key needs the adapter imported. Where it is not, the key
  is an error on mmcv-lite (`mmdet_key`); with compiled mmcv nothing of ours runs, and the plain detector does;
- mmengine runs no `custom_imports` in a config with `read_base()`, and turns its import statements into promises. The
  rest of such a config is run, so the line there is `__import__('dualres_plugin.adapters.mmdet')`. What it is dumped to
  has the `custom_imports` line;
- code that changes `cfg.model` after loading finds the detector in `cfg.model.detector`.

The explicit form, `model=dict(type='DualResDetector', detector=…, router=…)`, needs none of this.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from dualres_plugin.adapters.mmdet.settings import SETTINGS, unknown_keys_message
from dualres_plugin.adapters.mmdet.streams import stream_settings
from dualres_plugin.adapters.mmdet_key import ADAPTER
from dualres_plugin.common.errors import DualResError

KEY, TYPE, HOOK = "dualres", "DualResDetector", "DualResHook"


def wrap_model(cfg: dict[str, Any], file: str | None = None) -> None:
    """Put the model of a config dict behind a router if it has a `dualres` key; twice is the same as once.

    Args:
        cfg: changed in place.
        file: the config file: relative router folders are looked for beside it first.

    Raises:
        DualResError: If the key is misspelt, holds unknown settings, or there is no model to route.
    """
    if KEY in cfg:
        unwrap_model(cfg)
    if cfg.get(KEY) is not None and not _holds_routed(cfg.get("model")):
        settings = _checked_settings(cfg[KEY])
        if cfg.get("model") is None:
            raise DualResError("the config has a dualres key but no model: put the detector's config in _base_.")
        _resolve_folders(settings, file)
        # `backbone` is for init_detector, which looks for a key `init_cfg` in it.
        cfg["model"] = ConfigDict(type=TYPE, detector=cfg["model"], backbone=ConfigDict(), dualres=settings)
    if is_wrapped(cfg.get("model")):
        cfg["model"].setdefault("backbone", ConfigDict())
        if not any(_is_type(hook, HOOK) for hook in cfg.get("custom_hooks") or []):
            cfg["custom_hooks"] = [*(cfg.get("custom_hooks") or []), ConfigDict(type=HOOK)]
        _name_import(cfg)
    else:
        _check_spelling(cfg)


def _name_import(cfg: dict[str, Any]) -> None:
    """mmengine writes the config beside its checkpoints, in the old style: there it has to import us itself."""
    given = cfg.get("custom_imports") or {}
    names = given.get("imports") or []
    names = [names] if isinstance(names, str) else list(names)
    if ADAPTER not in names:
        cfg["custom_imports"] = ConfigDict({"allow_failed_imports": False, **given, "imports": [*names, ADAPTER]})


def unwrap_model(cfg: dict[str, Any]) -> None:
    """Give a config dict its plain model back, with what a config that inherits from a dumped one changes in it.

    Args:
        cfg: changed in place; one whose model is plain stays as it is.
    """
    model: Any = cfg.get("model")
    if not is_wrapped(model):
        return
    own = {"type", "detector", KEY, *SETTINGS}
    changed = {key: value for key, value in model.items() if key not in own and value != {}}
    cfg["model"] = Config._merge_a_into_b(changed, model["detector"]) if changed else model["detector"]
    if cfg.get("custom_hooks"):
        cfg["custom_hooks"] = [hook for hook in cfg["custom_hooks"] if not _is_type(hook, HOOK) or len(hook) > 1]


def is_wrapped(model: Any) -> bool:
    """Whether a model's config is that of a routed detector."""
    return _is_type(model, TYPE)


def _holds_routed(model: Any) -> bool:
    """Whether a routed detector is somewhere inside: `tools/test.py --tta` puts it into another model."""
    return isinstance(model, dict) and (is_wrapped(model) or any(_holds_routed(part) for part in dict.values(model)))


def _is_type(item: Any, name: str) -> bool:
    """By name, class, or, in a config with `read_base()`, by a class that is not imported yet."""
    kind = dict.get(item, "type", "") if isinstance(item, dict) else ""
    return str(getattr(kind, "__name__", kind)).rpartition(".")[2] == name


def _checked_settings(settings: Any) -> dict[str, Any]:
    if not isinstance(settings, dict):
        raise DualResError(f"the config's dualres key must be dict(router='runs/router', …), not {settings!r}.")
    unknown = [key for key in settings if key not in SETTINGS]
    if unknown:
        raise DualResError(unknown_keys_message(unknown))
    stream_settings(settings.get("stream"))
    return settings


def _resolve_folders(settings: dict[str, Any], file: str | None) -> None:
    """A relative folder that is there beside the config file is meant; else it is one of the working directory."""
    stream = settings.get("stream")
    for holder, name in ((settings, "router"), (stream if isinstance(stream, dict) else {}, "memory")):
        given = holder.get(name)
        if file and isinstance(given, str) and not Path(given).is_absolute():
            beside = Path(file).absolute().parent / given
            if beside.exists():
                holder[name] = str(beside)


def _check_spelling(cfg: dict[str, Any]) -> None:
    for key in difflib.get_close_matches(KEY, [str(k) for k in cfg], n=1, cutoff=0.8):
        if isinstance(cfg[key], dict) and key != KEY:
            raise DualResError(f"the config has a key '{key}': did you mean '{KEY}'?")
