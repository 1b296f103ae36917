"""Resident memory of one exported model in a process of its own: `python -m dualres_plugin.runtime.memory MODEL`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from dualres_plugin.runtime.engines import load_engine
from dualres_plugin.runtime.graphs import OrtGraph
from dualres_plugin.runtime.thumbnail import content_bytes, make_thumbnail

RUNS = 3


def resident() -> tuple[float, float]:
    """Resident memory of this process now, and at its highest, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux; the peak of `getrusage` would be that of the process that started this one
        values = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        now, peak = (int(values[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        return now, peak
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    used_mb = used / 2**20 if sys.platform == "darwin" else used / 1024
    return used_mb, used_mb


def main(model: str, kind: str, size: str, threads: str) -> None:
    """Load a model, run it at every size a few times, and print what it took as JSON.

    Args:
        model: the file, or folder of a pair.
        kind: "dualres" for an exported form, "plain" for a detector alone, "none" to load nothing.
        size: HEIGHTxWIDTH of the input in pixels.
        threads: of onnxruntime.
    """
    height, width = (int(side) for side in size.split("x"))
    images = np.random.default_rng(0).random((1, 3, height, width), dtype=np.float32)
    import onnxruntime  # noqa: F401 - the base that every model stands on

    base = resident()[0]
    if kind == "plain":
        graph = OrtGraph(Path(model), int(threads))
        for _ in range(2 * RUNS):
            graph({"images": images}, ["detections"])
    elif kind == "dualres":
        engine = load_engine(Path(model), "onnxruntime", int(threads), None)
        side = engine.card.thumbnail
        thumbnail = make_thumbnail(content_bytes(images, None), side) if side else None
        for _ in range(RUNS):
            for step in range(len(engine.card.sizes)):
                engine.run(images, None, engine.card.only(step), thumbnail)
    now, peak = resident()
    print(json.dumps({"base": base, "now": now, "peak": peak}))


if __name__ == "__main__":
    main(*sys.argv[1:5])
