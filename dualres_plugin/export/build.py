"""A detector with its router as ONNX: one file (`cond`, `resize`, `branches`), or three with fixed shapes (`pair`)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from dualres_plugin.budget.calibration import check_threshold
from dualres_plugin.common.card import FORMS, Card
from dualres_plugin.common.errors import DualResError, check_number
from dualres_plugin.common.files.lock import locked
from dualres_plugin.common.resize import check_scale
from dualres_plugin.export import forms
from dualres_plugin.export.decoding import speed_up_distributions
from dualres_plugin.export.files import put, save_model, save_pair, write_card
from dualres_plugin.export.graph import make_model, require_onnx
from dualres_plugin.export.parity import Limits, check_parity, sample_photos
from dualres_plugin.export.simplify import simplify_router
from dualres_plugin.export.trace import read_graph, trace
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.export_plan import ExportPlan
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.runtime.session import DualResSession

logger = logging.getLogger("dualres")


@dataclass(frozen=True)
class ExportRequest:
    """What is to be written.

    Attributes:
        adapter: of the detector.
        router: decides the route inside the graph.
        form: "cond", "resize", "branches" or "pair".
        high: high size in pixels.
        scale: low / high ratio.
        threshold: default of the graph's input of that name.
        nms: the host's NMS goes into the graph.
    """

    adapter: HostAdapter[Any]
    router: ResolutionRouter
    form: str
    high: int
    scale: float
    threshold: float
    nms: bool

    @property
    def fixed(self) -> bool:
        """Is each of the two sizes a graph of its own?"""
        return self.form in ("branches", "pair")


def export_model(
    adapter: HostAdapter[Any],
    router: ResolutionRouter,
    out: Path | str,
    *,
    form: str = "cond",
    high: int | None = None,
    scale: float | None = None,
    threshold: float = 0.0,
    nms: bool = False,
    images: Path | str | None = None,
    photos: int = 8,
    limits: Limits | None = None,
) -> Path:
    """Write a detector with its router as ONNX, and check it against PyTorch on real photos, both routes.

    Args:
        adapter: of the detector.
        router: decides the route inside the graph.
        out: the `.onnx` file; for a pair the folder.
        form: "cond" (an `If` picks the resolution), "resize" (the same without `If`), "branches" (the detector in
            both branches, fixed shapes) or "pair" (router, high and low as three graphs with fixed shapes).
        high: high size in pixels; None is the detector's own.
        scale: low / high ratio; None is the adapter's own.
        threshold: default of the graph's input of that name.
        nms: put the host's NMS into the graph, where it has a module for that.
        images: folder or glob of photos to check with; None takes one that comes with matplotlib.
        photos: check with so many; 0 leaves the check out.
        limits: how far the file may be from PyTorch; None is the default of `parity.Limits`.

    Returns:
        The file, or the folder of a pair.

    Raises:
        DualResError: If the form does not suit the detector, onnx is missing, or the file computes anything else
            than PyTorch, or another process writes to `out`. A file that fails its check is not written.
    """
    require_onnx()
    check_number("photos", photos, 0)
    check_number("high", high, 1)
    out = Path(out)
    scale = check_scale(adapter.default_scale if scale is None else scale)
    request = ExportRequest(adapter, router.eval(), form, int(high or adapter.default_size), scale, threshold, nms)
    _check_request(request, out)
    with locked(out, is_file=form != "pair"), TemporaryDirectory(prefix="dualres-export-") as folder:
        made = Path(folder, "pair" if form == "pair" else "model.onnx")
        card = _build(request, made, Path(folder))
        if photos:
            _check_file(request, made, card, sample_photos(images, photos), limits or Limits())
        put(made, out)
    return out


def _check_request(request: ExportRequest, out: Path) -> None:
    form, adapter = request.form, request.adapter
    if form not in FORMS:
        raise DualResError(f"unknown form '{form}': use {', '.join(FORMS)}.")
    if form == "pair" and (out.is_file() or out.suffix == ".onnx"):
        raise DualResError(f"a pair is three graphs in a folder: give a folder instead of '{out}'.")
    if form != "pair" and (out.is_dir() or out.suffix != ".onnx"):
        raise DualResError(f"cannot write '{out}': give a file name that ends in .onnx.")
    check_threshold(request.threshold)
    if adapter.low_detector is not None and form in ("cond", "resize"):
        raise DualResError(f"--form {form} holds one network; two (a low detector of its own) need branches or pair.")


def _check_file(request: ExportRequest, made: Path, card: Card, photos: list[np.ndarray], limits: Limits) -> None:
    """Compare with PyTorch, and note in the card what was found."""
    session = DualResSession(made, warm_up=False)
    report = check_parity(session, request.adapter, request.router, photos, limits)
    del session  # lets go of the file, which is written again
    logger.info("checked against PyTorch: %s", report)
    if not report.detections:
        logger.warning("the detector found nothing in these photos, so no box was compared: give others.")
    write_card(made, replace(card, parity=report.to_dict()))


def _build(request: ExportRequest, made: Path, folder: Path) -> Card:
    """Write the model to `made`, with `folder` for what is only needed meanwhile; returns its card."""
    plan = request.adapter.export_plan(request.high, request.scale, request.nms)
    _check_plan(request, plan)
    parts = _parts(request, plan, folder)
    card = Card(
        request.form, request.adapter.name, request.high, request.scale, plan.stride, request.threshold,
        version("dualres-plugin"), plan.preprocess, plan.postprocess, static=parts.shape, low=parts.low_shape,
        quantiles=list(request.router.quantiles), names=request.adapter.class_names or {},
    )  # fmt: skip
    if request.form == "pair":
        card = replace(card, files={name: f"{name}.onnx" for name in ("router", "high", "low")})
        save_pair(forms.pair(parts), made)
    else:
        require_onnx().save(getattr(forms, request.form)(parts), str(made))
    write_card(made, card)
    return card


def _check_plan(request: ExportRequest, plan: ExportPlan) -> None:
    name = request.adapter.name
    if not request.fixed and not plan.dynamic:
        raise DualResError(
            f"this {name} detector is built for fixed sizes, so one traced network cannot serve both: "
            f"use --form branches{'' if plan.stretch else ' or --form pair'}."
        )
    if request.fixed and (plan.fit or (plan.stretch and request.form == "pair")):
        other = "branches" if plan.stretch else "cond or resize"
        raise DualResError(f"this {name} detector scales photos of any shape in the graph: use --form {other}.")


def _parts(request: ExportRequest, plan: ExportPlan, folder: Path) -> forms.Parts:
    """Router and detector as graphs: one with dynamic sides, or one for each size."""
    adapter, nms = request.adapter, request.nms
    router = _router_graph(request.router)
    parts = forms.Parts(plan, router, request.router.config.input_size, request.threshold, high=None)
    shape = adapter.input_shape((request.high, request.high), request.high)
    if request.fixed:
        high_shape, low_shape = plan.stretch or (shape, adapter.low_shape(shape, request.scale))
        high = _fixed_graph(adapter, high_shape, False, nms, folder)
        parts = replace(parts, high=high, low=_fixed_graph(adapter, low_shape, True, nms, folder))
        if not plan.stretch:
            parts = replace(parts, shape=high_shape, low_shape=low_shape)
    else:
        branch = adapter.export_branch(shape, dynamic=True, nms=nms)
        parts = replace(parts, high=trace(branch, shape, True, "the detector"))
    for graph in (parts.high, parts.low):
        if graph is not None:
            speed_up_distributions(graph)
    return parts


def _fixed_graph(adapter: HostAdapter[Any], shape: tuple[int, int], low: bool, nms: bool, folder: Path) -> Any:
    """By the host's own exporter where it has one, else traced."""
    written = adapter.export_static(shape, low, nms, folder)
    if written is not None:
        return read_graph(written)
    return trace(adapter.export_branch(shape, low, nms=nms), shape, False, f"the detector at {shape[0]}x{shape[1]}")


