"""What a router learns from: thumbnails with ranked gains, joined from one or more profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dualres_plugin.common.errors import DualResError
from dualres_plugin.profile.gains import compute_gain
from dualres_plugin.profile.table import Profile
from dualres_plugin.train.ranks import ranked
from dualres_plugin.train.thumbnails import Thumbnails


@dataclass
class TrainingSet:
    """Thumbnails with what they should teach.

    Attributes:
        thumbs: n of (3, S, S) uint8.
        gain: (n,) float32, ranked to a standard normal; NaN where unknown.
        loss_low: (n,) float32, the detector's loss at low; NaN without labels.
        loss_high: (n,) float32, the same at high.
        group: (n,) source image of each row.
        original: (n,) bool, True for the images themselves.
    """

    thumbs: Thumbnails
    gain: Tensor
    loss_low: Tensor
    loss_high: Tensor
    group: np.ndarray
    original: np.ndarray

    def __len__(self) -> int:
        return len(self.gain)

    @property
    def gain_known(self) -> np.ndarray:
        """(n,) bool, rows whose gain is not NaN."""
        known: np.ndarray = ~torch.isnan(self.gain).numpy()
        return known


def resolve_gain(name: str, profiles: Sequence[Profile]) -> str:
    """What "auto" means for these profiles.

    Args:
        name: of a gain, or "auto".
        profiles: those to train on.

    Returns:
        The gain's name: for "auto", "ap_objects" where every profile has labels, else "agreement".
    """
    if name != "auto":
        return name
    return "ap_objects" if all(p.labelled for p in profiles) else "agreement"


def training_set(profiles: Sequence[Profile], gain: str, size: int) -> TrainingSet:
    """Join profiles: rows that all of them have, gains averaged after ranking.

    Args:
        profiles: of the same images and views, by other detectors or at other sizes.
        gain: which gain to learn, or "auto".
        size: side of the thumbnails in pixels, at most that of the first profile.

    Returns:
        The rows in order of image id and view.

    Raises:
        DualResError: If the profiles share no rows, or lack what the gain needs.
    """
    rows = _common_rows(profiles)
    image, view = (profiles[0].column(name)[rows[0]] for name in ("image_id", "view"))
    return TrainingSet(
        Thumbnails(profiles[0], rows[0], size),
        gain=_mean_gain(profiles, rows, resolve_gain(gain, profiles)),
        loss_low=_mean_loss(profiles, rows, "loss_low"),
        loss_high=_mean_loss(profiles, rows, "loss_high"),
        group=image,
        original=view == 0,
    )


def _mean_gain(profiles: Sequence[Profile], rows: Sequence[np.ndarray], name: str) -> Tensor:
    """(n,) float32, ranked again after the mean over the profiles that know a row's gain."""
    gains = np.stack([ranked(compute_gain(name, p, r)) for p, r in zip(profiles, rows)])
    known = ~np.isnan(gains)
    mean = np.where(known.any(axis=0), np.nansum(gains, axis=0) / np.maximum(known.sum(axis=0), 1), np.nan)
    return torch.from_numpy(ranked(mean)).float()


def _mean_loss(profiles: Sequence[Profile], rows: Sequence[np.ndarray], column: str) -> Tensor:
    mean = np.mean([p.column(column)[r] for p, r in zip(profiles, rows)], axis=0)
    return torch.from_numpy(np.asarray(mean, dtype=np.float32))


def _common_rows(profiles: Sequence[Profile]) -> list[np.ndarray]:
    """Row numbers in each profile of the image and views that all have, in order of these."""
    if len(profiles) == 1:
        return [np.lexsort((profiles[0].views, profiles[0].column("image_id")))]
    keys = [_keys(p) for p in profiles]
    common = sorted(set(keys[0]).intersection(*keys[1:]))
    if not common:
        raise DualResError(
            "these profiles have no image and view in common: "
            "profile the same data set with the same --seed and --views."
        )
    return [np.array([k[key] for key in common]) for k in keys]


def _keys(profile: Profile) -> dict[tuple[int, int], int]:
    """Row number by image id and view."""
    pairs = zip(profile.column("image_id").tolist(), profile.views.tolist())
    return {pair: row for row, pair in enumerate(pairs)}
