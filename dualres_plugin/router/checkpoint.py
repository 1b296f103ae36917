"""Router checkpoints: a folder with `router.safetensors` and `router.json`. No pickle, ever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import with_config
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import atomic_dir, write_json
from dualres_plugin.common.files.schema import GATE, PlainDict, Quantiles, check_size, checked, read_object, shown
from dualres_plugin.common.files.shipped import SHIPPED, router_folder
from dualres_plugin.common.weights import check_finite
from dualres_plugin.router.config import RouterConfig

FORMAT_VERSION = 1
TENSORS_MB = 1000.0  # of router.safetensors; the shipped one has 2
TENSORS, META = "router.safetensors", "router.json"


class StoredRouter(NamedTuple):
    """What a router folder holds: all that a router can be built from.

    Attributes:
        config: architecture.
        tensors: weights by name.
        quantiles: of the scores on calibration images, 0 to 100 %; empty where it was never calibrated.
        info: what it was trained on and how well it does.
    """

    config: RouterConfig
    tensors: dict[str, Tensor]
    quantiles: list[float]
    info: dict[str, Any]


def write_checkpoint(path: Path | str, stored: StoredRouter, gmacs: float) -> Path:
    """Write a router folder; both files appear together or not at all.

    Args:
        path: the folder.
        stored: the router's content.
        gmacs: compute of one score, for people who read the description.

    Raises:
        DualResError: If the path is a file.
    """
    path = Path(path)
    if path.is_file():
        raise DualResError(f"cannot save a router to '{path}': that is a file. A router is a folder.")
    description = {
        "format_version": FORMAT_VERSION,
        "kind": "dualres-router",
        "config": stored.config.to_dict(),
        "score_quantiles": stored.quantiles,
        "gmacs": gmacs,
        "info": stored.info,
    }
    with atomic_dir(path) as folder:
        # As bytes: `save_file` leaves a file that only its owner can read.
        (folder / TENSORS).write_bytes(save({k: v.contiguous().cpu() for k, v in stored.tensors.items()}))
        write_json(folder / META, description)
    return path


def read_checkpoint(path: Path | str) -> StoredRouter:
    """Read a router folder.

    Args:
        path: the folder, one of its two files, or "default" or "small" for one that ships.

    Returns:
        All that a router can be built from.

    Raises:
        DualResError: If files are missing, damaged, edited, too large or of another version, a number in them is not
            finite, or every one is zero.
    """
    path = router_folder(path)
    if path.name in (TENSORS, META):
        path = path.parent
    if not path.is_dir():
        raise DualResError(
            f"router '{path}' does not exist. Train one with: dualres train PROFILE --out {path}; or take one that "
            f"ships: {', '.join(SHIPPED)}."
        )
    meta = read_object(path / META, "router description")
    _check_kind(meta, path)
    wanted = {key: meta[key] for key in ("config", "score_quantiles", "info") if key in meta}
    where = f"'{path / META}' is incomplete or edited"
    described = checked(_Description, wanted, where)
    lost = sorted(set(RouterConfig.__dataclass_fields__) - set(meta["config"]))  # all have defaults
    if lost:
        raise DualResError(f"{where}: config lacks {', '.join(lost)}.")
    tensors = _read_tensors(path / TENSORS)
    return StoredRouter(described.config, tensors, described.score_quantiles, described.info)


@with_config(GATE)
@dataclass
class _Description:
    """What `router.json` must hold beside its kind and version."""

    config: RouterConfig
    score_quantiles: Quantiles
    info: PlainDict = field(default_factory=dict)


def _check_kind(meta: Any, path: Path) -> None:
    if not isinstance(meta, dict) or meta.get("kind") != "dualres-router":
        raise DualResError(f'\'{path / META}\' does not describe a router (no "kind": "dualres-router").')
    version = meta.get("format_version")
    if version != FORMAT_VERSION:
        raise DualResError(
            f"router '{path}' has format version {shown(version)}, this dualres-plugin reads version {FORMAT_VERSION}. "
            "Update the package, or train the router again."
        )


def _read_tensors(file: Path) -> dict[str, Tensor]:
    check_size(file, "router tensors", TENSORS_MB)
    try:
        tensors: dict[str, Tensor] = load_file(str(file))
    except FileNotFoundError:
        raise DualResError(f"router tensors '{file}' are missing: copy the whole router folder.") from None
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise DualResError(f"router tensors '{file}' cannot be read ({error}): the file is damaged.") from None
    check_finite(tensors, f"router tensors '{file}'")
    if not any(bool(tensor.any()) for tensor in tensors.values()):
        raise DualResError(f"router tensors '{file}' hold only zeros: the file is damaged, or was never trained.")
    return tensors


def check_tensors(own: Mapping[str, Tensor], given: Mapping[str, Tensor], path: Path | str, backbone: str) -> None:
    """Are these the tensors of this network?

    Args:
        own: the network's.
        given: read from `path`.
        backbone: the network's name, for the message.

    Raises:
        DualResError: If some are missing, surplus or misshapen.
    """
    problems = [f"missing {k}" for k in own.keys() - given.keys()]
    problems += [f"surplus {k}" for k in given.keys() - own.keys()]
    problems += [
        f"{k} is {tuple(given[k].shape)}, not {tuple(own[k].shape)}"
        for k in own.keys() & given.keys()
        if given[k].shape != own[k].shape
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise DualResError(f"the tensors of router '{path}' do not fit '{backbone}': {shown}.")
