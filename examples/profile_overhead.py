"""What profiling costs over running the two detector passes alone: medians of interleaved runs, one process.

    python examples/profile_overhead.py yolo11n.pt --data val.json --images val/ --limit 64

"Alone" is `YOLO.predict` on the same files at the high and then at the low size, same batch size, as a user would run
it. Profiling adds losses, thumbnails and files, and saves reading each photo twice. It also imports torchvision, with
which the host's NMS is faster: the first line is Ultralytics alone, the others have it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from dualres_plugin.common.errors import one_message
from dualres_plugin.hosts.registry import load_detector
from dualres_plugin.profile.build import ProfileSettings, build_profile
from dualres_plugin.profile.data.dataset import load_dataset
from dualres_plugin.profile.data.records import Dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector")
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--limit", type=int, default=64, help="images")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()

    adapter = load_detector(args.detector)
    full = load_dataset(args.data, args.images)
    # One shape, so that both sides can fill their batches.
    common, _ = Counter(r.size for r in full.records).most_common(1)[0]
    records = [r for r in full.records if r.size == common][: args.limit]
    labelled = Dataset(full.name, records, full.categories)
    plain = Dataset(full.name, records, full.categories, labelled=False)
    settings = ProfileSettings(640, 0.5, batch=args.batch)
    paths = [str(r.path) for r in records]
    times: dict[str, list[float]] = {
        "passes alone": [],
        "passes alone, with torchvision": [],
        "profile, no losses": [],
        "profile": [],
    }
    for run in range(args.runs + 1):
        measured = {
            "passes alone": _timed(lambda: _plain_passes(adapter, paths, args.batch)),
            "passes alone, with torchvision": _timed(lambda: _passes(adapter, paths, args.batch)),
            "profile, no losses": _timed(lambda: _profile(adapter, plain, settings)),
            "profile": _timed(lambda: _profile(adapter, labelled, settings)),
        }
        if run:  # the first is warm-up
            for name, value in measured.items():
                times[name].append(value)
    print(f"{len(records)} images of {records[0].size[1]}x{records[0].size[0]}, batch {args.batch}, {args.runs} runs")
    for name, values in times.items():
        ratio = statistics.median(value / base for value, base in zip(values, times["passes alone"]))
        spread = f"({min(values):.2f} to {max(values):.2f})"
        print(f"{name:30s} {statistics.median(values):7.2f} s  {spread}  ratio {ratio:.3f}")


def _timed(action) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _plain_passes(adapter, paths: list[str], batch: int) -> None:
    """As in a process that imported Ultralytics alone."""
    hidden = sys.modules.pop("torchvision", None)
    try:
        _passes(adapter, paths, batch)
    finally:
        if hidden is not None:
            sys.modules["torchvision"] = hidden


def _passes(adapter, paths: list[str], batch: int) -> None:
    for size in (640, 320):
        for start in range(0, len(paths), batch):
            adapter.detector.predict(paths[start : start + batch], imgsz=size, conf=0.001, batch=batch, verbose=False)


def _profile(adapter, dataset: Dataset, settings: ProfileSettings) -> None:
    with tempfile.TemporaryDirectory() as folder:
        build_profile(adapter, dataset, Path(folder) / "profile", settings, progress=False)


if __name__ == "__main__":
    with one_message():
        main()
