"""A detector of one convolution and a small router, as PyTorch modules and in every exported form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dualres_plugin.common.card import Card, Postprocess, Preprocess
from dualres_plugin.router.network import ResolutionRouter
from tests.fakes import photo


class Blobs(torch.nn.Module):
    """A detector that is one convolution: (1, 3, H, W) -> (1, 4 + 2, H/32 * W/32) xywh in pixels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 6, 32, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x).flatten(2)
        return torch.cat([y[:, :4].sigmoid() * 100, (4 * y[:, 4:]).sigmoid()], dim=1)


def make_parts() -> dict[str, Any]:
    """Router and detector, eager and traced; skips the calling test without onnx."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from dualres_plugin.export.trace import trace

    torch.manual_seed(1)
    router = ResolutionRouter(backbone="tiny@4", input_size=32).eval()
    body, shapes = Blobs(), ((160, 160), (96, 96))
    return {
        "router": router,
        "body": body,
        "graph": trace(router, (32, 32), False, "router"),
        "dynamic": trace(body, (160, 160), True, "body"),
        "fixed": [trace(body, s, False, "body") for s in shapes],
        "shapes": shapes,
    }


def write_models(parts: dict[str, Any], folder: Path, outside: bool = False) -> dict[str, Path]:
    """The four forms of the small detector, at 160 and 96 px: form -> file, or folder of the pair."""
    import onnx

    from dualres_plugin.export import forms
    from dualres_plugin.export.files import save_pair, write_card
    from dualres_plugin.hosts.export_plan import ExportPlan

    plan = ExportPlan(Preprocess(multiple=32), Postprocess(conf=0.05), 0.5, 32)
    names = ("high", "low")
    dynamic = forms.Parts((plan,), parts["graph"], 32, (0.0,), names, (parts["dynamic"],), (), outside)
    high, low = parts["shapes"]
    fixed = forms.Parts((plan,), parts["graph"], 32, (0.0,), names, tuple(parts["fixed"]), (high, low), outside)
    card = Card("cond", "test", 160, 0.5, 32, 0.0, "0", plan.preprocess, plan.postprocess, names={0: "a", 1: "b"})
    card = replace(card, thumbnail=32 if outside else None)
    made = {}
    for form in ("cond", "resize", "branches"):
        made[form] = folder / f"{form}.onnx"
        onnx.save(getattr(forms, form)(fixed if form == "branches" else dynamic), str(made[form]))
    made["pair"] = folder / "pair"
    save_pair(forms.pair(fixed), made["pair"])
    files = {name: f"{name}.onnx" for name in ("router", "high", "low")}
    for form, path in made.items():
        static = {"static": high, "low": low} if form in ("branches", "pair") else {}
        write_card(path, replace(card, form=form, files=files if form == "pair" else {}, **static))
    return made


LADDER = ((160, 160), (128, 128), (64, 64))


def write_ladder(parts: dict[str, Any], folder: Path) -> dict[str, Path]:
    """The four forms at 160, 128 and 64 px, the smallest of which is averaged, not sampled: as of `write_models`."""
    import onnx

    from dualres_plugin.common.card import Several
    from dualres_plugin.export import forms
    from dualres_plugin.export.files import save_pair, write_card
    from dualres_plugin.export.trace import trace
    from dualres_plugin.hosts.export_plan import ExportPlan

    pre, post = Preprocess(multiple=32), Postprocess(conf=0.05)
    plans = (ExportPlan(pre, post, 0.8, 32), ExportPlan(pre, post, 0.4, 32, antialias=True))
    names, limits = ("160", "128", "64"), (0.5, -0.5)
    dynamic = forms.Parts(plans, parts["graph"], 32, limits, names, (parts["dynamic"],))
    graphs = tuple(trace(parts["body"], shape, False, "body") for shape in LADDER)
    fixed = forms.Parts(plans, parts["graph"], 32, limits, names, graphs, LADDER)
    several = Several((160, 128, 64), (0.8, 0.4), limits, (4.0, 2.5, 0.5))
    card = Card("cond", "test", 160, 0.4, 32, 0.5, "0", pre, post, names={0: "a", 1: "b"}, several=several)
    made = {}
    for form in ("cond", "resize", "branches"):
        made[form] = folder / f"{form}.onnx"
        onnx.save(getattr(forms, form)(fixed if form == "branches" else dynamic), str(made[form]))
    made["pair"] = folder / "pair"
    save_pair(forms.pair(fixed), made["pair"])
    files = {name: f"{name}.onnx" for name in ("router", *names)}
    for form, path in made.items():
        static = {"static": LADDER[0], "low": LADDER[-1]} if form in ("branches", "pair") else {}
        write_card(path, replace(card, form=form, files=files if form == "pair" else {}, **static))
    return made


def pictures(count: int) -> list[np.ndarray]:
    """Photos of three shapes in turn."""
    return [photo(i, [(120, 160), (160, 90), (97, 101)][i % 3]) for i in range(count)]


def same(a: Any, b: Any) -> bool:
    """Have two results the same route and the same boxes, bit for bit?"""
    return a.route == b.route and all(
        np.array_equal(getattr(a, k), getattr(b, k)) for k in ("boxes", "scores", "labels")
    )
