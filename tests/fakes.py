"""Small stand-ins: a host-free adapter, generated photos and labels, profiles made from numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor, nn

from dualres_plugin.common.files.atomic import write_json
from dualres_plugin.common.images.decode import read_image
from dualres_plugin.common.images.photo import router_images_of
from dualres_plugin.common.resize import resize_images
from dualres_plugin.common.types import Decision, Detections, RouterImages, Targets
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.probe import SHAPE as PROBE
from dualres_plugin.profile.schema import LADDER_VERSION, schema_of
from dualres_plugin.profile.table import FORMAT_VERSION, META, ROWS, Profile, row_of, to_table
from dualres_plugin.profile.views import View
from dualres_plugin.router.network import ResolutionRouter

CATEGORIES = {1: "square", 2: "disc"}


# -- photos ------------------------------------------------------


def photo(seed: int = 0, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A smooth random picture, (height, width, 3) RGB uint8."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
    return np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC)).copy()


def write_photos(folder: Path, count: int, sizes: Sequence[tuple[int, int]] = ((48, 64), (64, 48))) -> list[Path]:
    """`0.png`, `1.png`, … with sizes in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i in range(count):
        paths.append(folder / f"{i}.png")
        Image.fromarray(photo(i, sizes[i % len(sizes)])).save(paths[-1])
    return paths


def coco_dict(
    folder: Path,
    paths: Sequence[Path],
    boxes_each: int = 2,
    categories: dict[int, str] = CATEGORIES,
    seed: int = 0,
) -> dict[str, Any]:
    """COCO annotations with random boxes inside the pictures; image ids start at 1."""
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    for i, path in enumerate(paths, 1):
        w, h = Image.open(path).size
        images.append({"id": i, "file_name": path.name, "height": h, "width": w})
        for _ in range(boxes_each):
            bw, bh = (int(rng.integers(8, side // 2)) for side in (w, h))
            x, y = int(rng.integers(0, w - bw)), int(rng.integers(0, h - bh))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i,
                    "category_id": int(rng.choice(list(categories))),
                    "bbox": [x, y, bw, bh],
                    "area": bw * bh,
                    "iscrowd": 0,
                }
            )
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in categories.items()],
    }


def write_coco(
    folder: Path, count: int = 8, sizes: Sequence[tuple[int, int]] = ((48, 64), (64, 48)), **options: Any
) -> tuple[Path, Path]:
    """A labelled set on disk: (annotation file, image folder)."""
    paths = write_photos(folder / "images", count, sizes)
    file = folder / "annotations.json"
    file.write_text(json.dumps(coco_dict(folder / "images", paths, **options)))
    return file, folder / "images"


# -- a host ------------------------------------------------------


@dataclass(frozen=True)
class FakeBatch:
    images: Tensor
    sizes: list[tuple[int, int]]
    targets: list[Targets] | None = None
    low: bool = False


