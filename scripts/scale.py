"""Time per row and memory of profiling, merging, training and evaluating, as the number of images grows.

    python scripts/scale.py --photos photos/ --work runs/scale --rows 1000 10000 120000

The detector is a stand-in that costs nothing and answers with random boxes, so that what is measured is this package:
about 4 objects an image of 10 categories, and 5 detections a pass. Thumbnails are real: crops of the photos, some
mirrored, 2,000 of them; image i shows crop i modulo 2,000. Four shards are profiled one after the other, then merged.
Evaluating is curves, baselines and interval, without the report, which matches three more times by size of the objects.
Every step is a process of its own. Its time is the processor's, which other work hardly moves; its memory
is the most that was resident (VmHWM), and that above what the imports take. Needs about 170 kB of disk per row.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

SHARDS, CROPS, SIDE, CATEGORIES = 4, 2000, 160, 10
STAGES = [*(f"profile-{i}" for i in range(1, SHARDS + 1)), "merge", "train", "evaluate"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000, 100_000, 120_000])
    parser.add_argument("--bootstrap", type=int, default=10)
    parser.add_argument("--permutations", type=int, default=2)
    parser.add_argument("--random-scores", action="store_true", help="do not train; evaluate these instead")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        _stage(args.stage, args.work, args.rows[0], args.bootstrap, args.permutations, args.random_scores)
        return
    _write_crops(args.photos, args.work / "crops")
    print("| rows | step | processor seconds | ms per row | most resident MB | of it after imports MB |", flush=True)
    print("|---|---|---|---|---|---|", flush=True)
    for rows in args.rows:
        shutil.rmtree(args.work / "run", ignore_errors=True)
        for stage in (s for s in STAGES if s != "train" or not args.random_scores):
            command = [sys.executable, __file__, *sys.argv[1:], "--rows", str(rows), "--stage", stage]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            count = rows / SHARDS if stage.startswith("profile") else rows
            print(
                f"| {rows:,} | {stage} | {found['seconds']:.1f} | {1000 * found['seconds'] / count:.2f} | "
                f"{found['most']:.0f} | {found['most'] - found['imports']:.0f} |",
                flush=True,
            )


def _write_crops(photos: Path, out: Path) -> None:
    import numpy as np
    from PIL import Image

    out.mkdir(parents=True, exist_ok=True)
    files = sorted(p for p in photos.rglob("*") if p.suffix.lower() in (".jpg", ".png"))
    rng = np.random.default_rng(0)
    for i in range(CROPS):
        target = out / f"{i}.jpg"
        if not target.exists():
            photo = Image.open(files[i % len(files)]).convert("RGB")
            side = int(rng.uniform(0.5, 1) * min(photo.size))
            x, y = (int(rng.integers(0, full - side + 1)) for full in photo.size)
            crop = photo.crop((x, y, x + side, y + side)).resize((SIDE, SIDE))
            (crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else crop).save(target, quality=90)


def _stage(name: str, work: Path, rows: int, bootstrap: int, permutations: int, random_scores: bool) -> None:
    run = work / "run"
    jobs: dict[str, Callable[[], Any]] = {
        "merge": lambda: _merge(run),
        "train": lambda: _train(run),
        "evaluate": lambda: _evaluate(run, bootstrap, permutations, random_scores),
    }
    job = jobs.get(name) or _profile(work, run, rows, int(name.rpartition("-")[2]))
    _imports()
    before, start = _most_resident(), time.process_time()
    job()
    seconds = time.process_time() - start
    print(json.dumps({"seconds": seconds, "most": _most_resident(), "imports": before}))


def _most_resident() -> float:
    """MB, of this process since it began."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def _imports() -> None:
    import dualres_plugin.evaluate.evaluation
    import dualres_plugin.profile.build
    import dualres_plugin.train.train  # noqa: F401


def _profile(work: Path, run: Path, rows: int, number: int) -> Callable[[], Any]:
    from dualres_plugin.common.files.shard import Shard
    from dualres_plugin.profile.build import ProfileSettings, build_shard

    adapter, dataset = stand_in(), _dataset(work / "crops", rows)
    shard = Shard(number, SHARDS)
    settings = ProfileSettings(SIDE, 0.5, batch=8, thumbnail_size=SIDE)
    return lambda: build_shard(adapter, dataset, shard.folder(run / "p"), settings, shard, progress=False)


def _merge(run: Path) -> None:
    from dualres_plugin.profile.parts.merge import merge_shards

    shards = sorted(run.glob("p.*-of-*"))
    merge_shards(run / "p", shards)
    for shard in shards:
        shutil.rmtree(shard)


def _train(run: Path) -> None:
    from dualres_plugin.profile.table import Profile
    from dualres_plugin.train.train import train_router

    train_router(Profile.load(run / "p"), progress=False).save(run / "router")


