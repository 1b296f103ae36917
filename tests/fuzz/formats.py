"""Every format that is read: its valid file in the world, how it is damaged, and the commands that read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis.strategies import SearchStrategy, one_of

from tests.fuzz.strategies import card, coco, images, points, profile, yolo_labels
from tests.fuzz.strategies.mutate import damaged_bytes, json_file, text_file

Mutated = Callable[[bytes], SearchStrategy[bytes]]


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        file: its path in the world.
        mutated: valid bytes -> odd ones.
        commands: command lines that read it, run in the world's folder.
    """

    file: str
    mutated: Mutated
    commands: tuple[str, ...]


PREDICT = "predict fake: photos --router router --out out"
PROFILE = "profile fake: --images photos --out out"
SWAP = "swap router --detector fake: --images photos --out out"
TRAIN = "train profile --config train.yaml --out out"
DATA_YAML = "profile fake: --data data.yaml --out out"
COCO = (f"{PROFILE} --data coco.json", f"{PREDICT} --ids coco.json")
EVALUATE = "evaluate profile router --bootstrap 2 --permutations 2 --out out"


def both(general: Mutated, own: Mutated) -> Mutated:
    """Damage of the general kind, and of the format's own."""
    return lambda data: one_of(general(data), own(data))


FORMATS = {
    "router-json": Format("router/router.json", json_file, (PREDICT, SWAP)),
    "router-weights": Format("router/router.safetensors", damaged_bytes, (PREDICT,)),
    "profile-json": Format("profile/profile.json", both(json_file, profile.mutated), (TRAIN, EVALUATE)),
    "profile-table": Format("profile/profile.parquet", both(damaged_bytes, profile.mutated_table), (TRAIN, EVALUATE)),
    "settings": Format("train.yaml", text_file, (TRAIN,)),
    "coco": Format("coco.json", both(json_file, coco.mutated), COCO),
    "data-yaml": Format("data.yaml", both(text_file, yolo_labels.mutated), (DATA_YAML,)),
    "labels": Format("yolo/labels/0.txt", both(text_file, yolo_labels.mutated), (DATA_YAML,)),
    "list": Format("list.txt", text_file, ("predict fake: list.txt --router router --out out",)),
    "points": Format(
        "points.csv",
        both(text_file, points.mutated),
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
