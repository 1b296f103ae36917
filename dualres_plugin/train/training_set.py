"""What a router learns from: thumbnails with ranked gains, joined from one or more profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.resize import resize_images
from dualres_plugin.profile.gains import compute_gain
from dualres_plugin.profile.table import Profile
from dualres_plugin.train.config import TrainConfig
from dualres_plugin.train.ranks import ranked


@dataclass
class TrainingSet:
    """Thumbnails with what they should teach.

    Attributes:
        thumbs: (n, 3, S, S) uint8.
        gain: (n,) float32, ranked to a standard normal; NaN where unknown.
        loss_high, loss_low: (n,) float32, for the paper's objective; NaN without labels.
        group: (n,) source image of each row.
        original: (n,) bool, True for the images themselves.
    """

    thumbs: Tensor
    gain: Tensor
    loss_high: Tensor
    loss_low: Tensor
    group: np.ndarray
    original: np.ndarray

    def __len__(self) -> int:
        return len(self.gain)


def resolve_gain(name: str, profiles: Sequence[Profile]) -> str:
    """What "auto" means for these profiles."""
    if name != "auto":
        return name
    return "ap_objects" if all(p.labelled for p in profiles) else "agreement"


def training_set(profiles: Sequence[Profile], config: TrainConfig, size: int) -> TrainingSet:
    """Join profiles: rows that all of them have, gains averaged after ranking.

    Raises:
        DualResError: If the profiles share no rows, or losses are needed and missing.
    """
    first = profiles[0]
    keys = [_keys(p) for p in profiles]
    common = sorted(set(keys[0]).intersection(*keys[1:]))
    if not common:
        raise DualResError(
            "these profiles have no image and view in common: "
            "profile the same data set with the same --seed and --views."
        )
    rows = [np.array([k[key] for key in common]) for k in keys]
    if config.objective == "paper" and not all(p.labelled for p in profiles):
        raise DualResError("the paper's objective needs losses, so a profile with labels; use objective 'rank'.")
    name = resolve_gain(config.gain, profiles)
    gains = np.stack([ranked(compute_gain(name, p, r)) for p, r in zip(profiles, rows)])
    known = ~np.isnan(gains)
    mean = np.where(known.any(axis=0), np.nansum(gains, axis=0) / np.maximum(known.sum(axis=0), 1), np.nan)
    losses = [np.mean([p.column(c)[r] for p, r in zip(profiles, rows)], axis=0) for c in ("loss_high", "loss_low")]
    thumbs = first.thumbnails(rows[0])
    if thumbs.shape[-1] != size:
        thumbs = torch.cat([_shrink(part, size) for part in thumbs.split(512)])
    return TrainingSet(
        thumbs,
        torch.from_numpy(ranked(mean)).float(),
        torch.from_numpy(np.asarray(losses[0], dtype=np.float32)),
        torch.from_numpy(np.asarray(losses[1], dtype=np.float32)),
        group=np.array([key[0] for key in common]),
        original=np.array([key[1] == 0 for key in common]),
    )


def _keys(profile: Profile) -> dict[tuple[int, int], int]:
    pairs = zip(profile.column("image_id").tolist(), profile.views.tolist())
    return {pair: row for row, pair in enumerate(pairs)}


def _shrink(thumbs: Tensor, size: int) -> Tensor:
    x = resize_images(thumbs.float(), (size, size))
    return x.round().clamp(0, 255).byte()
