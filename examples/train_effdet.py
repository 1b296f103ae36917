"""Train an effdet network on a COCO-format set with effdet's own bench, loss, loader and evaluator.

    python examples/train_effdet.py tf_efficientdet_lite0 --data DATA/plates --backbone lite0.pth \\
        --image-size 256 --epochs 16 --out runs/lite0_256.safetensors
    python examples/train_effdet.py tf_efficientdet_lite0 --data DATA/plates \\
        --init runs/lite0_256.safetensors --image-size 512 --epochs 4 --lr 4e-4 --out runs/512.safetensors

DATA holds `annotations/instances_{train,val}.json` and `images/{train,val}/`; category ids must be 1..N, as
effdet wants them. Weights are written after every epoch; the same command goes on where a stopped run ended.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from effdet import create_evaluator, create_model
from effdet.anchors import AnchorLabeler, Anchors
from effdet.data import create_loader
from effdet.data.dataset import DetectionDatset
from effdet.data.input_config import resolve_input_config
from effdet.data.parsers import CocoParserCfg, create_parser
from effdet.data.transforms import (
    Compose,
    ImageToNumpy,
    RandomFlip,
    RandomResizePad,
    ResizePad,
    resolve_fill_color,
)
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from dualres_plugin.common.files.atomic import atomic_write


def coco_dataset(data: Path, split: str) -> DetectionDatset:
    """effdet's dataset over `annotations/instances_<split>.json` and `images/<split>`."""
    annotations = data / "annotations" / f"instances_{split}.json"
    parser = create_parser("coco", cfg=CocoParserCfg(ann_filename=str(annotations)))
    return DetectionDatset(data_dir=data / "images" / split, parser=parser)


def make_loader(
    dataset: DetectionDatset, config: Any, batch: int, train: bool = False, zoom: tuple[float, float] = (1, 1)
) -> Any:
    """effdet's loader without its CUDA prefetcher, whose absence means transforms of our own choice."""
    size, fill = tuple(config.image_size), resolve_fill_color("mean", _input(config)["mean"])
    steps: list[Any] = [ResizePad(size, fill_color=fill)]
    if train:  # effdet's default zoom, 0.1 to 2, is for runs of hundreds of epochs
        steps = [RandomFlip(horizontal=True, prob=0.5), RandomResizePad(size, scale=zoom, fill_color=fill)]
    labeler = AnchorLabeler(Anchors.from_config(config), config.num_classes) if train else None
    return create_loader(
        dataset,
        input_size=(3, *size),
        batch_size=batch,
        is_training=train,
        use_prefetcher=False,
        num_workers=0,
        transform_fn=Compose([*steps, ImageToNumpy()]),
        anchor_labeler=labeler,
    )


def _input(config: Any) -> dict[str, Any]:
    settings: dict[str, Any] = resolve_input_config({}, config)
    return settings


def batches(loader: Any, config: Any, device: str) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """The loader's bytes, normalised, which the prefetcher would have done."""
    mean, std = (torch.tensor(_input(config)[k]).view(1, 3, 1, 1).to(device) * 255 for k in ("mean", "std"))
    for images, target in loader:
        yield (images.to(device).float() - mean) / std, {k: v.to(device) for k, v in target.items()}


