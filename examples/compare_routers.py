"""Compare gains, backbones and recipes for the router on the same data: one table, intervals, several seeds.

    python examples/compare_routers.py --train runs/train --val runs/val \\
        --backbone default --backbone detector:yolo11n.pt --gain ap_objects --gain ap --gain loss --gain agreement \\
        --config configs/paper.yaml --other-val runs/val-yolox --seeds 3

Each seed learns from another 80 % of the training photos, so that the spread says how much the photos matter. The
interval is a bootstrap over the evaluation photos, for the router of all training photos. `--other-val`, a profile of
the same evaluation photos by another detector, adds the cross-detector ceiling: the true gain of one detector as the
score for the other. Comparing on evaluation images selects on them: choose by the table of your own validation split.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from dualres_plugin.common.errors import one_message
from dualres_plugin.evaluate.auc_policy import auc_policy
from dualres_plugin.evaluate.baselines import bootstrap_auc, cascade_uncertainty
from dualres_plugin.evaluate.curve import descending, sweep
from dualres_plugin.evaluate.scoring import score_profile
from dualres_plugin.profile.coco_ap import MixedAP
from dualres_plugin.profile.gains import compute_gain
from dualres_plugin.profile.table import Profile
from dualres_plugin.train.config import TrainConfig
from dualres_plugin.train.train import train_router

SHARE = 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="append", required=True, help="training profile; repeat to average detectors")
    parser.add_argument("--val", required=True, help="evaluation profile: other images, labelled")
    parser.add_argument("--other-val", action="append", default=[], help="the same images by another detector")
    parser.add_argument("--backbone", action="append", default=[], help="as for dualres train; repeatable")
    parser.add_argument("--gain", action="append", default=[], help="as for dualres train; repeatable")
    parser.add_argument("--config", action="append", default=[], help="a whole recipe, such as configs/paper.yaml")
    parser.add_argument("--input-size", type=int)
    parser.add_argument("--views", type=int, help="use only so many views of each photo")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bootstrap", type=int, default=200)
    args = parser.parse_args()

    profiles = [_with_views(Profile.load(p), args.views) for p in args.train]
    val = Profile.load(args.val)
    mixed = MixedAP(val)
    recipes = {
        f"{Path(b).name}, {g}": TrainConfig(backbone=b, gain=g, input_size=args.input_size)
        for b in args.backbone or ["default"]
        for g in args.gain or ["auto"]
    }
    recipes |= {Path(c).name: TrainConfig.load(c) for c in args.config}
    print(f"{val.meta['detector']}, {mixed.n} images, trained on {' + '.join(p.meta['detector'] for p in profiles)}")
    print(f"{'policy':45s} {'GMACs':>6s} {'AUC-Policy':>10s} {'95 % interval':>16s}   mean ± sd of {args.seeds} seeds")
    for name, recipe in recipes.items():
        whole = train_router(profiles, recipe, progress=False)
        scores = score_profile(whole, val, val.originals)
        lower, upper = bootstrap_auc(mixed, scores, args.bootstrap, np.random.default_rng(0))
        spread = []
        for seed in range(args.seeds):
            part = [_part(p, seed) for p in profiles]
            router = train_router(part, replace(recipe, seed=seed), progress=False)
            spread.append(_auc(mixed, score_profile(router, val, val.originals)))
        seeds = f"{np.mean(spread):.3f} ± {np.std(spread):.3f}" if spread else ""
        interval = f"[{lower:.3f}, {upper:.3f}]"
        print(f"{name:45s} {whole.gmacs():6.3f} {_auc(mixed, scores):10.3f} {interval:>16s}   {seeds}", flush=True)
    _references(val, mixed, [Profile.load(p) for p in args.other_val])


def _references(val: Profile, mixed: MixedAP, others: list[Profile]) -> None:
    """What any router has to be compared with."""
    rng = np.random.default_rng(0)
    chance = [auc_policy(*sweep(mixed, rng.permutation(mixed.n), 21)) for _ in range(30)]
    rows = val.originals
    print(f"{'random':45s} {0:6.3f} {np.mean(chance):10.3f} {'':16s}   ± {np.std(chance):.3f} of one order")
    print(f"{'cascade (costs low + β high)':45s} {'':6s} {_auc(mixed, cascade_uncertainty(val, rows)):10.3f}")
    for other in others:
        name = f"ceiling: true gain of {other.meta['detector']}"
        print(f"{name:45s} {'':6s} {_auc(mixed, compute_gain('ap', other, other.originals)):10.3f}")
    print(f"{'oracle (true gain)':45s} {'':6s} {_auc(mixed, compute_gain('ap', val, rows)):10.3f}")


def _auc(mixed: MixedAP, scores: np.ndarray) -> float:
    return auc_policy(*sweep(mixed, descending(scores)))


def _with_views(profile: Profile, views: int | None) -> Profile:
    return profile if views is None else _rows(profile, profile.views < views)


def _part(profile: Profile, seed: int) -> Profile:
    """A random 80 % of the photos, with all of their views; the same photos in every profile."""
    images = np.unique(profile.column("image_id"))
    kept = np.random.default_rng(seed).permutation(images)[: round(SHARE * len(images))]
    return _rows(profile, np.isin(profile.column("image_id"), kept))


def _rows(profile: Profile, keep: np.ndarray) -> Profile:
    return Profile(profile.meta, profile.table.filter(keep), profile.path)


if __name__ == "__main__":
    with one_message():
        main()