def _evaluate(run: Path, bootstrap: int, permutations: int, random_scores: bool) -> None:
    from unittest import mock

    import numpy as np

    from dualres_plugin.evaluate import evaluation
    from dualres_plugin.profile.table import Profile
    from dualres_plugin.router.network import ResolutionRouter

    profile = Profile.load(run / "p")
    untrained = ResolutionRouter(backbone="tiny", input_size=32)
    router = untrained if random_scores else ResolutionRouter.from_pretrained(run / "router")
    drawn = np.random.default_rng(0).normal(size=len(profile.originals))
    score = mock.Mock(return_value=drawn) if random_scores else evaluation.score_profile
    with mock.patch.object(evaluation, "score_profile", score):
        evaluation.evaluate(profile, router, bootstrap=bootstrap, permutations=permutations)


def _dataset(crops: Path, rows: int) -> Any:
    import numpy as np

    from dualres_plugin.profile.data.records import Dataset, ImageRecord

    rng = np.random.default_rng(0)
    files = [crops / f"{i}.jpg" for i in range(CROPS)]
    records = []
    for i in range(rows):
        boxes = _boxes(rng, int(rng.integers(1, 8)))
        records.append(
            ImageRecord(
                i + 1,
                files[i % CROPS],
                (SIDE, SIDE),
                boxes,
                rng.integers(1, CATEGORIES + 1, len(boxes)),
                np.zeros(len(boxes), dtype=bool),
                np.prod(boxes[:, 2:] - boxes[:, :2], axis=1),
            )
        )
    return Dataset("scale", records, {i: f"class {i}" for i in range(1, CATEGORIES + 1)})


def _boxes(rng: Any, count: int) -> Any:
    import numpy as np

    corner, size = rng.uniform(0, 110, (count, 2)), rng.uniform(10, 50, (count, 2))
    return np.concatenate([corner, corner + size], axis=1).astype(np.float32)


def stand_in() -> Any:
    """An adapter of a detector that runs nothing: it finds most objects at high, fewer at low, and invents some."""
    import numpy as np
    import torch
    from torch import nn

    from dualres_plugin.common.types import Detections, RouterImages
    from dualres_plugin.hosts.contract import HostAdapter

    class StandIn(HostAdapter[dict[str, Any]]):
        name: ClassVar[str] = "stand-in"
        requires: ClassVar[tuple[str, ...]] = ()
        stride, default_size = 16, SIDE

        def __init__(self) -> None:
            super().__init__(nn.Conv2d(3, 1, 1), None)
            self.class_names = {i: f"class {i + 1}" for i in range(CATEGORIES)}

        @classmethod
        def accepts(cls, detector: Any) -> bool:
            return False

        def router_images(self, batch: dict[str, Any]) -> RouterImages:
            images = [torch.from_numpy(i).permute(2, 0, 1) / 255 for i in batch["images"]]
            return RouterImages(torch.stack(images), [(0, 0, i.shape[1], i.shape[0]) for i in batch["images"]])

        def select(self, batch: dict[str, Any], index: Any) -> dict[str, Any]:
            chosen = index.tolist()
            targets = batch["targets"] and [batch["targets"][i] for i in chosen]
            return {**batch, "images": [batch["images"][i] for i in chosen], "targets": targets}

        def resize(self, batch: dict[str, Any], index: Any, scale: float) -> dict[str, Any]:
            return {**self.select(batch, index), "low": True}

        def collate(self, images: Any, size: int, targets: Any = None) -> dict[str, Any]:
            return {"images": list(images), "targets": targets, "low": False}

        def predict(self, batch: dict[str, Any]) -> list[Any]:
            return [self._answer(batch, i) for i in range(len(batch["images"]))]

        def _answer(self, batch: dict[str, Any], i: int) -> Any:
            truth = batch["targets"][i] if batch["targets"] else None
            seed = int(truth.boxes.sum() * 100) if truth else int(batch["images"][i][::16, ::16].sum())
            rng = np.random.default_rng(2 * seed + batch["low"])
            invented = _boxes(rng, 3 if truth else 5)
            boxes, labels = invented, rng.integers(0, CATEGORIES, len(invented))
            if truth:
                found = rng.random(len(truth.boxes)) < (0.4 if batch["low"] else 0.8)
                shaken = truth.boxes[found] + rng.normal(0, 2, (int(found.sum()), 4)).astype(np.float32)
                boxes, labels = np.concatenate([shaken, boxes]), np.concatenate([truth.labels[found], labels])
            return Detections.from_arrays(boxes, rng.uniform(0.05, 0.95, len(boxes)), labels)

        def losses(self, batch: dict[str, Any]) -> Any:
            return torch.tensor([len(t.boxes) * (2.0 if batch["low"] else 1.0) for t in batch["targets"]])

        def detections(self, raw: Any, batch: dict[str, Any]) -> list[Detections]:
            return list(raw)

        def merge(self, parts: Any, batch: dict[str, Any]) -> list[Any]:
            merged: list[Any] = [None] * len(batch["images"])
            for index, raw, _ in parts:
                for place, found in zip(index.tolist(), raw):
                    merged[place] = found
            return merged

        def macs(self, shape: tuple[int, int], low: bool = False) -> float:
            return shape[0] * shape[1] / 1e4

    torch.manual_seed(0)
    return StandIn()


if __name__ == "__main__":
    main()
