"""How much faster two processes profile than one, with one thread each.

    python scripts/two_workers.py yolo11n.pt photos/ --views 2

Each way is timed from the command to its end, loading included, and they take turns. The ratio is of photos per
second, median of the turns.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def main() -> None:
    """Print seconds of each turn, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    words = ["profile", args.detector, "--images", str(args.photos), "--views", str(args.views)]
    shards = [["--shard", f"{number + 1}/{args.processes}"] for number in range(args.processes)]
    seconds: dict[str, list[float]] = {"one process": [], f"{args.processes} shards": []}
    for _ in range(args.turns):
        for way, parts in zip(seconds, ([[]], shards)):
            with tempfile.TemporaryDirectory() as folder:
                seconds[way].append(timed([[*words, *part, "--out", f"{folder}/p"] for part in parts]))
            print(f"{way}: {seconds[way][-1]:.1f} s", flush=True)
    one, several = (np.array(found) for found in seconds.values())
    print(f"{args.processes} shards beside one process: {np.median(one / several):.2f} x the photos per second")


def timed(commands: list[list[str]]) -> float:
    """Seconds until all of these, begun at once, have ended."""
    began = time.perf_counter()
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "dualres_plugin.cli", *words], env=ONE_THREAD, stderr=subprocess.DEVNULL
        )
        for words in commands
    ]
    if any(process.wait() for process in running):
        raise SystemExit("a process failed: run its command by hand to see why.")
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
