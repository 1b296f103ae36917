"""Train a router that ships with the package: a small body of this project taught by a large one.

    dualres profile DETECTOR_A --data train.json --images train/ --views 4 --thumbnail 256 --out runs/a
    dualres profile DETECTOR_B --data train.json --images train/ --views 4 --thumbnail 256 --out runs/b
    dualres train runs/a runs/b --backbone detector:mmdet:yolox.py,yolox.pth --input-size 256 --out runs/teacher
    python scripts/train_shipped_router.py --teacher runs/teacher --profile runs/a --profile runs/b \\
        --photos train/ --photos more/ --out runs/default
    python scripts/train_shipped_router.py … --body narrow --size 80 --epochs 12 --out runs/small

A few hundred photos with gains are too few to learn to see from. So the body learns from a teacher, a router on a
detector's backbone that looks at larger thumbnails, to give the same feature maps, the same pooled features and the
same score, on thousands of random crops that need no labels. Then its head is fitted to the gains of the profiles,
like any other. The body starts from random numbers; no tensor of the teacher is in the result.

The more epochs, the more its scores on these photos are memory: `calibrate_shipped_router.py` makes shares hold on
other photos.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from dualres_plugin.common.images.decode import read_image
from dualres_plugin.common.images.sources import list_images
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.backbones import PooledStages
from dualres_plugin.router.config import RouterConfig
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train.config import TrainConfig
from dualres_plugin.train.train import train_router

POOL = [1, 2, 3, 4]  # one pooled block per stride: 4, 8, 16, 32
LONG_SIDE = 576  # photos are kept at most this large


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, help="folder of the teaching router")
    parser.add_argument("--profile", action="append", required=True, help="training profile; repeatable")
    parser.add_argument("--photos", action="append", required=True, help="folder of photos to crop; repeatable")
    parser.add_argument("--body", default="plain")
    parser.add_argument("--size", type=int, default=160, help="side of its thumbnails in pixels")
    parser.add_argument("--crops", type=int, default=10000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--summary", default="343 COCO train photos with the gains of YOLO11n and YOLOX-Nano at 640/320"
    )
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    photos = [path for folder in args.photos for path in list_images(folder)]
    lessons = Lessons(ResolutionRouter.from_pretrained(args.teacher), photos, args.crops, args.size, args.seed)
    router = ResolutionRouter(RouterConfig(args.body, args.size, POOL))
    learn(router, lessons, args.epochs, args.batch)
    router.eval().to(memory_format=torch.contiguous_format)
    settings = TrainConfig(backbone=args.body, input_size=args.size, pool=POOL, train_backbone=False, seed=args.seed)
    train_router([Profile.load(p) for p in args.profile], settings, router=router)
    router.info["summary"] = args.summary
    router.info["metrics"]["note"] = "optimistic: the teacher, and so the body, learned from the same photos"
    router.info["taught_by"] = {"crops": args.crops, "epochs": args.epochs, "photos": lessons.photos}
    router.save(args.out, half=True)
    print(f"router in {args.out}: {router.gmacs():.3f} GMACs, {sum(p.numel() for p in router.parameters())} parameters")


class Lessons:
    """Random crops with what the teacher sees in them, computed once.

    Attributes:
        thumbs: (n, 3, S, S) uint8, what the pupil looks at.
        maps: one (n, C, g, g) float16 per pooled stage of the teacher, standardised, on the pupil's grid.
        pooled: (n, D) standardised pooled features.
        score: (n,) standardised scores.
    """

    def __init__(self, teacher: ResolutionRouter, paths: Sequence[Path], crops: int, size: int, seed: int):
        rng = np.random.default_rng(seed)
        photos = [_photo(path) for path in paths]
        self.photos = len(photos)
        body = teacher.backbone
        assert isinstance(body, PooledStages)
        seen = _record(body)
        thumbs, maps, pooled, scores = [], [], [], []
        for start in tqdm(range(0, crops, 16), desc="crops"):
            x = torch.cat([_scene(photos, teacher.config.input_size, rng) for _ in range(min(16, crops - start))])
            seen.clear()
            with torch.no_grad():
                features = teacher.features(x)
                scores.append(teacher.head(features).squeeze(1))
            pooled.append(features)
            thumbs.append((_resized(x, size) * 255).round().byte())
            # Stages halve: /4, /8, … of the pupil's input, rounded up, whatever the teacher's is.
            sides = [-(-size // 2 ** (2 + i)) for i in range(len(seen))]
            maps.append([F.adaptive_avg_pool2d(m, side).half() for m, side in zip(seen, sides)])
        self.thumbs, self.pooled, self.score = torch.cat(thumbs), _standard(torch.cat(pooled)), torch.cat(scores)
        self.score = (self.score - self.score.mean()) / self.score.std()
        self.maps = [_standard_maps(torch.cat(stage)) for stage in zip(*maps)]

    def __len__(self) -> int:
        return len(self.thumbs)


def learn(router: ResolutionRouter, lessons: Lessons, epochs: int, batch: int) -> None:
    """Train the body until its maps, pooled features and score, linearly mapped, are the teacher's."""
    body = router.backbone
    assert isinstance(body, PooledStages)
    seen = _record(body)
    with torch.no_grad():
        width = router.eval().features(lessons.thumbs[:1].float()).shape[1]
    to_maps = nn.ModuleList(nn.Conv2d(m.shape[1], t.shape[1], 1) for m, t in zip(seen, lessons.maps))
    to_pooled, to_score = nn.Linear(width, lessons.pooled.shape[1]), nn.Linear(width, 1)
    parameters = [p for module in (body, to_maps, to_pooled, to_score) for p in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, 3e-3, weight_decay=0.02)
    steps = epochs * (len(lessons) // batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: _rate(s, steps))
    router.train().to(memory_format=torch.channels_last)  # twice as fast on a CPU
    bar = tqdm(range(steps), desc="learn")
    order = torch.empty(0, dtype=torch.long)
    for _ in bar:
        if len(order) < batch:
            order = torch.randperm(len(lessons))
        chosen, order = order[:batch], order[batch:]
        mirrored = bool(torch.rand(()) < 0.5)
        x = _light(lessons.thumbs[chosen].float() / 255).contiguous(memory_format=torch.channels_last)
        seen.clear()
        features = router.features(x.flip(3) if mirrored else x)
        loss = F.smooth_l1_loss(to_pooled(features), lessons.pooled[chosen])
        loss = loss + 0.5 * F.mse_loss(to_score(features).squeeze(1), lessons.score[chosen])
        for to_map, own, stage in zip(to_maps, seen, lessons.maps):
            wanted = stage[chosen].float()
            loss = loss + F.smooth_l1_loss(to_map(own), wanted.flip(3) if mirrored else wanted) / len(lessons.maps)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{float(loss.detach()):.3f}")


def _record(body: PooledStages) -> list[Tensor]:
    """The outputs of the pooled blocks, in order, after each forward."""
    seen: list[Tensor] = []
    for i in body.pool:
        body.blocks[i].register_forward_hook(lambda module, given, made: seen.append(made))
    return seen


def _photo(path: Path) -> Tensor:
    pixels = torch.from_numpy(np.ascontiguousarray(read_image(path))).permute(2, 0, 1)
    ratio = LONG_SIDE / max(pixels.shape[1:])
    if ratio >= 1:
        return pixels
    size = [max(1, round(side * ratio)) for side in pixels.shape[1:]]
    return F.interpolate(pixels[None].float(), size=size, mode="bilinear", antialias=True)[0].round().byte()


def _scene(photos: list[Tensor], size: int, rng: np.random.Generator) -> Tensor:
    """(1, 3, size, size) in [0, 1]: a crop, or now and then a mosaic of four."""
    if rng.random() < 0.15:
        four = [_crop(photos, size // 2, rng) for _ in range(4)]
        return torch.cat([torch.cat(four[:2], dim=3), torch.cat(four[2:], dim=3)], dim=2)
    return _crop(photos, size, rng)


def _crop(photos: list[Tensor], size: int, rng: np.random.Generator) -> Tensor:
    photo = photos[rng.integers(len(photos))]
    if rng.random() > 0.35:
        side = math.sqrt(rng.uniform(0.15, 1))
        h, w = (min(s, max(24, int(s * side * rng.uniform(0.8, 1.25)))) for s in photo.shape[1:])
        y, x = rng.integers(0, photo.shape[1] - h + 1), rng.integers(0, photo.shape[2] - w + 1)
        photo = photo[:, y : y + h, x : x + w]
    return _resized(photo[None].float() / 255, size)


def _resized(images: Tensor, size: int) -> Tensor:
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True).clamp(0, 1)


def _light(x: Tensor) -> Tensor:
    gain, shift = 1 + 0.2 * (2 * torch.rand(len(x), 1, 1, 1) - 1), 0.2 * (torch.rand(len(x), 1, 1, 1) - 0.5)
    return ((x - 0.5) * gain + 0.5 + shift).clamp(0, 1)


def _standard(features: Tensor) -> Tensor:
    return (features - features.mean(dim=0)) / (features.std(dim=0) + 1e-4)


def _standard_maps(maps: Tensor) -> Tensor:
    sample = maps[:512].float()
    mean, deviation = sample.mean(dim=(0, 2, 3), keepdim=True), sample.std(dim=(0, 2, 3), keepdim=True) + 1e-3
    return (maps - mean.half()) / deviation.half()


def _rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / (0.05 * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))


if __name__ == "__main__":
    main()