def export_plain(adapter: HostAdapter[Any], folder: Path, high: int, scale: float) -> dict[str, Path]:
    """The detector alone at each size, which a routed one is compared with.

    Args:
        adapter: of the detector.
        folder: where the files go.
        high: high size in pixels.
        scale: low / high ratio.

    Returns:
        `plain_high` and `plain_low`, as the host's own exporter writes them (or a trace); and, where the detector
        decodes distributions, `lean_high` and `lean_low` with the decoding of `export.decoding`, as in every form.
    """
    shape = (high, high)
    files = {}
    for size, at, low in (("high", shape, False), ("low", adapter.low_shape(shape, scale), True)):
        with TemporaryDirectory(prefix="dualres-export-") as temporary:
            graph = _fixed_graph(adapter, at, low, False, Path(temporary))
        files[f"plain_{size}"] = _save_plain(graph, at, folder / f"plain_{size}.onnx")
        if speed_up_distributions(graph):
            files[f"lean_{size}"] = _save_plain(graph, at, folder / f"lean_{size}.onnx")
    return files


def _save_plain(graph: Any, shape: tuple[int, int], path: Path) -> Path:
    return save_model(forms.plain(graph, shape), path)


def export_network(router: ResolutionRouter, path: Path) -> Path:
    """The router without its thumbnail: a bench tells the two apart with it.

    Args:
        router: S is its input size.
        path: of the file, whose graph takes `images` (1, 3, S, S) and gives `found` (1,).

    Returns:
        The file.
    """
    graph = _router_graph(router)
    return save_model(make_model("router", graph.node, graph.initializer, graph.input, graph.output), path)


def _router_graph(router: ResolutionRouter) -> Any:
    side = router.config.input_size
    graph = trace(router.eval().cpu(), (side, side), False, "the router")
    simplify_router(graph)
    return graph
