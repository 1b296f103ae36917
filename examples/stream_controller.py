"""Hold a share of images at high while the content of a stream changes abruptly.

    python examples/stream_controller.py --router default --target 0.3 day/ night/ rain/

Each folder is one scene of the stream, one after the other. Prints, per scene, what the calibrated threshold alone
would send to high and what the controller sends, and draws both over time. No detector runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np

from dualres_plugin.budget.controller import BudgetController
from dualres_plugin.common.errors import one_message
from dualres_plugin.common.images.photo import router_images_of
from dualres_plugin.common.images.sources import iter_source
from dualres_plugin.router.network import ResolutionRouter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="+", help="folders of photos, in the order of the stream")
    parser.add_argument("--router", default="default")
    parser.add_argument("--target", type=float, default=0.3, help="wanted share at high")
    parser.add_argument("--window", type=int, default=32, help="scores that the controller remembers")
    parser.add_argument("--plot", type=Path, default=Path("controller.png"))
    args = parser.parse_args()

    router = ResolutionRouter.from_pretrained(args.router)
    fixed = router.threshold_for(args.target)
    controller = BudgetController(args.target, router.quantiles, window=args.window)
    held, alone, borders = [], [], [0]
    for scene in args.scenes:
        for image in iter_source(scene):
            score = float(router.score(router_images_of([image.pixels]))[0])
            alone.append(score > fixed)
            held.append(controller.route(score))
        borders.append(len(held))
        part = slice(borders[-2], borders[-1])
        print(
            f"{scene}: {borders[-1] - borders[-2]} images, {np.mean(held[part]):.1%} at high, "
            f"{np.mean(alone[part]):.1%} by the fixed threshold"
        )
    print(
        f"stream: {len(held)} images, {np.mean(held):.1%} at high (wanted {args.target:.0%}), "
        f"{np.mean(alone):.1%} by the fixed threshold; state: {controller.state}"
    )
    _plot(args.plot, np.array(held), np.array(alone), borders, args)


def _plot(path: Path, held: np.ndarray, alone: np.ndarray, borders: list[int], args: argparse.Namespace) -> None:
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(9, 4))
    kernel = np.ones(args.window) / args.window
    for values, name in ((held, "controller"), (alone, "fixed threshold")):
        share = np.convolve(values, kernel, mode="valid")
        axis.plot(np.arange(len(share)) + args.window, share, label=name)
    axis.axhline(args.target, color="grey", linestyle=":", label="target")
    for end in borders[1:-1]:
        axis.axvline(end, color="lightgrey")
    axis.set(xlabel="image", ylabel=f"share at high, last {args.window}", ylim=(0, 1))
    axis.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")
    print(f"look at {path}")


if __name__ == "__main__":
    with one_message():
        main()
