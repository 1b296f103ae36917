"""Writing an exported model: a file with its card, or the folder of a pair."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from dualres_plugin.common.card import KEY, Card
from dualres_plugin.common.files.atomic import atomic_dir, atomic_write, make_dir
from dualres_plugin.export.graph import require_onnx
from dualres_plugin.runtime.engines import MANIFEST, sha256_of

WEIGHTS = "weights.bin"  # of a pair: read by both sizes
INSIDE = 1024  # bytes; smaller weights, and constants that shape inference reads, stay in the graph


def save_pair(models: dict[str, Any], folder: Path) -> None:
    """Write the three graphs of a pair; equal weights lie once in a file that all of them read.

    Args:
        models: name -> ModelProto, changed on the way.
        folder: made where it does not exist.
    """
    onnx = require_onnx()
    make_dir(folder)
    offsets: dict[bytes, int] = {}
    blob = bytearray()
    for name, model in models.items():
        inputs = {i.name for i in model.graph.input}
        for weight in model.graph.initializer:
            raw = onnx.numpy_helper.to_array(weight).tobytes()
            if len(raw) < INSIDE or weight.name in inputs:
                continue
            if raw not in offsets:
                blob += b"\0" * (-len(blob) % 64)  # aligned, so that runtimes can map it
                offsets[raw] = len(blob)
                blob += raw
            _point_outside(weight, raw, offsets[raw])
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    (folder / WEIGHTS).write_bytes(bytes(blob))
    for name in models:
        onnx.checker.check_model(str(folder / f"{name}.onnx"))


def _point_outside(weight: Any, raw: bytes, offset: int) -> None:
    """Replace a weight's values by their place in the common file."""
    weight.ClearField("float_data")
    weight.ClearField("int64_data")
    weight.raw_data = raw
    require_onnx().external_data_helper.set_external_data(weight, WEIGHTS, offset, len(raw))
    weight.ClearField("raw_data")


def write_card(made: Path, card: Card) -> None:
    """Put a model's metadata into its file, or beside the graphs of a pair.

    Args:
        made: the file or folder; an earlier card is replaced.
        card: the metadata.
    """
    if made.is_dir():
        graphs = sorted(file for file in made.iterdir() if file.name != MANIFEST)
        card = replace(card, checksums={file.name: sha256_of(file) for file in graphs})
        (made / MANIFEST).write_text(card.to_json() + "\n", encoding="utf-8")
        return
    onnx = require_onnx()
    model = onnx.load(str(made))
    onnx.helper.set_model_props(model, {KEY: card.to_json()})
    onnx.save(model, str(made))


def save_model(model: Any, path: Path) -> Path:
    """Write one graph, whole or not at all.

    Args:
        model: a ModelProto.
        path: of the file.

    Returns:
        The file.
    """
    with atomic_write(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return path


def put(made: Path, out: Path) -> None:
    """Copy a finished model to where it is wanted, whole or not at all.

    Args:
        made: the file, or folder of a pair.
        out: the same in its place.
    """
    if made.is_dir():
        with atomic_dir(out) as temporary:
            for file in made.iterdir():
                (temporary / file.name).write_bytes(file.read_bytes())
        return
    with atomic_write(out) as temporary:
        temporary.write_bytes(made.read_bytes())
