"""Box distributions decoded by sums give what softmax and convolution give, and nothing else is touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from dualres_plugin.export.decoding import speed_up_distributions  # noqa: E402 - needs onnx
from dualres_plugin.export.graph import OPSET, as_weights, make_model  # noqa: E402

BINS = 16


class Decoder(nn.Module):
    """(1, 4 * bins, N) logits -> (1, 4, N) means, as heads with a distribution focal loss write it."""

    def __init__(self, axes: tuple[int, int] = (1, 2), flat: bool = True):
        super().__init__()
        self.mean = nn.Conv2d(BINS, 1, 1, bias=False)
        self.mean.weight.data[:] = torch.arange(float(BINS)).view(1, BINS, 1, 1)
        self.axes, self.flat = axes, flat

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        shape = (1, 4, BINS, -1) if self.axes == (1, 2) else (1, BINS, 4, -1)
        x = logits.view(shape)
        found: torch.Tensor = self.mean((x.transpose(1, 2) if self.axes == (1, 2) else x).softmax(1))
        return found.view(1, 4, -1) if self.flat else found


def _graph(module: nn.Module, folder: Any) -> Any:
    file = folder / "decoder.onnx"
    torch.onnx.export(
        module.eval(), (torch.zeros(1, 4 * BINS, 8),), str(file), dynamo=False, opset_version=OPSET,
        dynamic_axes={"logits": {2: "n"}}, input_names=["logits"], output_names=["found"],
    )  # fmt: skip
    graph = onnx.load(str(file)).graph
    as_weights(graph)
    return graph


def _run(graph: Any, logits: torch.Tensor) -> np.ndarray:
    model = make_model("decoder", graph.node, graph.initializer, graph.input, graph.output)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"logits": logits.numpy()})[0]
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("spread", [1.0, 10.0, 200.0], ids=["flat", "peaked", "exponentials overflow"])
@pytest.mark.parametrize("anchors", [1, 7, 2100])
def test_means_stay(spread: float, anchors: int, tmp_path: Any) -> None:
    logits = spread * torch.randn(1, 4 * BINS, anchors, generator=torch.Generator().manual_seed(0))
    decoder = Decoder()
    graph = _graph(decoder, tmp_path)
    before = _run(graph, logits)
    assert speed_up_distributions(graph) == 1
    assert not {"Softmax", "Conv"} & {node.op_type for node in graph.node}
    after = _run(graph, logits)
    np.testing.assert_allclose(after, before, atol=2e-5)
    np.testing.assert_allclose(after, decoder(logits).detach().numpy(), atol=2e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "module",
    [Decoder(axes=(2, 1)), Decoder(flat=False), nn.Sequential(nn.Conv1d(4 * BINS, 8, 1), nn.Softmax(1))],
    ids=["no transposition", "result is not flattened", "another softmax"],
)
def test_anything_else_is_left_alone(module: nn.Module, tmp_path: Any) -> None:
    graph = _graph(module, tmp_path)
    before = graph.SerializeToString()
    assert speed_up_distributions(graph) == 0
    assert graph.SerializeToString() == before
