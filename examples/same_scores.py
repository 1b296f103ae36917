"""The same photos through several hosts: does one router say the same?

    python examples/same_scores.py photos/ --router default yolo11n.pt mmdet:yolox.py,yolox.pth \\
        torchvision:fasterrcnn_mobilenet_v3_large_320_fpn,weights=frcnn.pth

Each host letterboxes, pads and normalises in its own way; the router sees the photo alone. Prints, against the first
detector, the rank correlation of the scores, the share of photos with the same route at 50 % high (each detector at
its own median, as `dualres swap` calibrates, and all at the first one's threshold), and the largest difference.
"""

from __future__ import annotations

import argparse

import numpy as np
from tqdm.auto import tqdm

from dualres_plugin.common.errors import one_message
from dualres_plugin.common.images.decode import read_image
from dualres_plugin.common.images.sources import list_images
from dualres_plugin.hosts.registry import load_detector
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train.ranks import spearman


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("detectors", nargs="+", help="as for dualres profile")
    parser.add_argument("--router", default="default")
    parser.add_argument("--limit", type=int, help="use only so many photos")
    args = parser.parse_args()

    router = ResolutionRouter.from_pretrained(args.router)
    paths = list_images(args.photos)[: args.limit]
    scores = {spec: _scores(spec, router, paths) for spec in args.detectors}
    first = scores[args.detectors[0]]
    middle = float(np.median(first))
    print(f"{len(paths)} photos, spread of the scores (sd) {first.std():.3f}, against {args.detectors[0]}:")
    print(f"{'detector':60s} {'rank corr':>9s} {'same route':>11s} {'one threshold':>14s} {'largest diff':>13s}")
    for spec, found in scores.items():
        own = np.mean((found > np.median(found)) == (first > middle))
        one = np.mean((found > middle) == (first > middle))
        print(
            f"{spec[-60:]:60s} {spearman(found, first):9.5f} {own:11.1%} {one:14.1%} "
            f"{np.abs(found - first).max():13.4f}"
        )


def _scores(spec: str, router: ResolutionRouter, paths: list) -> np.ndarray:
    adapter = load_detector(spec)
    size = adapter.default_size
    found = []
    for path in tqdm(paths, desc=spec[-30:]):
        batch = adapter.collate([read_image(path)], size)
        found.append(float(router.score(adapter.router_images(batch))[0]))
    return np.array(found)


if __name__ == "__main__":
    with one_message():
        main()
