"""Validate an effdet network as effdet's own `validate.py` does (which its wheel lacks), with or without routing.

    python examples/effdet_validate.py tf_efficientdet_lite0 --checkpoint lite0.safetensors --image-size 512 \\
        --annotations DATA/annotations/instances_val.json --images DATA/images/val
    ... --dualres runs/router --target-high-rate 0.5             # routed between 512 and 256
    ... --dualres runs/router --low-checkpoint lite0_256.safetensors --low-image-size 256      # a pair

The loop is effdet's: its dataset, loader, bench call and evaluator. Routing replaces `bench`, nothing else.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from effdet import create_dataset, create_evaluator
from effdet.data import create_loader
from effdet.data.dataset import DetectionDatset
from effdet.data.input_config import resolve_input_config
from effdet.data.parsers import CocoParserCfg, create_parser
from effdet.data.transforms import Compose, ImageToNumpy, ResizePad, resolve_fill_color

from dualres_plugin import DualResWrapper
from dualres_plugin.common.errors import DualResError, one_message
from dualres_plugin.hosts.registry import load_detector


def make_dataset(args: argparse.Namespace) -> Any:
    """COCO's own folder layout (`--root`), or any annotations and image folder."""
    if args.root:
        return create_dataset("coco2017", args.root, splits="val")
    if not (args.annotations and args.images):
        raise DualResError("give --root (COCO's folder layout), or --annotations and --images.")
    for path in (args.annotations, args.images):
        if not path.exists():
            raise DualResError(f"'{path}' does not exist.")
    parser = create_parser("coco", cfg=CocoParserCfg(ann_filename=str(args.annotations)))
    return DetectionDatset(data_dir=args.images, parser=parser)


def make_bench(args: argparse.Namespace) -> Any:
    """effdet's predict bench, or the routed stand-in for it."""
    detector = load_detector(spec(args.model, args.checkpoint, args.num_classes, args.image_size)).to(args.device)
    if not args.dualres:
        return detector.detector
    low_detector = None
    if args.low_checkpoint:
        low_model = args.low_model or args.model
        low_spec = spec(low_model, args.low_checkpoint, args.num_classes, args.low_image_size)
        low_detector = load_detector(low_spec).to(args.device).detector
    model = DualResWrapper(
        detector.detector,
        args.dualres,
        low=args.low,
        target_high_rate=args.target_high_rate,
        threshold=args.threshold,
        low_detector=low_detector,
    )
    return model.host, model


def spec(name: str, checkpoint: Path, num_classes: int | None, image_size: int | None) -> str:
    options = {"checkpoint": checkpoint, "num_classes": num_classes, "image_size": image_size}
    return ",".join([f"effdet:{name}", *(f"{k}={v}" for k, v in options.items() if v is not None)])


@torch.no_grad()
def validate(args: argparse.Namespace) -> float:
    bench = make_bench(args)
    bench, routed = bench if isinstance(bench, tuple) else (bench, None)
    settings = resolve_input_config({}, bench.config)
    dataset = make_dataset(args)
    # Without the CUDA prefetcher effdet's loader wants a transform of ours and leaves normalising to us.
    pad = ResizePad(tuple(bench.config.image_size), fill_color=resolve_fill_color("mean", settings["mean"]))
    loader = create_loader(
        dataset,
        input_size=settings["input_size"],
        batch_size=args.batch,
        use_prefetcher=False,
        num_workers=args.workers,
        transform_fn=Compose([pad, ImageToNumpy()]),
    )
    mean, std = (torch.tensor(settings[k]).view(1, 3, 1, 1).to(args.device) * 255 for k in ("mean", "std"))
    evaluator = create_evaluator("coco", dataset)
    for images, target in loader:
        images = (images.to(args.device).float() - mean) / std
        target = {k: v.to(args.device) for k, v in target.items()}
        evaluator.add_predictions(bench(images, img_info=target), target)
    ap = float(evaluator.evaluate())
    print(f"AP {ap:.4f}")
    if routed is not None:
        print(f"{routed.log.images} images, {routed.log.high} at high ({routed.log.rate:.1%})")
    return ap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", help="an effdet name, such as tf_efficientdet_lite0")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--num-classes", type=int, help="read off the checkpoint by default")
    parser.add_argument("--image-size", type=int, help="the network's own by default")
    parser.add_argument("--root", type=Path, help="a folder laid out as COCO 2017")
    parser.add_argument("--annotations", type=Path, help="COCO annotations (.json)")
    parser.add_argument("--images", type=Path, help="image folder")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    routing = parser.add_argument_group("routing")
    routing.add_argument("--dualres", type=Path, metavar="ROUTER", help="folder of a router")
    routing.add_argument("--target-high-rate", type=float, default=0.5)
    routing.add_argument("--threshold", type=float, help="instead of a rate")
    routing.add_argument("--low", type=float, help="low size: a ratio, or pixels; half by default")
    routing.add_argument("--low-model", help="another network for the low size")
    routing.add_argument("--low-checkpoint", type=Path, help="its weights")
    routing.add_argument("--low-image-size", type=int)
    validate(parser.parse_args())


if __name__ == "__main__":
    with one_message():
        main()