def load_backbone(model: nn.Module, path: Path) -> None:
    """ImageNet weights in timm's names; the classifier is not used."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    missing, _ = model.backbone.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    if missing:
        raise SystemExit(f"{path} lacks {len(missing)} tensors of the backbone, such as {missing[0]}")


def freeze(model: nn.Module, stages: int) -> None:
    """Leave the stem and the first stages of the backbone as they are: edges look alike in every data set."""
    names = ("conv_stem", "bn1", *(f"blocks.{i}." for i in range(stages))) if stages else ()
    for name, parameter in model.backbone.named_parameters():
        parameter.requires_grad = not name.startswith(names)


def train(args: argparse.Namespace) -> nn.Module:
    dataset = coco_dataset(args.data, args.train_split)
    classes = dataset.parser.max_label
    bench = create_model(
        args.model,
        bench_task="train",
        num_classes=classes,
        image_size=(args.image_size, args.image_size),
        pretrained_backbone=False,
    ).to(args.device)
    model, config = bench.model, bench.config
    bench.loss_fn.box_loss_weight = args.box_loss_weight
    if args.init:
        model.load_state_dict(load_file(args.init))
    elif args.backbone:
        load_backbone(model, args.backbone)
    model.to(memory_format=torch.channels_last)  # a third faster on CPUs
    freeze(model, args.freeze)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.05  # the default, .01, is for long runs: statistics would lag behind here
    loader = make_loader(dataset, config, args.batch, True, (args.min_zoom, args.max_zoom))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=args.lr, weight_decay=1e-4)
    total, warmup = args.epochs * len(loader), min(len(loader), 100)

    def rate(step: int) -> float:
        """Linear warm-up, then a cosine down to 1 %."""
        return min(1.0, (step + 1) / warmup) * (0.505 + 0.495 * math.cos(math.pi * min(1.0, step / total)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    state_file = args.out.with_suffix(".state.pt")
    start = resume(state_file, bench, optimizer, schedule) if state_file.is_file() else 0
    for epoch in range(start, args.epochs):
        bench.train()
        began, losses = time.time(), []
        bar = tqdm(batches(loader, config, args.device), f"epoch {epoch + 1}/{args.epochs}", len(loader), leave=False)
        for i, (images, target) in enumerate(bar):
            output = bench(images.contiguous(memory_format=torch.channels_last), target)
            optimizer.zero_grad()
            output["loss"].backward()
            torch.nn.utils.clip_grad_norm_(trained, 10.0)
            optimizer.step()
            schedule.step()
            losses.append([float(output[k].detach()) for k in ("loss", "class_loss", "box_loss")])
            if args.max_steps and i + 1 >= args.max_steps:
                break
        mean = torch.tensor(losses).mean(dim=0).tolist()
        row = dict(zip(("loss", "class", "box"), mean), epoch=epoch + 1, seconds=time.time() - began)
        print(json.dumps({k: round(v, 5) for k, v in row.items()}), flush=True)
        about = {"name": args.model, "num_classes": str(classes), "image_size": str(args.image_size)}
        save(args.out, model, about)
        with atomic_write(state_file) as temporary:
            parts = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
            torch.save({"epoch": epoch + 1, "model": model.state_dict(), **parts}, temporary)
    return bench


def save(path: Path, model: nn.Module, metadata: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        save_file(
            {k: v.clone(memory_format=torch.contiguous_format) for k, v in model.state_dict().items()},
            temporary,
            metadata,
        )


def resume(path: Path, bench: nn.Module, optimizer: Any, schedule: Any) -> int:
    state = torch.load(path, map_location="cpu", weights_only=True)
    bench.model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    print(f"going on after epoch {state['epoch']}", flush=True)
    return int(state["epoch"])


@torch.no_grad()
def validate(bench: nn.Module, args: argparse.Namespace) -> float:
    """AP on the validation split by effdet's evaluator."""
    dataset = coco_dataset(args.data, args.val_split)
    evaluator = create_evaluator("coco", dataset)
    predictor = create_predictor(bench)
    loader = make_loader(dataset, bench.config, args.batch)
    for images, target in batches(loader, bench.config, args.device):
        evaluator.add_predictions(predictor(images, img_info=target), target)
    return float(evaluator.evaluate())


def create_predictor(bench: nn.Module) -> nn.Module:
    from effdet import DetBenchPredict

    predictor = DetBenchPredict(bench.model).to(next(bench.parameters()).device).eval()
    candidates = len(predictor.anchors.boxes) * predictor.num_classes
    predictor.max_detection_points = min(predictor.max_detection_points, candidates)  # 5000 are too many at 128 px
    return predictor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", help="an effdet name, such as tf_efficientdet_lite0")
    parser.add_argument("--data", type=Path, required=True, help="folder of a COCO-format set")
    parser.add_argument("--out", type=Path, required=True, help="the trained weights (.safetensors)")
    parser.add_argument("--backbone", type=Path, help="ImageNet weights of the backbone, timm's names")
    parser.add_argument("--init", type=Path, help="weights of this script to start from")
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--val-split", default="val")
    parser.add_argument("--image-size", type=int, default=512, help="a multiple of 128")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--freeze", type=int, default=0, metavar="STAGES", help="of the backbone, from the stem up")
    parser.add_argument("--min-zoom", type=float, default=0.6)
    parser.add_argument("--max-zoom", type=float, default=1.6)
    parser.add_argument("--box-loss-weight", type=float, default=50.0, help="effdet's default is 50")
    parser.add_argument("--max-steps", type=int, default=0, help="per epoch, to try things out")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)  # effdet augments with it
    torch.manual_seed(args.seed)
    bench = train(args)
    print(f"AP on {args.val_split}: {validate(bench, args):.4f}; weights in {args.out}")


if __name__ == "__main__":
    main()
