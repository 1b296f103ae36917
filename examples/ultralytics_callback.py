"""Route a YOLO that belongs to other code: attach, predict as ever, detach.

    python examples/ultralytics_callback.py yolo11n.pt photos/ --router default --target-high-rate 0.3

`DualResWrapper(YOLO(...))` is the other way: it leaves the `YOLO` object alone and stands in for it.
"""

from __future__ import annotations

import argparse
from typing import Any

from ultralytics import YOLO

from dualres_plugin.adapters.ultralytics import attach, detach
from dualres_plugin.common.errors import one_message


def somebody_elses_code(yolo: Any, source: str, size: int) -> Any:
    """Knows nothing of routing."""
    return yolo.predict(source, imgsz=size, stream=True, verbose=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="an Ultralytics detector, such as yolo11n.pt")
    parser.add_argument("source", help="photos, a folder or a video")
    parser.add_argument("--router", default="default")
    parser.add_argument("--target-high-rate", type=float, default=0.5)
    parser.add_argument("--imgsz", type=int, default=640, help="the high size; low is half of it")
    args = parser.parse_args()

    yolo = YOLO(args.weights)
    attach(yolo, router=args.router, target_high_rate=args.target_high_rate)
    high = total = 0
    for result in somebody_elses_code(yolo, args.source, args.imgsz):
        route = result.dualres
        print(f"{result.path}: {route.route} (score {route.score:+.3f}), {len(result.boxes)} objects")
        high, total = high + (route.route == "high"), total + 1
    detach(yolo)
    print(f"{total} images, {high} at high")


if __name__ == "__main__":
    with one_message():
        main()