class FakeAdapter(HostAdapter[FakeBatch]):
    """A detector whose answer follows from the pixels alone. `on_pass` is called first and may raise."""

    name: ClassVar[str] = "fake"
    requires: ClassVar[tuple[str, ...]] = ()
    stride = 16
    default_size = 64

    def __init__(self, detector: nn.Module | None = None, low_detector: None = None):
        super().__init__(detector or nn.Conv2d(3, 1, 1), low_detector)
        self.class_names = dict(enumerate(CATEGORIES.values()))
        self.images_seen = 0
        self.on_pass: Callable[[FakeBatch], None] | None = None

    @classmethod
    def accepts(cls, detector: Any) -> bool:
        return False

    def router_images(self, batch: FakeBatch) -> RouterImages:
        whole = (0, 0, int(batch.images.shape[3]), int(batch.images.shape[2]))
        return RouterImages(batch.images, [whole] * len(batch.images))

    def select(self, batch: FakeBatch, index: Tensor) -> FakeBatch:
        chosen = index.tolist()
        return replace(
            batch,
            images=batch.images[index],
            sizes=[batch.sizes[i] for i in chosen],
            targets=[batch.targets[i] for i in chosen] if batch.targets else None,
        )

    def resize(self, batch: FakeBatch, index: Tensor, scale: float) -> FakeBatch:
        part = self.select(batch, index)
        size = self.low_shape((int(part.images.shape[2]), int(part.images.shape[3])), scale)
        return replace(part, images=resize_images(part.images, size), low=True)

    def collate(self, images: Sequence[np.ndarray], size: int, targets: Sequence[Targets] | None = None) -> FakeBatch:
        tensors = [torch.from_numpy(np.ascontiguousarray(im)).permute(2, 0, 1)[None].float() / 255 for im in images]
        square = torch.cat([resize_images(t, (size, size)) for t in tensors])
        return FakeBatch(square, [im.shape[:2] for im in images], list(targets) if targets is not None else None)

    def predict(self, batch: FakeBatch) -> Tensor:
        """(B, 2): mean and deviation of each picture."""
        if batch.sizes != [PROBE]:  # the photo that is run before all others is no one's
            if self.on_pass:
                self.on_pass(batch)
            self.images_seen += len(batch.images)
        if not len(batch.images):
            return torch.zeros(0, 2)
        return torch.stack([batch.images.mean(dim=(1, 2, 3)), batch.images.flatten(1).std(dim=1)], dim=1)

    def merge(self, parts: Sequence[tuple[Tensor, Tensor, FakeBatch]], batch: FakeBatch) -> Tensor:
        merged = torch.zeros(len(batch.images), 2)
        for index, raw, _ in parts:
            merged[index] = raw
        return merged

    def losses(self, batch: FakeBatch) -> Tensor:
        assert batch.targets is not None
        counts = torch.tensor([float(len(t)) for t in batch.targets])
        return counts + batch.images.mean(dim=(1, 2, 3))

    def detections(self, raw: Tensor, batch: FakeBatch) -> list[Detections]:
        found = []
        for (mean, deviation), (h, w) in zip(raw.tolist(), batch.sizes):
            boxes = [[0, 0, w * mean, h * mean], [w * deviation, h * deviation, w, h]]
            found.append(Detections.from_arrays(boxes, [mean, deviation], [0, 1]))
        return found

    def macs(self, shape: tuple[int, int], low: bool = False) -> float:
        return shape[0] * shape[1] / 1e4


def forced(high: Sequence[bool]) -> Callable[[RouterImages], Decision]:
    """A decision maker with given routes."""

    def decide(images: RouterImages) -> Decision:
        flags = torch.tensor(list(high)[: len(images.content)], dtype=torch.bool)
        return Decision.of_two(flags.float() - 0.5, flags, 0.0)

    return decide


def lively_router(
    pictures: Sequence[np.ndarray | Path], backbone: str = "tiny@4", input_size: int = 32
) -> ResolutionRouter:
    """A random router, calibrated on the pictures: half of them go high at a target rate of one half."""
    torch.manual_seed(0)
    router = ResolutionRouter(backbone=backbone, input_size=input_size).eval()
    with torch.no_grad():  # a random network scores every photo alike: spread the scores
        router.head[-1].weight.mul_(1000)
    images = [read_image(p) if isinstance(p, Path) else p for p in pictures]
    router.calibrate(router.score(router_images_of(images)))
    return router


# -- profiles from numbers ------------------------------------------------------


def make_profile(
    path: Path,
    rows: Sequence[dict[str, Any]],
    *,
    categories: dict[int, str] = CATEGORIES,
    labelled: bool = True,
    thumbnail_size: int = 16,
    gmacs: tuple[float, float] = (1.0, 4.0),
    **meta: Any,
) -> Profile:
    """Write and load a profile.

    Args:
        rows: per view, all optional: `image_id`, `view`, `truth` (a `View`), `high`, `low` (`Detections`),
            `losses` (low, high), `thumbnail` (3, S, S) uint8, `path`, `further` (see `row_of`).
        gmacs: (low, high).
        **meta: of `profile.json`, such as `between` and `host_sizes`.
    """
    table = to_table(
        [
            row_of(
                row.get("image_id", i + 1),
                row.get("view", 0),
                row.get("path", f"{i}.jpg"),
                row.get("size", (480, 640)),
                row.get("truth") or truth([]),
                (row.get("low", Detections.empty()), row.get("high", Detections.empty())),
                row.get("losses", (2.0, 1.0)) if labelled else (None, None),
                gmacs,
                row.get("thumbnail", np.full((3, thumbnail_size, thumbnail_size), 128, np.uint8)),
                row.get("further"),
            )
            for i, row in enumerate(rows)
        ],
        schema_of({"high": 640, "scale": 0.5, **meta}),
    )
    path.mkdir(parents=True, exist_ok=True)
    description = {
        "format_version": FORMAT_VERSION,
        "kind": "dualres-profile",
        "host": "fake",
        "detector": "fake",
        "dataset": "numbers",
        "labelled": labelled,
        "categories": {str(k): v for k, v in categories.items()},
        "high": 640,
        "scale": 0.5,
        "views": 1 + max(row.get("view", 0) for row in rows),
        "batch": 8,
        "seed": 0,
        "thumbnail_size": thumbnail_size,
        **meta,
    }
    write_json(path / META, description)
    pq.write_table(table, path / ROWS)
    return Profile.load(path)


