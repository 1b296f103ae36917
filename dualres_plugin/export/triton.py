"""A model repository for Triton Inference Server, made of a pair."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import atomic_dir
from dualres_plugin.export.graph import require_onnx
from dualres_plugin.runtime.engines import MANIFEST, ROUTER

MODEL = '''"""Needs the package in Triton's Python, without torch: docs/deployment.md says how."""

from dualres_plugin.runtime.triton import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''
OUTPUTS = """output [
  { name: "boxes" data_type: TYPE_FP32 dims: [ -1, 4 ] },
  { name: "scores" data_type: TYPE_FP32 dims: [ -1 ] },
  { name: "labels" data_type: TYPE_INT64 dims: [ -1 ] },
  { name: "route" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "score" data_type: TYPE_FP32 dims: [ 1 ] }
]
"""
TYPES = {"FLOAT": "TYPE_FP32", "INT64": "TYPE_INT64", "BOOL": "TYPE_BOOL"}


def check_name(out: Path) -> None:
    """Refuse what Triton would not take for a model's name, and a place that is taken.

    Args:
        out: REPOSITORY/NAME.

    Raises:
        DualResError: If the name holds other characters, or such a model is already there.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", out.name):
        raise DualResError(f"'{out}': give REPOSITORY/NAME; the name of a model is letters, digits, - and _.")
    if taken := [
        p.name for p in sorted(out.parent.glob(f"{out.name}*")) if p.name in (out.name, f"{out.name}_{ROUTER}")
    ]:
        raise DualResError(f"'{out.parent}' already holds {', '.join(taken)}: remove it, or give another name.")


def write_repository(pair: Path, out: Path) -> None:
    """Write the models NAME (Python backend), NAME_router, and NAME_high and NAME_low, or NAME_640, NAME_512, …

    Args:
        pair: folder of an exported pair.
        out: REPOSITORY/NAME; other models of the repository stay.
    """
    onnx = require_onnx()
    with atomic_dir(out.parent) as folder:
        for file in sorted(pair.glob("*.onnx")):
            model = onnx.load(str(file))  # with the weights that it shares: models of Triton share none
            if file.stem == ROUTER:
                _only_score(model)
            _write(folder / f"{out.name}_{file.stem}", _config(f"{out.name}_{file.stem}", model))
            onnx.save(model, str(folder / f"{out.name}_{file.stem}" / "1" / "model.onnx"))
        image = 'input [ { name: "image" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] } ]\n'
        _write(folder / out.name, f'name: "{out.name}"\nbackend: "python"\nmax_batch_size: 0\n{image}{OUTPUTS}')
        (folder / out.name / "1" / "model.py").write_text(MODEL, encoding="utf-8")
        (folder / out.name / "1" / MANIFEST).write_text((pair / MANIFEST).read_text(encoding="utf-8"), encoding="utf-8")


def _write(folder: Path, config: str) -> None:
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config, encoding="utf-8")


def _only_score(model: Any) -> None:
    """Leave `score` of the router's outputs, and make its inputs with defaults plain ones, which Triton knows alone."""
    graph, needed, nodes = model.graph, {"score"}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(node.input)
    inputs = [value for value in graph.input if value.name in needed]
    names = {value.name for value in inputs}
    weights = [weight for weight in graph.initializer if weight.name in needed - names]
    outputs = [value for value in graph.output if value.name == "score"]
    for field, kept in (("node", nodes[::-1]), ("input", inputs), ("initializer", weights), ("output", outputs)):
        graph.ClearField(field)
        getattr(graph, field).extend(kept)
    require_onnx().checker.check_model(model)


def _config(name: str, model: Any) -> str:
    lines = [f'name: "{name}"', 'backend: "onnxruntime"', "max_batch_size: 0"]
    for kind, values in (("input", model.graph.input), ("output", model.graph.output)):
        lines.append(f"{kind} [\n  " + ",\n  ".join(map(_tensor, values)) + "\n]")
    return "\n".join(lines) + "\n"


def _tensor(value: Any) -> str:
    tensor = value.type.tensor_type
    kind = TYPES[require_onnx().TensorProto.DataType.Name(tensor.elem_type)]
    dims = ", ".join(str(d.dim_value if d.HasField("dim_value") else -1) for d in tensor.shape.dim)
    return f'{{ name: "{value.name}" data_type: {kind} dims: [ {dims} ] }}'
