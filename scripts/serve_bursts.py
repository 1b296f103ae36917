"""What `dualres serve --p95-ms` keeps: the same bursts of photos to a server with the promise, and to one without.

    python scripts/serve_bursts.py yolo11n_dualres.onnx photos/ --p95-ms 120 --rate 20 --size 6

Bursts of `--size` photos come at random times, `--rate` photos a second in all, each over a connection of its own.
The time of a photo is the client's: from the moment it is sent to its answer.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
from serve_load import Server

from dualres_plugin.budget.replay import arrivals
from dualres_plugin.common.errors import one_message
from dualres_plugin.common.images.sources import list_images


def main() -> None:
    """Print a row for each server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--p95-ms", type=float, required=True)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--size", type=int, default=6)
    parser.add_argument("--count", type=int, default=900)
    parser.add_argument("--options", default="", help="of dualres serve, such as '--threads 1'")
    args = parser.parse_args()
    photos = [file.read_bytes() for file in list_images(args.photos)[:100]]
    when = arrivals(f"bursts:{args.rate}:{args.size}", args.count, np.random.default_rng(0))
    print("| server | p50 ms | p95 ms | p99 ms | routes |\n|---|---|---|---|---|")
    for name, more in (("as exported", []), (f"--p95-ms {args.p95_ms:g}", ["--p95-ms", str(args.p95_ms)])):
        server = Server(args.model, [*args.options.split(), "--queue", "1000", *more])
        try:
            seconds, routes = play(server, photos, when)
        finally:
            server.stop()
        p50, p95, p99 = 1000 * np.quantile(seconds, (0.5, 0.95, 0.99))
        said = ", ".join(f"{route} {count / len(seconds):.0%}" for route, count in sorted(routes.items()))
        print(f"| {name} | {p50:.0f} | {p95:.0f} | {p99:.0f} | {said} |", flush=True)


def play(server: Server, photos: list[bytes], when: np.ndarray) -> tuple[list[float], Counter[str]]:
    """Send photos at their times; the seconds of each, and the routes that they took."""
    seconds: list[float] = []
    routes: Counter[str] = Counter()

    def ask(photo: bytes) -> None:
        began = time.perf_counter()
        status, body = server.ask("/predict", photo)
        seconds.append(time.perf_counter() - began)
        routes[json.loads(body)["route"] if status == 200 else str(status)] += 1

    threads = []
    started = time.perf_counter()
    for number, at in enumerate(when):
        time.sleep(max(0.0, started + at - time.perf_counter()))
        threads.append(threading.Thread(target=ask, args=(photos[number % len(photos)],)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return seconds, routes


if __name__ == "__main__":
    with one_message():
        main()
