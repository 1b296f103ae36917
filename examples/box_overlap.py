"""Does the low size put its boxes where the high size does? IoU of the two on big objects, from a profile.

    python examples/box_overlap.py runs/val

For every object that high finds with a score of at least --score and that covers at least --area of the photo: the
IoU with the best box of low, of the same class. A detector whose low boxes drift wants other sizes, or a network of its
own for low.
"""

from __future__ import annotations

import argparse

import numpy as np

from dualres_plugin import Profile
from dualres_plugin.common.errors import one_message
from dualres_plugin.profile.gains import iou_matrix


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile", help="folder of a profile")
    parser.add_argument("--score", type=float, default=0.4)
    parser.add_argument("--area", type=float, default=0.05, help="share of the photo that a big object covers")
    args = parser.parse_args()

    profile = Profile.load(args.profile)
    overlaps = np.concatenate([overlap(profile, int(row), args.score, args.area) for row in profile.originals])
    if not len(overlaps):
        raise SystemExit(f"no object with score >= {args.score:g} covers {args.area:.0%} of a photo: lower --area.")
    shares = ", ".join(f"{np.mean(overlaps > level):.0%} above {level}" for level in (0.5, 0.8))
    print(f"{len(overlaps)} big objects: median IoU of low with high {np.median(overlaps):.3f}; {shares}")


def overlap(profile: Profile, row: int, score: float, area: float) -> np.ndarray:
    """(n,) best IoU of low with each big object of high; 0 where low found nothing of its class."""
    high, low = (profile.detections(size, row) for size in ("high", "low"))
    photo = profile.column("width")[row] * profile.column("height")[row]
    sides = high.boxes[:, 2:] - high.boxes[:, :2]
    big = (sides.prod(axis=1) >= area * photo) & (high.scores >= score)
    if not big.any() or not len(low):
        return np.zeros(int(big.sum()))
    same = high.labels[big][:, None] == low.labels[None]
    best: np.ndarray = (iou_matrix(high.boxes[big], low.boxes) * same).max(axis=1)
    return best


if __name__ == "__main__":
    with one_message():
        main()
