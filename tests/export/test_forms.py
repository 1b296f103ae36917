"""The four forms of one small detector: what they compute and how they are built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dualres_plugin.common.resize import low_size, make_thumbnails
from dualres_plugin.common.types import RouterImages
from dualres_plugin.runtime.session import DualResSession


def eager(parts: dict[str, Any], images: torch.Tensor, high: bool) -> np.ndarray:
    with torch.no_grad():
        if high:
            return parts["body"](images).numpy()
        shape = tuple(images.shape[-2:])
        small = low_size(shape, 0.5, 32)  # type: ignore[arg-type]
        x = torch.nn.functional.interpolate(images, size=small, mode="bilinear", align_corners=False)
        y = parts["body"](x).numpy()
    y[:, :4] *= np.array([shape[1] / small[1], shape[0] / small[0]] * 2)[None, :, None]
    return y


@pytest.mark.parametrize("form", ["cond", "resize", "branches", "pair"])
def test_every_form_computes_what_pytorch_computes(parts: dict[str, Any], models: dict[str, Path], form: str) -> None:
    session = DualResSession(models[form])
    shapes = [(160, 160)] if form in ("branches", "pair") else [(160, 160), (96, 160), (160, 64), (32, 32)]
    for h, w in shapes:
        images = torch.rand(1, 3, h, w, generator=torch.Generator().manual_seed(h + w))
        content = (3, 5, w - 4, h)
        with torch.no_grad():
            score = float(parts["router"](make_thumbnails(RouterImages(images, [content]), 32))[0])
        for threshold in (score - 1e-3, score + 1e-3):
            found, high, given_score = session.run(images.numpy(), content, threshold)
            assert high == (score > threshold) and given_score == pytest.approx(score, abs=1e-4)
            expected = eager(parts, images, high)
            found = found[:, :, : expected.shape[2]]  # `branches` fills the low pass up with zeros
            assert np.allclose(found, expected, atol=2e-4)


def test_cond_has_one_if_and_no_weights_in_it(models: dict[str, Path]) -> None:
    import onnx

    from dualres_plugin.export.graph import walk

    graph = onnx.load(str(models["cond"])).graph
    choices = [n for n in walk(graph) if n.op_type == "If"]
    assert len(choices) == 1
    assert not any(a.g.initializer or any(n.op_type == "Conv" for n in a.g.node) for a in choices[0].attribute)
    assert not any(n.metadata_props or n.doc_string for n in walk(graph))
    assert not [n for n in walk(onnx.load(str(models["resize"])).graph) if n.op_type == "If"]


def test_weights_are_stored_once(models: dict[str, Path]) -> None:
    assert models["branches"].stat().st_size < 1.1 * models["cond"].stat().st_size + 10_000
    folder = models["pair"]
    assert (folder / "weights.bin").stat().st_size < models["cond"].stat().st_size
    assert (folder / "high.onnx").stat().st_size < 20_000


def test_the_threshold_and_the_content_are_optional_inputs(models: dict[str, Path]) -> None:
    import onnxruntime as ort

    session = ort.InferenceSession(str(models["cond"]))
    assert [i.name for i in session.get_inputs()] == ["images"]  # the others have defaults
    assert {i.name for i in session.get_overridable_initializers()} >= {"threshold", "content"}
    images = np.random.default_rng(0).random((1, 3, 160, 160), dtype=np.float32)
    _, route, score = session.run(None, {"images": images})
    assert bool(route[0]) == bool(score[0] > 0)
    for limit, high in ((-1e9, True), (1e9, False)):
        assert bool(session.run(["route"], {"images": images, "threshold": np.array(limit, np.float32)})[0][0]) == high
