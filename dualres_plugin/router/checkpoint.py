"""Router checkpoints: a folder with `router.safetensors` and `router.json`. No pickle, ever."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files import atomic_dir, read_json, write_json
from dualres_plugin.router.network import ResolutionRouter, RouterConfig

FORMAT_VERSION = 1
TENSORS, META = "router.safetensors", "router.json"
DEFAULT = "default"  # the name of the router that ships with the package
DEFAULT_FOLDER = Path(__file__).parent / "default_router"

logger = logging.getLogger("dualres")


def save_router(router: ResolutionRouter, path: Path | str) -> Path:
    """Write a router folder; both files appear together or not at all."""
    path = Path(path)
    if path.is_file():
        raise DualResError(f"cannot save a router to '{path}': that is a file. A router is a folder.")
    with atomic_dir(path) as folder:
        # As bytes: `save_file` leaves a file that only its owner can read.
        (folder / TENSORS).write_bytes(save({k: v.contiguous().cpu() for k, v in router.state_dict().items()}))
        write_json(folder / META, _meta(router))
    return path


def _meta(router: ResolutionRouter) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "kind": "dualres-router",
        "config": router.config.to_dict(),
        "score_quantiles": router.quantiles,
        "gmacs": router.gmacs(),
        "info": router.info,
    }


def load_router(path: Path | str, backbone: nn.Module | None = None) -> ResolutionRouter:
    """Read a router folder, or the shipped router by the name "default".

    Raises:
        DualResError: If files are missing, of another version, or tensors are missing, surplus or misshapen.
    """
    path = DEFAULT_FOLDER if str(path) == DEFAULT else Path(path)
    if path.name in (TENSORS, META):
        path = path.parent
    if not path.is_dir():
        raise DualResError(f"router '{path}' does not exist. Train one with: dualres train PROFILE --out {path}")
    meta = read_json(path / META, "router description")
    _check_meta(meta, path)
    if meta["config"]["backbone"] == "custom" and backbone is None:
        raise DualResError(
            f"router '{path}' was built around a backbone given by object: "
            "call ResolutionRouter.from_pretrained(path, backbone=module)."
        )
    try:
        router = _from_meta(meta, backbone)
    except DualResError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:  # right keys, wrong values: edited by hand
        raise DualResError(f"'{path / META}' is incomplete or edited: {error}.") from None
    _load_tensors(router, path / TENSORS)
    return router.eval()


def load_default_router() -> ResolutionRouter:
    """The shipped router, with a message of what it is: for callers whose user named none."""
    router = load_router(DEFAULT)
    logger.warning(
        "no router was named, so the default one decides. It was trained on %s and knows neither your detector nor "
        "your photos. Fit your own: model.fit(data=..., images=...), or dualres profile and train. Without labels, "
        "adapt its threshold: dualres swap default --detector ... --images ... --out ...",
        router.info.get("summary", "COCO photos"),
    )
    return router


def _from_meta(meta: dict[str, Any], backbone: nn.Module | None) -> ResolutionRouter:
    config = dict(meta["config"])
    config |= {name: tuple(map(float, config[name])) for name in ("mean", "std")}
    router = ResolutionRouter(RouterConfig(**config), backbone=backbone)
    router.quantiles = [float(q) for q in meta["score_quantiles"]]
    router.info = dict(meta.get("info", {}))
    return router


def _check_meta(meta: Any, path: Path) -> None:
    if not isinstance(meta, dict) or meta.get("kind") != "dualres-router":
        raise DualResError(f'\'{path / META}\' does not describe a router (no "kind": "dualres-router").')
    version = meta.get("format_version")
    if version != FORMAT_VERSION:
        raise DualResError(
            f"router '{path}' has format version {version!r}, this dualres-plugin reads version {FORMAT_VERSION}. "
            "Update the package, or train the router again."
        )
    missing = [k for k in ("config", "score_quantiles") if k not in meta]
    config = meta.get("config", {})
    unknown = set(config) ^ set(RouterConfig.__dataclass_fields__) if isinstance(config, dict) else {"config"}
    if missing or unknown:
        raise DualResError(f"'{path / META}' is incomplete or edited: check {missing or sorted(unknown)}.")


def _load_tensors(router: ResolutionRouter, file: Path) -> None:
    try:
        tensors = load_file(str(file))
    except FileNotFoundError:
        raise DualResError(f"router tensors '{file}' are missing: copy the whole router folder.") from None
    except (SafetensorError, OSError) as error:
        raise DualResError(f"router tensors '{file}' cannot be read ({error}): the file is damaged.") from None
    own = router.state_dict()
    problems = [f"missing {k}" for k in own.keys() - tensors.keys()]
    problems += [f"surplus {k}" for k in tensors.keys() - own.keys()]
    problems += [
        f"{k} is {tuple(tensors[k].shape)}, not {tuple(own[k].shape)}"
        for k in own.keys() & tensors.keys()
        if tensors[k].shape != own[k].shape
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise DualResError(f"router tensors '{file}' do not fit '{router.config.backbone}': {shown}.")
    router.load_state_dict({k: v.to(own[k].dtype) for k, v in tensors.items()})
