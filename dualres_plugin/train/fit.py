"""`DualResWrapper.fit`: profile, train and calibrate in one call."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.profile.build import ProfileSettings, build_profile
from dualres_plugin.profile.data.dataset import load_dataset
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train.config import TrainConfig
from dualres_plugin.train.train import train_router


def fit_router(
    adapter: HostAdapter[Any],
    data: Path | str | None,
    images: Path | str | None,
    *,
    high: int,
    scale: float,
    out: Path | str | None = None,
    views: int = 8,
    split: str = "train",
    config: TrainConfig | Path | str | None = None,
    batch: int = 8,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
) -> ResolutionRouter:
    """Train a router for a detector on a dataset: `dualres profile` and `dualres train` in one call.

    Args:
        adapter: of the detector.
        data: COCO annotations, an Ultralytics `data.yaml`, or None to learn without labels.
        images: the image folder; not needed with a `data.yaml`.
        high: the high size in pixels, in the host's own meaning of size.
        scale: low / high ratio, below 1.
        out: keeps `profile/` and `router/` there, and resumes a started profile; None uses a temporary folder.
        views: augmented views per image; more help when there are few images.
        split: of a `data.yaml`.
        config: training settings, or a YAML file of them.
        batch: images per pass of the detector.
        seed: of the views, and of a training whose settings are not given as a `TrainConfig`.
        workers: threads that read and augment images ahead of the detector.
        progress: show progress bars.

    Returns:
        The trained and calibrated router.

    Raises:
        DualResError: If data is missing or unusable.
    """
    dataset = load_dataset(data, images, split)
    settings = ProfileSettings(high, scale, views=views, batch=batch, seed=seed)
    train = config if isinstance(config, TrainConfig) else TrainConfig.load(config, seed=seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(out) if out is not None else Path(temporary)
        profile = build_profile(adapter, dataset, folder / "profile", settings, workers=workers, progress=progress)
        router = train_router(profile, train, progress=progress)
        if out is not None:
            router.save(folder / "router")
    return router
