"""How far a thumbnail made from a photo's bytes moves the router, against the thumbnail that PyTorch makes.

    python scripts/thumbnail_agreement.py coco=val2017/,train2017/ plates=plates/

For each set of photos: rank correlation of the scores, and the share of the routes that change, at the thresholds of
the router's calibration for 5, 10, … 95 % at high: their mean, and the largest. Once with OpenCV as the session makes
thumbnails, once with Pillow alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dualres_plugin.common.card import Card, Postprocess, Preprocess
from dualres_plugin.common.errors import one_message
from dualres_plugin.common.images.sources import iter_source
from dualres_plugin.common.types import RouterImages
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.runtime.photo import make_frame
from dualres_plugin.runtime.thumbnail import make_thumbnail
from dualres_plugin.train.ranks import spearman

RATES = np.linspace(0.05, 0.95, 19)
HIGH = 640  # photos are scaled into a square of it, as the session does


def main() -> None:
    """Print a row for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="NAME=FOLDER,FOLDER", help="photos, each set with a name")
    parser.add_argument("--router", default="default")
    args = parser.parse_args()
    router = ResolutionRouter.from_pretrained(args.router)
    print("| photos | rank correlation (Pillow) | routes that change, mean (largest) | of Pillow |\n|---|---|---|---|")
    for one in args.sets:
        name, _, folders = one.partition("=")
        theirs, opencv, pillow = np.array(list(scores(router, folders.split(",")))).T
        parts = [f"{name}, {len(theirs)}", f"{spearman(opencv, theirs):.5f} ({spearman(pillow, theirs):.5f})"]
        print("| " + " | ".join([*parts, *(changed(router, ours, theirs) for ours in (opencv, pillow))]) + " |")


def scores(router: ResolutionRouter, folders: Sequence[str]) -> Iterator[tuple[float, float, float]]:
    """Of each photo: on PyTorch's thumbnail, and on those from bytes with OpenCV and without."""
    card = Card("cond", "any", HIGH, 0.5, 32, 0.0, "0", Preprocess(), Postprocess())
    for image in (image for folder in folders for image in iter_source(Path(folder))):
        frame = make_frame(image.pixels, card)
        x0, y0, x1, y1 = frame.content
        photo = np.rint(frame.images[0, :, y0:y1, x0:x1].transpose(1, 2, 0) * 255).astype(np.uint8)
        own = float(router.score(RouterImages(torch.from_numpy(frame.images), [frame.content]))[0])
        made = [make(photo, router.config.input_size) for make in (make_thumbnail, by_pillow)]
        with torch.no_grad():
            opencv, pillow = router(torch.from_numpy(np.concatenate(made))).tolist()
        yield own, opencv, pillow


def by_pillow(photo: np.ndarray, size: int) -> np.ndarray:
    """(1, 3, S, S), as whoever has no session makes it."""
    small = np.asarray(Image.fromarray(photo).resize((size, size), Image.Resampling.BILINEAR), dtype=np.float32)
    return small.transpose(2, 0, 1)[None] / np.float32(255)


def changed(router: ResolutionRouter, ours: np.ndarray, theirs: np.ndarray) -> str:
    """Mean and largest share of routes that differ."""
    found = [float(np.mean((ours > t) != (theirs > t))) for t in map(router.threshold_for, RATES)]
    return f"{100 * np.mean(found):.2f} % ({100 * max(found):.2f} %)"


if __name__ == "__main__":
    with one_message():
        main()
