"""What this adapter changes in mmengine, mmdet, torch and a detector, why, and for how long.

Seen on mmdet 3.3.0, mmengine 0.10.7 and torch 2.14.1. `mmcv_ext` tells of the one thing that is added to mmcv,
`mmdet_key` of a check that stands where this adapter is not imported.

For the life of the process, by importing the adapter: `extend_config`, `allow_checkpoints`. For the life of a result:
`turn_into`. Within a `with` block, undone by errors too: `frozen`, `constant`, `every_box`, `loss_mode`,
`without_masks`, `features_given`.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from mmengine.config import Config
from torch import nn

from dualres_plugin.adapters.mmdet.config import KEY, unwrap_model, wrap_model
from dualres_plugin.common.modes import in_eval

Kind = TypeVar("Kind")


def extend_config() -> None:
    """Make the `dualres` key work in every `Config`; `config` says why it takes this. A second call does nothing.

    To undo it: `Config.__init__ = Config.__init__.__wrapped__`, and the other three of `_FOLLOWED` likewise.
    """
    if not hasattr(Config.__init__, KEY):
        for name in _FOLLOWED:
            setattr(Config, name, _followed(getattr(Config, name)))


_FOLLOWED = ("__init__", "merge_from_dict", "__setattr__", "__setitem__")


def _followed(original: Callable[..., None]) -> Callable[..., None]:
    sets = original.__name__ in ("__setattr__", "__setitem__")

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> None:
        if original.__name__ == "merge_from_dict" and self._cfg_dict.get(KEY) is not None:
            unwrap_model(self._cfg_dict)
        original(self, *args, **kwargs)
        if not sets or args[0] in (KEY, "model"):
            wrap_model(self._cfg_dict, self._filename)

    vars(method)[KEY] = True
    return method


def allow_checkpoints() -> None:
    """Let torch >= 2.6 read mmengine's own checkpoints, which hold more than tensors.

    torch refuses unknown classes in a pickle unless they are named; these are the ones that mmengine's runner puts
    in: its log history, numpy's arrays, and a reference to the history's statistics. Nothing else becomes loadable.
    `torch.serialization.clear_safe_globals` undoes it.
    """
    import numpy as np
    from mmengine.logging.history_buffer import HistoryBuffer

    if torch.__version__ < torch.torch_version.TorchVersion("2.6"):
        return
    core: Any = getattr(np, "_core", None) or np.core  # renamed in numpy 2; files of both exist
    names = [f"numpy.{package}.multiarray" for package in ("core", "_core")]
    dtypes = {type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "u8", "?")}
    torch.serialization.add_safe_globals(
        [
            *((core.multiarray._reconstruct, f"{name}._reconstruct") for name in names),
            *((core.multiarray.scalar, f"{name}.scalar") for name in names),
            (_statistic, "builtins.getattr"),
            *(HistoryBuffer, np.ndarray, np.dtype, *dtypes),
        ]
    )


def _statistic(owner: Any, name: str) -> Any:
    """`getattr`, as far as mmengine's log history needs it."""
    from mmengine.logging.history_buffer import HistoryBuffer

    if owner is not HistoryBuffer or name not in ("min", "max", "current", "mean", "statistics"):
        raise pickle.UnpicklingError(f"refused to load getattr({owner!r}, {name!r}) from a checkpoint")
    return getattr(owner, name)


def turn_into(sample: Any, kind: type[Kind]) -> Kind:
    """Make a `DetDataSample` one of a subclass, in place: the host's loops go on with the samples that they gave.

    Not undone: the sample lives as long as the results of its batch.
    """
    object.__setattr__(sample, "__class__", kind)  # its own setattr would make this a data field
    turned: Kind = sample
    return turned


@contextmanager
def frozen(detector: nn.Module) -> Iterator[None]:
    """Run a detector in eval and without gradients; every part gets its own mode back."""
    with in_eval(detector), torch.no_grad():
        yield


@contextmanager
def constant(detector: nn.Module) -> Iterator[None]:
    """No parameter asks for gradients: torch's counter stumbles over queries that are bare parameters."""
    flags = [(parameter, parameter.requires_grad) for parameter in detector.parameters()]
    detector.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


_LOOSE = {"score_thr": 0.0, "nms_pre": 100, "distance_threshold": 1e9}  # the last pairs corners in CornerNet


@contextmanager
def every_box(detector: nn.Module) -> Iterator[None]:
    """No score threshold in any `test_cfg`, so random weights find something; few boxes before NMS, to be quick."""
    parts = [part for module in detector.modules() for part in _dicts(getattr(module, "test_cfg", None))]
    kept = [(part, dict(part)) for part in parts]
    for part in parts:
        part.update({key: value for key, value in _LOOSE.items() if key in part})
    try:
        yield
    finally:
        for part, before in reversed(kept):
            part.update(before)


def _dicts(cfg: Any) -> Iterator[dict[str, Any]]:
    """A config and the dicts in it."""
    if isinstance(cfg, dict):
        yield cfg
        for value in cfg.values():
            yield from _dicts(value)


@contextmanager
def loss_mode(detector: nn.Module) -> Iterator[None]:
    """Tell a detector in eval, but not its layers, that it trains; and torch that no other process is there.

    Query-based families build what their loss needs only when training; dropout and batch norms have to stay in eval.
    Many heads average their normaliser over all processes: the loss of one image must not depend on the images of
    the others (nor wait for them, where counts differ), so for the moment there is only this process. Other threads
    that ask torch meanwhile are told the same.
    """
    is_initialized = torch.distributed.is_initialized
    torch.distributed.is_initialized = lambda: False
    detector.training = True
    try:
        yield
    finally:
        detector.training = False
        torch.distributed.is_initialized = is_initialized


@contextmanager
def without_masks(detector: nn.Module) -> Iterator[None]:
    """Within the block a two-stage detector has no mask head: what its loss on boxes alone is.

    Args:
        detector: any; one without a `roi_head.mask_head` stays as it is.
    """
    roi_head = getattr(detector, "roi_head", None)
    head = getattr(roi_head, "mask_head", None)
    if roi_head is None or head is None:
        yield
        return
    roi_head.mask_head = None
    try:
        yield
    finally:
        roi_head.mask_head = head


@contextmanager
def features_given(detector: nn.Module, features: Any) -> Iterator[None]:
    """Within the block `detector.extract_feat` returns `features`, so that a head runs without its backbone.

    Every mmdet family calls `self.extract_feat(inputs)` first; one that does not is only slower, not wrong.
    """
    detector.__dict__["extract_feat"] = lambda *args, **kwargs: features
    try:
        yield
    finally:
        del detector.__dict__["extract_feat"]
