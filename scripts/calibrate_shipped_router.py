"""Calibrate a router of `train_shipped_router.py`, whose body has seen all photos that it could be calibrated on.

    python scripts/calibrate_shipped_router.py runs/small --teacher-backbone detector:mmdet:yolox.py,yolox.pth \\
        --profile runs/a --profile runs/b --photos more/ --out runs/small-calibrated

Scores of photos that a body was taught on are spread wider than those of others. So teacher and body are taught twice,
without one half of the photos each time, and score that half. How much narrower, and how much lower, its scores are
than those of the other half is what the router's own scores are corrected by.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from train_shipped_router import POOL, Lessons, learn

from dualres_plugin.common.images.sources import list_images
from dualres_plugin.evaluate.scoring import score_profile
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.config import RouterConfig
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train import train
from dualres_plugin.train.config import TrainConfig
from dualres_plugin.train.training_set import TrainingSet


def main() -> None:
    """Write the router with new quantiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("router")
    parser.add_argument("--teacher-backbone", required=True)
    parser.add_argument("--profile", action="append", required=True, help="as the router was trained on")
    parser.add_argument("--photos", action="append", default=[], help="folders beside those of the profiles")
    parser.add_argument("--crops", type=int, default=10000)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    router = ResolutionRouter.from_pretrained(args.router)
    profiles = [Profile.load(path) for path in args.profile]
    more = [path for folder in args.photos for path in list_images(folder)]
    apart = [taught_apart(router.config, profiles, half, more, args) for half in (0, 1)]
    own = score_profile(router, profiles[0], profiles[0].originals)
    narrower = np.mean([others.std() / taught.std() for others, taught in apart])
    lower = np.mean([(others.mean() - taught.mean()) / taught.std() for others, taught in apart])
    spread = np.concatenate([(others - others.mean()) / others.std() for others, _ in apart])
    router.calibrate(own.mean() + own.std() * (lower + narrower * spread))
    router.info["calibrated_on"] = (
        f"{len(own)} images, by the spread of scores of two routers that were taught without one half of them each"
    )
    router.save(args.out, half=True)
    print(f"router in {args.out}: unseen scores have {narrower:.2f} of the spread, and lie {-lower:.2f} of it lower")


def taught_apart(
    config: RouterConfig, profiles: Sequence[Profile], half: int, more: Sequence[Path], args: argparse.Namespace
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the images that teacher and body have not seen, and of those that they have."""
    rows = profiles[0].originals
    seen = in_half(profiles[0].column("image_id")[rows], half)
    torch.manual_seed(0)
    with mock.patch.object(train, "make_objective", only(half)):
        settings = TrainConfig(backbone=args.teacher_backbone, input_size=256)
        teacher = train.train_router(profiles, settings)
        photos = [profiles[0].image_path(int(row)) for row in rows[seen]]
        lessons = Lessons(teacher, [*photos, *more], args.crops, config.input_size, seed=0)
        router = ResolutionRouter(RouterConfig(config.backbone, config.input_size, POOL))
        learn(router, lessons, args.epochs, batch=32)
        router.eval().to(memory_format=torch.contiguous_format)
        settings = TrainConfig(backbone=config.backbone, input_size=config.input_size, pool=POOL, train_backbone=False)
        train.train_router(profiles, settings, router=router)
    return score_profile(router, profiles[0], rows[~seen]), score_profile(router, profiles[0], rows[seen])


def in_half(images: np.ndarray, half: int) -> np.ndarray:
    """Which of these are in a half: every second image."""
    return np.asarray(np.unique(images, return_inverse=True)[1] % 2 == half)


def only(half: int) -> Any:
    """`make_objective` whose objective learns from one half of the images."""
    make = train.make_objective

    def made(name: str, config: TrainConfig) -> Any:
        objective = make(name, config)
        usable, kind = objective.usable, type(objective)

        class Half(kind):
            def usable(self, data: TrainingSet) -> np.ndarray:
                return np.asarray(usable(data) & in_half(data.group, half))

        fields = {field.name: getattr(objective, field.name) for field in dataclasses.fields(objective)}
        return Half(**fields)

    return made


if __name__ == "__main__":
    main()
