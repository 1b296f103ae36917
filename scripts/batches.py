"""Throughput of a routed detector in batches: split by route, waiting for one's route, and one fixed size beside them.

`python scripts/batches.py yolo11n.pt val2017/ --batches 1,8,32` prints the table of docs/scale.md. The three take turns
on the same photos; a figure is the median of the rounds. Seconds are those of the process, so that other work on the
machine counts little: with one thread (OMP_NUM_THREADS=1) photos per second of one core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from dualres_plugin.common.images.photo import SourceImage
from dualres_plugin.common.images.sources import iter_source
from dualres_plugin.hosts.registry import load_detector
from dualres_plugin.hosts.routing import run_routed
from dualres_plugin.hosts.sizes import ask_sizes
from dualres_plugin.predict.predictor import Predictor
from dualres_plugin.router.gate import Gate
from dualres_plugin.router.network import ResolutionRouter, load_default_router

Way = Callable[[list[SourceImage], int], None]


class Ways:
    """The three ways through one detector.

    Args:
        detector: as the command line names it.
        router: its folder; None is the default router.
        rate: share of the photos at high.
        high, low, fixed: sizes in pixels.
    """

    def __init__(self, detector: str, router: str | None, rate: float, high: int, low: int, fixed: int):
        adapter = load_detector(detector)
        self.adapter = adapter.for_inference()
        self.high, self.ladder = ask_sizes(adapter, low, high, None)
        self.fixed = fixed
        net = ResolutionRouter.from_pretrained(router) if router else load_default_router()
        self.gate = Gate(net, net.threshold_for(rate))

    def split(self, photos: list[SourceImage], batch: int) -> None:
        """Neighbours of one shape, cut by route: two passes of what that leaves."""
        for block in self._blocks(photos, batch, self.high):
            self._detect(block, self.high, lambda made: run_routed(self.adapter, made, self.gate, self.ladder))

    def waiting(self, photos: list[SourceImage], batch: int) -> None:
        """As `dualres predict --batch` runs."""
        for _ in Predictor(self.adapter, self.gate, self.high, self.ladder, batch).stream(iter(photos)):
            pass

    def one_size(self, photos: list[SourceImage], batch: int) -> None:
        """No router; photos of one shape wait for each other, too."""
        shapes: dict[Any, list[SourceImage]] = {}
        for photo in photos:
            shapes.setdefault(self.adapter.input_shape(photo.pixels.shape[:2], self.fixed), []).append(photo)
        for same in shapes.values():
            for i in range(0, len(same), batch):
                self._detect(same[i : i + batch], self.fixed, self.adapter.predict)

    def _blocks(self, photos: list[SourceImage], batch: int, size: int) -> Iterator[list[SourceImage]]:
        return Predictor(self.adapter, self.gate, size, self.ladder, batch)._blocks(iter(photos))

    def _detect(self, photos: list[SourceImage], size: int, run: Callable[[Any], Any]) -> None:
        made = self.adapter.collate([photo.pixels for photo in photos], size)
        self.adapter.detections(run(made), made)


def per_second(ways: list[Way], photos: list[SourceImage], batch: int, rounds: int) -> list[float]:
    """Photos per second of the process, one figure a way: the median of rounds in which they take turns."""
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, taken in zip(ways, seconds):
            start = time.process_time()
            way(photos, batch)
            taken.append(time.process_time() - start)
    return [len(photos) / median(taken) for taken in seconds]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--router")
    parser.add_argument("--rate", type=float, default=0.5, help="share of the photos at high")
    parser.add_argument("--high", type=int, default=640)
    parser.add_argument("--low", type=int, default=320)
    parser.add_argument("--fixed", type=int, default=512, help="the one size to compare with")
    parser.add_argument("--count", type=int, default=96, help="photos")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", default="1,8,32")
    given = parser.parse_args()
    photos = [photo for photo, _ in zip(iter_source(given.photos), range(given.count))]
    ways = Ways(given.detector, given.router, given.rate, given.high, given.low, given.fixed)
    three: list[Way] = [ways.split, ways.waiting, ways.one_size]
    per_second(three, photos[:8], 4, 1)  # warms up
    print(f"| batch | cut by route | waiting for their route | all at {given.fixed} px |\n|---|---|---|---|")
    for batch in map(int, given.batches.split(",")):
        figures = per_second(three, photos, batch, given.rounds)
        print(f"| {batch} | {' | '.join(f'{f:.1f}' for f in figures)} |", flush=True)


if __name__ == "__main__":
    main()
