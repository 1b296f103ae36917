"""AP of a torchvision detector in an evaluation loop of one's own, plain or routed.

    python examples/torchvision_evaluate.py fasterrcnn_mobilenet_v3_large_320_fpn --weights frcnn.pth \\
        --annotations val.json --images val/                       # the plain detector
    ... --router runs/router --target-high-rate 0.3                # routed: one line of the loop's setup differs

Labels of the detector are the category ids of the annotations, as with torchvision's COCO weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.io import ImageReadMode, decode_image
from torchvision.models import get_model
from tqdm.auto import tqdm

from dualres_plugin import DualResWrapper
from dualres_plugin.common.errors import one_message


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a name of torchvision.models.detection")
    parser.add_argument("--weights", help="state dict; torchvision's own COCO weights are downloaded by default")
    parser.add_argument("--num-classes", type=int, default=91, help="background included")
    parser.add_argument("--annotations", type=Path, required=True, help="COCO JSON")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--router", help="folder of a router, or: default")
    parser.add_argument("--target-high-rate", type=float, default=0.5)
    args = parser.parse_args()

    detector = build(args.model, args.weights, args.num_classes)
    if args.router:
        detector = DualResWrapper(detector, args.router, low=0.5, target_high_rate=args.target_high_rate).host
    coco = COCO(str(args.annotations))
    found, high = [], 0
    with torch.no_grad():
        for image in tqdm(coco.loadImgs(coco.getImgIds()), "evaluate"):
            pixels = decode_image(str(args.images / image["file_name"]), ImageReadMode.RGB).float() / 255
            (result,) = detector([pixels])
            high += args.router is None or result.dualres.route == "high"
            found += rows(image["id"], result)
    print(f"AP {summarise(coco, found):.3f}, {high} of {len(coco.getImgIds())} images at high")


def build(name: str, weights: str | None, num_classes: int) -> Any:
    if weights is None:
        return get_model(name, weights="DEFAULT").eval()
    model = get_model(name, weights=None, weights_backbone=None, num_classes=num_classes)
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return model.eval()


def rows(image_id: int, result: dict[str, Any]) -> list[dict[str, Any]]:
    """COCO results of one image: xywh boxes."""
    boxes = result["boxes"].clone()
    boxes[:, 2:] -= boxes[:, :2]
    parts = zip(boxes.tolist(), result["scores"].tolist(), result["labels"].tolist())
    return [{"image_id": image_id, "bbox": b, "score": s, "category_id": c} for b, s, c in parts]


def summarise(coco: Any, found: list[dict[str, Any]]) -> float:
    if not found:
        return 0.0
    evaluator = COCOeval(coco, coco.loadRes(found), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    return float(evaluator.stats[0])


if __name__ == "__main__":
    with one_message():
        main()
