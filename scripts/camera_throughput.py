"""Frames per second of several cameras through one process, against a process for each.

    python scripts/camera_throughput.py yolo11n.pt runs/clips/val/images --cameras 2,4,8

Every camera plays another folder of frames, and every process has one thread. Loading counts nowhere: all processes
wait for one another before the first frame. The rounds alternate, so that a machine that slows down slows both;
processor time per frame says what the work is where others share the machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
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


def run(detector: str, folders: list[Path], frames: int, skip: int, ready: Barrier, out: Any) -> None:
    """One process: its cameras play, and what it took is told.

    Args:
        detector: as on the command line.
        folders: of the frames, one a camera.
        frames: of each.
        skip: as of the wrapper.
        ready: all processes wait here until every one has loaded.
        out: a queue for seconds, processor seconds, peak MB and the share that was skipped.
    """
    import torch

    from dualres_plugin import DualResWrapper
    from dualres_plugin.predict.cameras import Cameras

    torch.set_num_threads(1)
    wrapper = DualResWrapper(detector, ROUTER, memory=True, skip=skip, target_high_rate=RATE)
    cameras = Cameras.of(wrapper)
    sources = {folder.name: [read_image(p) for p in list_images(folder)[:frames]] for folder in folders}
    cameras.step({f"warm {name}": pixels[0] for name, pixels in sources.items()})
    ready.wait()
    begun, spent, routes = time.perf_counter(), time.process_time(), []
    for found in cameras.stream({name: iter(pixels) for name, pixels in sources.items()}):
        routes += [p.route.route for p in found.values()]
    took, spent = time.perf_counter() - begun, time.process_time() - spent
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    out.put((took, spent, memory, float(np.mean(np.array(routes) == "skip"))))


def measure(detector: str, groups: list[list[Path]], frames: int, skip: int) -> np.ndarray:
    """Frames per second of all together, processor ms per frame, memory in MB, and the share that was skipped."""
    context = multiprocessing.get_context("spawn")
    ready, out = context.Barrier(len(groups)), context.Queue()
    processes = [context.Process(target=run, args=(detector, group, frames, skip, ready, out)) for group in groups]
    for process in processes:
        process.start()
    told = [out.get() for _ in processes]
    for process in processes:
        process.join()
    seconds, spent, memory, skipped = (np.array(column) for column in zip(*told))
    count = frames * sum(map(len, groups))
    return np.array([count / seconds.max(), 1000 * spent.sum() / count, memory.sum(), skipped.mean()])


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
    for count in map(int, args.cameras.split(",")):
        chosen = folders[:count]
        ways = {"one process": [chosen], f"{count} processes": [[folder] for folder in chosen]}
        found: dict[str, list[np.ndarray]] = {name: [] for name in ways}
        for _ in range(args.rounds):
            for name, groups in ways.items():
                found[name].append(measure(args.detector, groups, args.frames, args.skip))
        for name, rounds in found.items():
            speed, spent = (" / ".join(f"{value[i]:.1f}" for value in rounds) for i in (0, 1))
            memory, skipped = rounds[0][2:]
            print(f"{count} cameras, {name}: {speed} frames/s, {spent} processor ms a frame, {memory:.0f} MB, "
                  f"{skipped:.0%} skipped", flush=True)  # fmt: skip


if __name__ == "__main__":
    with one_message():
        main()
