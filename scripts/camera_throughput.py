"""Frames per second of several cameras through one process, against a process for each.

    python scripts/camera_throughput.py yolo11n.pt runs/clips/val/images --cameras 2,4,8

Every camera plays another folder of frames. One process has all cores in turn for the passes of all cameras; the many
share them, one thread each. Loading counts nowhere: all processes wait for one another before the first frame. The
rounds alternate, so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np

from dualres_plugin.common.errors import one_message
from dualres_plugin.common.images.decode import read_image
from dualres_plugin.common.images.sources import list_images

ROUTER, RATE = "default", 0.3


def run(detector: str, folders: list[Path], frames: int, skip: int, threads: int, ready: Barrier, out: Any) -> None:
    """One process: its cameras play, and what it took is told.

    Args:
        detector: as on the command line.
        folders: of the frames, one a camera.
        frames: of each.
        skip: as of the wrapper.
        threads: of torch.
        ready: all processes wait here until every one has loaded.
        out: a queue for seconds, peak MB and the share that was skipped.
    """
    import torch

    from dualres_plugin import DualResWrapper
    from dualres_plugin.predict.cameras import Cameras

    torch.set_num_threads(threads)
    wrapper = DualResWrapper(detector, ROUTER, memory=True, skip=skip, target_high_rate=RATE)
    cameras = Cameras.of(wrapper)
    sources = {folder.name: [read_image(p) for p in list_images(folder)[:frames]] for folder in folders}
    cameras.step({f"warm {name}": pixels[0] for name, pixels in sources.items()})
    ready.wait()
    begun, routes = time.perf_counter(), []
    for found in cameras.stream({name: iter(pixels) for name, pixels in sources.items()}):
        routes += [p.route.route for p in found.values()]
    took = time.perf_counter() - begun
    out.put(
        (took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, float(np.mean(np.array(routes) == "skip")))
    )


def measure(
    detector: str, groups: list[list[Path]], frames: int, skip: int, threads: int
) -> tuple[float, float, float]:
    """Frames per second of all together, their memory in MB, and the share that was skipped."""
    context = multiprocessing.get_context("spawn")
    ready, out = context.Barrier(len(groups)), context.Queue()
    options = (frames, skip, threads, ready, out)
    processes = [context.Process(target=run, args=(detector, group, *options)) for group in groups]
    for process in processes:
        process.start()
    told = [out.get() for _ in processes]
    for process in processes:
        process.join()
    seconds, memory, skipped = (np.array(column) for column in zip(*told))
    return frames * sum(map(len, groups)) / float(seconds.max()), float(memory.sum()), float(skipped.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector")
    parser.add_argument("clips", type=Path, help="folder of folders of frames")
    parser.add_argument("--cameras", default="2,4,8")
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    folders = sorted(path for path in args.clips.iterdir() if path.is_dir())
    cores = len(os.sched_getaffinity(0))
    for count in map(int, args.cameras.split(",")):
        chosen = folders[:count]
        one, many = [], []
        for _ in range(args.rounds):
            one.append(measure(args.detector, [chosen], args.frames, args.skip, cores))
            many.append(measure(args.detector, [[folder] for folder in chosen], args.frames, args.skip, 1))
        for name, found in (("one process", one), (f"{count} processes", many)):
            speed = " / ".join(f"{value[0]:.1f}" for value in found)
            print(
                f"{count} cameras, {name}: {speed} frames/s, {found[0][1]:.0f} MB, {found[0][2]:.0%} skipped",
                flush=True,
            )


if __name__ == "__main__":
    with one_message():
        main()
