"""The four forms with three sizes: what they compute, what they take and give, and that weights are there once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch

from dualres_plugin.common.resize import low_size, make_thumbnails, resize_images
from dualres_plugin.common.types import RouterImages
from dualres_plugin.runtime.session import DualResSession

FIXED = ("branches", "pair")


def eager(parts: dict[str, Any], images: torch.Tensor, step: int) -> np.ndarray:
    h, w = images.shape[-2:]
    small = (h, w) if not step else low_size((h, w), (0.8, 0.4)[step - 1], 32)
    with torch.no_grad():
        found: np.ndarray = parts["body"](resize_images(images, small, antialias=step == 2)).numpy()
    found[:, :4] *= np.array([w / small[1], h / small[0]] * 2, dtype=np.float32)[None, :, None]
    return found


@pytest.mark.parametrize("form", ["cond", "resize", "branches", "pair"])
def test_every_form_computes_what_pytorch_computes_at_every_size(
    parts: dict[str, Any], ladder_models: dict[str, Path], form: str
) -> None:
    session = DualResSession(ladder_models[form])
    for h, w in [(160, 160)] if form in FIXED else [(160, 160), (96, 160), (160, 64), (32, 32)]:
        images = torch.rand(1, 3, h, w, generator=torch.Generator().manual_seed(h + w))
        content = (3, 5, w - 4, h)
        with torch.no_grad():
            score = float(parts["router"](make_thumbnails(RouterImages(images, [content]), 32))[0])
        for limits, wanted in [((-2e-3, -3e-3), 0), ((1e-3, -1e-3), 1), ((3e-3, 2e-3), 2), ((np.inf, -np.inf), 1)]:
            found, step, given = session.run(images.numpy(), content, [score + limit for limit in limits])
            assert type(step) is int and step == wanted and given == pytest.approx(score, abs=1e-4)
            expected = eager(parts, images, step)
            assert form in FIXED or found.shape == expected.shape
            found = found[:, :, : expected.shape[2]]  # `branches` fills the smaller passes up with zeros
            assert np.allclose(found, expected, atol=2e-4)


def test_no_branch_holds_weights_and_no_form_a_second_copy(
    models: dict[str, Path], ladder_models: dict[str, Path]
) -> None:
    import onnx

    from dualres_plugin.export.graph import walk

    graph = onnx.load(str(ladder_models["cond"])).graph
    choices = [n for n in walk(graph) if n.op_type == "If"]
    assert len(choices) == 2, "one in the other"
    for node in choices:
        assert not any(a.g.initializer or any(n.op_type == "Conv" for n in a.g.node) for a in node.attribute)
    assert not [n for n in walk(onnx.load(str(ladder_models["resize"])).graph) if n.op_type == "If"]
    for form in ("cond", "resize", "branches"):
        assert ladder_models[form].stat().st_size < models[form].stat().st_size + 5_000, form
    assert (ladder_models["pair"] / "weights.bin").stat().st_size < ladder_models["cond"].stat().st_size
    assert sorted(file.name for file in ladder_models["pair"].iterdir()) == [
        "128.onnx", "160.onnx", "64.onnx", "manifest.json", "router.onnx", "weights.bin",
    ]  # fmt: skip


def test_the_thresholds_are_an_optional_input_and_the_step_an_output(ladder_models: dict[str, Path]) -> None:
    session = ort.InferenceSession(str(ladder_models["cond"]))
    assert [i.name for i in session.get_inputs()] == ["images"]
    given = {i.name: i.shape for i in session.get_overridable_initializers()}
    assert given["thresholds"] == [2] and given["content"] == [4] and "threshold" not in given
    assert [o.name for o in session.get_outputs()] == ["detections", "step", "score"]
    images = np.random.default_rng(0).random((1, 3, 160, 160), dtype=np.float32)
    _, step, score = session.run(None, {"images": images})
    assert step.dtype == np.int64 and step.tolist() == [int(score[0] <= 0.5) + int(score[0] <= -0.5)]
    nan = np.full_like(images, np.nan)
    assert session.run(["step"], {"images": nan})[0].tolist() == [2], "as in PyTorch, NaN is above no threshold"