def truth(
    objects: Sequence[tuple[float, float, float, float, int, bool]], areas: Sequence[float] | None = None
) -> View:
    """Ground truth from (x0, y0, x1, y1, category, crowd) rows; areas are the boxes' unless given."""
    boxes = np.array([o[:4] for o in objects], dtype=np.float32).reshape(-1, 4)
    own = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return View(
        np.zeros((1, 1, 3), np.uint8),
        boxes,
        np.array([o[4] for o in objects], dtype=np.int64),
        np.array([o[5] for o in objects], dtype=bool),
        own if areas is None else np.array(areas, dtype=np.float32),
    )


def planted_profile(path: Path, count: int = 80, seed: int = 0, views: int = 1, side: int = 16) -> Profile:
    """Images whose brightness is their gain: high finds every object, low fewer the brighter the picture.

    Each has ten objects in a row. Low finds the share `1 - brightness` of them, and its loss is larger by
    `2 · brightness - 1`, so dark pictures do better at low.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        for view in range(views):
            bright = float(rng.random())
            objects = [(60.0 * k, 10.0, 60.0 * k + 40, 60.0, 1, False) for k in range(10)]
            boxes = np.array([o[:4] for o in objects])
            found = round(10 * (1 - bright))
            pixels = np.clip(255 * bright + rng.normal(0, 8, (3, side, side)), 0, 255)
            rows.append(
                {
                    "image_id": i + 1,
                    "view": view,
                    "truth": truth(objects),
                    "high": Detections.from_arrays(boxes, np.full(10, 0.9), np.ones(10)),
                    "low": Detections.from_arrays(boxes[:found], np.full(found, 0.8), np.ones(found)),
                    "losses": (1.0 + 2 * bright - 1, 1.0),
                    "thumbnail": pixels.astype(np.uint8),
                }
            )
    return make_profile(path, rows, categories={1: "thing"}, thumbnail_size=side, seed=seed)


LADDER = {"s512": (0.6, 2.6), "s448": (0.8, 2.0)}  # name -> what is lost there of what is lost at low, GMACs


def planted_ladder(path: Path, count: int = 120, seed: int = 0, useful: bool = True, side: int = 16) -> Profile:
    """The same at four sizes; the host's own passes are ours, but find one object less at 448 px.

    Args:
        path: of the profile.
        count: images.
        seed: of everything random.
        useful: a bright picture gains from pixels; else all gain alike, and only the noise differs.
        side: of the thumbnails.
    """
    rng = np.random.default_rng(seed)
    objects = [(60.0 * k, 10.0, 60.0 * k + 40, 60.0, 1, False) for k in range(10)]
    boxes = np.array([o[:4] for o in objects])

    def found(lost: float) -> Detections:
        hits = 10 - min(10, int(lost * 10 + rng.random()))
        return Detections.from_arrays(boxes[:hits], rng.uniform(0.3, 0.9, hits), np.ones(hits))

    rows = []
    for i in range(count):
        bright = float(rng.random())
        lost = bright**2 if useful else 0.35
        steps = {name: (found(share * lost), cost) for name, (share, cost) in LADDER.items()}
        fewer = Detections(*(part[:-1] for part in vars(steps["s448"][0]).values()))
        rows.append(
            {
                "image_id": i + 1,
                "truth": truth(objects),
                "high": found(0.0),
                "low": found(lost),
                "further": {**steps, "host512": steps["s512"], "host448": (fewer, LADDER["s448"][1])},
                "thumbnail": np.clip(255 * bright + rng.normal(0, 8, (3, side, side)), 0, 255).astype(np.uint8),
            }
        )
    sizes: dict[str, Any] = {"format_version": LADDER_VERSION, "between": [512, 448], "host_sizes": [512, 448]}
    return make_profile(path, rows, categories={1: "thing"}, thumbnail_size=side, seed=seed, **sizes)


def brightness(profile: Profile) -> np.ndarray:
    """(n,) what a perfect router of `planted_profile` scores."""
    return profile.thumbnails().float().mean(dim=(1, 2, 3)).numpy()
