"""Counting convolutions by their layout in onnxruntime's own optimised graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualres_plugin.common.errors import DualResError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from dualres_plugin.export.bench.layout import FAST, INSIDE, PLAIN, count_layouts, layout_table  # noqa: E402
from dualres_plugin.export.graph import Nodes, make_model  # noqa: E402 - needs onnx


def _conv(nodes: Nodes, image: str, out: str | None = None) -> str:
    kernel = nodes.const(np.ones((16, 16, 3, 3)), np.float32)
    return nodes.op("Conv", image, kernel, out=out, pads=[1, 1, 1, 1])


def _model(path: Path) -> Path:
    """Two convolutions outside an `If`, one in each branch; all weights outside."""
    nodes = Nodes("main")
    h, t = nodes.onnx.helper, nodes.onnx.TensorProto
    shared = _conv(nodes, _conv(nodes, "images"))
    branches: list[Any] = []
    for name in ("a", "b"):
        branch = Nodes(name)
        out = branch.op("Relu" if name == "a" else "Neg", _conv(branch, shared), out=f"{name}/out")
        nodes.weights += branch.weights
        output = h.make_tensor_value_info(out, t.FLOAT, [None] * 4)
        branches.append(h.make_graph(branch.nodes, name, [], [output]))
    nodes.op("If", "route", then_branch=branches[0], else_branch=branches[1], out="y")
    inputs = [
        h.make_tensor_value_info("images", t.FLOAT, [1, 16, 8, 8]),
        h.make_tensor_value_info("route", t.BOOL, []),
    ]
    outputs = [h.make_tensor_value_info("y", t.FLOAT, [1, 16, 8, 8])]
    onnx.save(make_model("m", nodes.nodes, nodes.weights, inputs, outputs), str(path))
    return path


def test_convolutions_are_counted_inside_and_outside_of_branches(tmp_path: Path) -> None:
    counts = count_layouts(_model(tmp_path / "m.onnx"))
    assert counts[FAST] + counts[PLAIN] == 2  # the layout itself depends on the processor
    assert counts[FAST + INSIDE] + counts[PLAIN + INSIDE] == 2


def test_weights_outside_keep_the_plain_layout_inside(tmp_path: Path) -> None:
    counts = count_layouts(_model(tmp_path / "m.onnx"))
    if not counts[FAST]:
        pytest.skip("onnxruntime has no blocked layout on this processor")
    assert counts[PLAIN + INSIDE] == 2


def test_a_folder_gives_a_row_for_every_graph(tmp_path: Path) -> None:
    _model(tmp_path / "one.onnx")
    _model(tmp_path / "two.onnx")
    assert len(layout_table([tmp_path]).splitlines()) == 3


def test_what_is_no_model_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(DualResError, match="cannot be loaded"):
        count_layouts(tmp_path / "bad.onnx")
    with pytest.raises(DualResError, match="no ONNX file"):
        layout_table([tmp_path / "missing"])
