"""Hold frames per second on a machine that becomes slower in the middle of a video, and recovers.

    python scripts/pace_study.py yolo11n.pt street.mp4 --slow 1.4 --rounds 3

Two ways side by side: times measured while running (`--fps`), and measured once before (`--ms` with `--hold`). The
video plays three times; in the second one every frame is made to take `--slow` times as long. Columns: frames per
second of each third without its first 50 frames, in which a controller may still be learning, and the share at high.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from dualres_plugin.budget.cost import Budget
from dualres_plugin.common.images.photo import SourceImage
from dualres_plugin.common.images.video import frames
from dualres_plugin.hosts.ladder import Ladder
from dualres_plugin.hosts.registry import load_detector
from dualres_plugin.hosts.sizes import ask_sizes
from dualres_plugin.predict.operating_point import choose_gate, measure_ms
from dualres_plugin.predict.predictor import Predictor
from dualres_plugin.router.network import ResolutionRouter

LEARNING = 50  # frames of a third that do not count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector")
    parser.add_argument("video", type=Path)
    parser.add_argument("--router", default="default")
    parser.add_argument("--fps", type=float, help="to hold; by default what lets 80 %% of the frames be high here")
    parser.add_argument("--slow", type=float, default=1.4)
    parser.add_argument("--rounds", type=int, default=1, help="of each way, in turn")
    args = parser.parse_args()

    adapter = load_detector(args.detector)
    router = ResolutionRouter.from_pretrained(args.router)
    size, ladder = ask_sizes(adapter, None, None, None)
    fps = args.fps or _possible(adapter, router, args.video, size, ladder)
    print(f"{fps:.2f} frames a second are wanted; {args.slow:g} times as slow in the second third")
    points = {"while running": Budget(fps=fps), "once before": Budget(ms=1000 / fps)}
    print("| times measured | as is: fps, at high | slower: fps, at high | as is again: fps, at high |")
    print("|---|---|---|---|")
    for _ in range(args.rounds):
        for name, point in points.items():
            gate = choose_gate(router, adapter, size, ladder, args.video, point, hold=True)
            thirds = run(Predictor(adapter, gate, size, ladder), args.video, args.slow)
            print(f"| {name} | " + " | ".join(f"{fps:.2f}, {high:.0%}" for fps, high in thirds) + " |", flush=True)


def run(predictor: Predictor, video: Path, slow: float) -> list[tuple[float, float]]:
    """Frames per second and share at high of each third."""
    count = sum(1 for _ in frames(video))
    ends: list[float] = [time.perf_counter()]
    high: list[bool] = []
    for prediction in predictor.stream(_three_times(video)):
        if len(high) // count == 1:
            _take_longer(ends[-1], slow)
        ends.append(time.perf_counter())
        high.append(prediction.route.step == 0)
    found = []
    for third in range(3):
        begin, end = third * count + LEARNING, (third + 1) * count
        found.append(((end - begin) / (ends[end] - ends[begin]), sum(high[begin:end]) / (end - begin)))
    return found


def _possible(adapter: Any, router: ResolutionRouter, video: Path, size: int, ladder: Ladder) -> float:
    images = [np.ascontiguousarray(frame.pixels) for frame in islice(frames(video), 8)]
    ms = measure_ms(adapter.for_inference(), router, images, size, ladder)
    return 1000 / (ms["t_router"] + 0.2 * ms["t_low"] + 0.8 * ms["t_high"])


def _three_times(video: Path) -> Iterator[SourceImage]:
    return chain.from_iterable(frames(video) for _ in range(3))


def _take_longer(begun: float, slow: float) -> None:
    """Wait until a frame that began then has taken so many times as long."""
    until = begun + slow * (time.perf_counter() - begun)
    while time.perf_counter() < until:
        pass


if __name__ == "__main__":
    main()
