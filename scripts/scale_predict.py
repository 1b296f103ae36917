"""Memory and time per image of `dualres predict` over very many images, with the stand-in detector of scale.py.

    python scripts/scale_predict.py --work runs/scale --frames 10000 100000

Frames are 64 x 64 px pictures, 500 files that the list names again and again. The router is a tiny one at 32 px with
random weights, so that what is measured is this package. Each number of frames is a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import subprocess
import sys
import time
from pathlib import Path

from scale import _most_resident, stand_in

FILES = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--frames", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        _predict(args.work, args.frames[0])
        return
    print("| frames | seconds | ms per frame | most resident MB | of it after imports MB |", flush=True)
    print("|---|---|---|---|---|", flush=True)
    for frames in args.frames:
        command = [sys.executable, __file__, "--work", str(args.work), "--frames", str(frames), "--one"]
        subprocess.run(command, check=True)


def _predict(work: Path, frames: int) -> None:
    import numpy as np
    import torch
    from PIL import Image

    from dualres_plugin.predict.predictor import Predictor
    from dualres_plugin.predict.saving import Outputs, save_predictions
    from dualres_plugin.router.gate import Gate
    from dualres_plugin.router.network import ResolutionRouter

    folder = work / "frames"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    names = [folder / f"{i}.png" for i in range(FILES)]
    for name in names:
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(name)
    listed = work / f"{frames}.txt"
    listed.write_text("\n".join(str(names[i % FILES]) for i in range(frames)))
    torch.manual_seed(0)
    router = ResolutionRouter(backbone="tiny@4", input_size=32).eval()
    predictor = Predictor(stand_in(), Gate(router, 0.0), 64, 0.5, batch=8)
    before, start = _most_resident(), time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        done = save_predictions(predictor, str(listed), work / f"predict-{frames}", Outputs(drawings=False))
    seconds, most = time.perf_counter() - start, _most_resident()
    assert done.images == frames, done
    print(
        f"| {frames:,} | {seconds:.0f} | {1000 * seconds / frames:.2f} | {most:.0f} | {most - before:.0f} |", flush=True
    )


if __name__ == "__main__":
    main()
