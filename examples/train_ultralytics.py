"""Train an Ultralytics detector from a COCO-format set, e.g. the `yolov6n.pt` of the README.

    python examples/train_ultralytics.py yolov6n.yaml --data DATA/plates --out runs/yolov6n.pt

Ultralytics ships `yolov6n.yaml` but no `yolov6n.pt`: that file is always one that you trained.
DATA holds `annotations/instances_{train,val}.json` and `images/{train,val}/`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

os.environ.setdefault("YOLO_AUTOINSTALL", "0")


def coco_to_yolo(data: Path, out: Path, splits: dict[str, str]) -> Path:
    """Write the label files and `data.yaml` that Ultralytics reads; images are linked, not copied."""
    import yaml

    names: dict[int, str] = {}
    for split, json_split in splits.items():
        coco = json.loads((data / "annotations" / f"instances_{json_split}.json").read_text())
        classes = {c["id"]: i for i, c in enumerate(sorted(coco["categories"], key=lambda c: c["id"]))}
        names = {classes[c["id"]]: c["name"] for c in coco["categories"]}
        boxes: dict[int, list[str]] = {}
        images = {i["id"]: i for i in coco["images"]}
        for a in coco["annotations"]:
            if a.get("iscrowd"):
                continue
            im = images[a["image_id"]]
            x, y, w, h = a["bbox"]
            if w <= 0 or h <= 0:
                continue
            row = ((x + w / 2) / im["width"], (y + h / 2) / im["height"], w / im["width"], h / im["height"])
            line = f"{classes[a['category_id']]} " + " ".join(f"{min(max(v, 0), 1):.6f}" for v in row)
            boxes.setdefault(a["image_id"], []).append(line)
        for kind in ("images", "labels"):
            (out / kind / split).mkdir(parents=True, exist_ok=True)
        for image_id, im in images.items():
            link = out / "images" / split / im["file_name"]
            if not link.exists():
                link.symlink_to((data / "images" / json_split / im["file_name"]).resolve())
            label = out / "labels" / split / (Path(im["file_name"]).stem + ".txt")
            label.write_text("\n".join(boxes.get(image_id, [])))
    yaml_path = out / "data.yaml"
    yaml_path.write_text(
        yaml.safe_dump({"path": str(out.resolve()), "train": "images/train", "val": "images/val", "names": names})
    )
    return yaml_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="an Ultralytics .yaml (from scratch) or .pt (fine-tune)")
    parser.add_argument("--data", type=Path, required=True, help="folder of a COCO-format set")
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--val-split", default="val")
    parser.add_argument("--out", type=Path, required=True, help="where the trained .pt goes")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    from ultralytics import YOLO

    work = args.out.with_suffix("")
    data_yaml = coco_to_yolo(args.data, work / "data", {"train": args.train_split, "val": args.val_split})
    yolo = YOLO(args.model)
    yolo.train(
        data=str(data_yaml),
        epochs=args.epochs,
        imgsz=args.imgsz,
        batch=args.batch,
        device=args.device,
        project=str(work.resolve()),
        name="train",
        exist_ok=True,
        seed=0,
        workers=1,
        cache="ram",
        plots=False,
        val=False,  # the last epoch is taken: choosing the best one by `val` would spoil it for evaluation
    )
    shutil.copy(work / "train" / "weights" / "last.pt", args.out)
    print(f"trained detector: {args.out}")


if __name__ == "__main__":
    main()
