"""Every format that is read: its valid file in the world, how it is damaged, and the commands that read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis.strategies import SearchStrategy

from tests.fuzz.strategies import card, images
from tests.fuzz.strategies.mutate import damaged_bytes, json_file, text_file


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        file: its path in the world.
        mutated: valid bytes -> odd ones.
        commands: command lines that read it, run in the world's folder.
    """

    file: str
    mutated: Callable[[bytes], SearchStrategy[bytes]]
    commands: tuple[str, ...]


PREDICT = "predict fake: photos --router router --out out"
PROFILE = "profile fake: --images photos --out out"
SWAP = "swap router --detector fake: --images photos --out out"
TRAIN = "train profile --config train.yaml --out out"
EVALUATE = "evaluate profile router --bootstrap 2 --permutations 2 --out out"

FORMATS = {
    "router-json": Format("router/router.json", json_file, (PREDICT, SWAP)),
    "router-weights": Format("router/router.safetensors", damaged_bytes, (PREDICT,)),
    "profile-json": Format("profile/profile.json", json_file, (TRAIN, EVALUATE)),
    "profile-table": Format("profile/profile.parquet", damaged_bytes, (TRAIN, EVALUATE)),
    "settings": Format("train.yaml", text_file, (TRAIN,)),
    "coco": Format("coco.json", json_file, (f"{PROFILE} --data coco.json", f"{PREDICT} --ids coco.json")),
    "data-yaml": Format("data.yaml", text_file, ("profile fake: --data data.yaml --out out",)),
    "labels": Format("yolo/labels/0.txt", text_file, ("profile fake: --data data.yaml --out out",)),
    "list": Format("list.txt", text_file, ("predict fake: list.txt --router router --out out",)),
    "points": Format(
        "points.csv",
        text_file,
        ("auc points.csv --by method --plot out/a.png", "pareto --families YOLO11 --curve points.csv --out out"),
    ),
    "image-jpg": Format("photos/3.jpg", images.mutated, (PREDICT, PROFILE)),
    "image-png": Format("photos/0.png", images.mutated, (PREDICT, PROFILE, "predict cond.onnx photos --out out")),
    "card": Format("cond.onnx", card.mutated, ("predict cond.onnx photos --out out", "layout cond.onnx")),
    "manifest": Format("pair/manifest.json", json_file, ("predict pair photos --out out",)),
    "pair-router": Format("pair/router.onnx", damaged_bytes, ("predict pair photos --out out",)),
}  # fmt: skip

# A valid command line of every command; odd options are added to it.
COMMANDS = {
    "profile": PROFILE,
    "train": TRAIN,
    "evaluate": EVALUATE,
    "swap": SWAP,
    "predict": PREDICT,
    "export": "export fake: --router router --out out/x.onnx",
    "bench": "bench fake: --router router --out out --count 1 --forms cond",
    "layout": "layout cond.onnx",
    "auc": "auc points.csv --by method",
    "tables": "tables",
    "pareto": "pareto --families YOLO11 --out out",
}
