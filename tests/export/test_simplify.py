"""The router's graph with fewer steps scores as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dualres_plugin.router.network import ResolutionRouter

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from dualres_plugin.export.graph import make_model  # noqa: E402 - needs onnx
from dualres_plugin.export.simplify import simplify_router, store_in_half  # noqa: E402
from dualres_plugin.export.trace import trace  # noqa: E402

SIDE = 64


def _router(**settings: Any) -> ResolutionRouter:
    torch.manual_seed(0)
    router = ResolutionRouter(input_size=SIDE, **settings).eval()
    for module in router.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return router


def _simplified(module: nn.Module) -> Any:
    graph = trace(module, (SIDE, SIDE), False, "the router")
    simplify_router(graph)
    return graph


def _kinds(graph: Any) -> list[str]:
    return [node.op_type for node in graph.node]


def _run(graph: Any, images: torch.Tensor) -> np.ndarray:
    model = make_model("router", graph.node, graph.initializer, graph.input, graph.output)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"images": images.numpy()})[0]
    return found


@pytest.mark.parametrize(
    ("settings", "gone"),
    [
        ({"backbone": "plain", "pool": [1, 2, 3, 4]}, {"Div", "ReduceMean"}),
        ({"backbone": "plain", "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}, {"Sub", "Div", "ReduceMean"}),
        ({"backbone": "tiny", "hidden": 8}, {"Div", "ReduceMean"}),
    ],
    ids=["four stages", "no normalisation", "one stage"],
)
def test_scores_stay(settings: dict[str, Any], gone: set[str]) -> None:
    router = _router(**settings)
    graph = _simplified(router)
    assert not gone & set(_kinds(graph))
    images = torch.rand(1, 3, SIDE, SIDE)
    with torch.no_grad():
        expected = router(images).numpy()
    np.testing.assert_allclose(_run(graph, images), expected, atol=1e-5, rtol=1e-5)


def test_stages_are_joined_before_they_are_flattened() -> None:
    kinds = _kinds(_simplified(_router(backbone="plain", pool=[1, 2, 3, 4])))
    assert kinds.count("GlobalAveragePool") == 4
    assert kinds.count("Flatten") == 1


class _Odd(nn.Module):
    """What must not be touched: a scale that two layers read, grouped kernels, and means used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("std", torch.tensor([0.5, 2.0, 4.0]).view(1, 3, 1, 1))
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.depthwise = nn.Conv2d(3, 3, 3, groups=3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images / self.std
        a, b = self.first(x).mean(dim=(2, 3)), self.second(x).mean(dim=(2, 3))
        c = self.depthwise(images / (self.std + 1)).mean(dim=(2, 3))
        return torch.cat([a, b], dim=1).sum(dim=1) + a.max(dim=1).values + c.sum(dim=1)


def test_scales_that_do_not_fit_a_convolution_stay() -> None:
    torch.manual_seed(0)
    module = _Odd().eval()
    graph = _simplified(module)
    images = torch.rand(1, 3, SIDE, SIDE)
    with torch.no_grad():
        expected = module(images).numpy()
    np.testing.assert_allclose(_run(graph, images), expected, atol=1e-5, rtol=1e-5)
    assert "Div" in _kinds(graph)


def test_large_weights_are_stored_in_half_and_folded_when_they_are_loaded(tmp_path: Path) -> None:
    graph = _simplified(_router(backbone="plain", pool=[1, 2, 3, 4]))
    images = torch.rand(1, 3, SIDE, SIDE)
    expected = _run(graph, images)
    whole = sum(len(w.raw_data) for w in graph.initializer)
    store_in_half(graph)
    assert sum(len(w.raw_data) for w in graph.initializer) < 0.55 * whole
    np.testing.assert_allclose(_run(graph, images), expected, atol=1e-3)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    model = make_model("router", graph.node, graph.initializer, graph.input, graph.output)
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert "Cast" in _kinds(graph) and "Cast" not in _kinds(onnx.load(options.optimized_model_filepath).graph)
