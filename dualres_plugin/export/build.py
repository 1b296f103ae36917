"""A detector with its router as ONNX: one file (`cond`, `resize`, `branches`), or some with fixed shapes (`pair`)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from dualres_plugin.budget.ladder import check_thresholds
from dualres_plugin.common.card import FORMS, MOST_SIZES, Card, Several, route_names
from dualres_plugin.common.errors import DualResError, check_number
from dualres_plugin.common.files.lock import locked
from dualres_plugin.common.resize import check_scale
from dualres_plugin.export import forms, front
from dualres_plugin.export.decoding import speed_up_distributions
from dualres_plugin.export.files import put, save_model, save_pair, write_card
from dualres_plugin.export.graph import make_model, require_onnx
from dualres_plugin.export.parity import Limits, check_parity, sample_photos
from dualres_plugin.export.simplify import simplify_router, store_in_half
from dualres_plugin.export.trace import read_graph, trace
from dualres_plugin.export.triton import check_name, write_repository
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.export_plan import ExportPlan
from dualres_plugin.hosts.ladder import Ladder
from dualres_plugin.hosts.sizes import size_costs
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.runtime.engines import ROUTER
from dualres_plugin.runtime.session import DualResSession

logger = logging.getLogger("dualres")
THUMBNAILS = ("inside", "outside")  # of the graph: where the router's is made


@dataclass(frozen=True)
class ExportRequest:
    """What is to be written.

    Attributes:
        adapter: of the detector.
        router: decides the route inside the graph.
        form: "cond", "resize", "branches" or "pair".
        high: high size in pixels, as the host runs it.
        ladder: the sizes.
        thresholds: defaults of the graph's input, one fewer than the sizes.
        nms: the host's NMS goes into the graph.
        outside: the thumbnail is an input of the graph, which does not make it.
    """

    adapter: HostAdapter[Any]
    router: ResolutionRouter
    form: str
    high: int
    ladder: Ladder
    thresholds: tuple[float, ...]
    nms: bool
    outside: bool = False

    @property
    def fixed(self) -> bool:
        """Is each of the sizes a graph of its own?"""
        return self.form in ("branches", "pair")

    @property
    def sizes(self) -> tuple[int, ...]:
        """In pixels and in the host's own meaning of size, largest first."""
        return self.ladder.pixels(self.high) or ()

    @property
    def scales(self) -> tuple[float, ...]:
        """Each size but the largest, as a ratio of it."""
        return self.ladder.ratios(self.high)


def export_model(
    adapter: HostAdapter[Any],
    router: ResolutionRouter,
    out: Path | str,
    *,
    form: str = "cond",
    high: int | None = None,
    scale: float | Ladder | None = None,
    threshold: float | Sequence[float] = 0.0,
    nms: bool = False,
    thumbnail: str = "inside",
    images: Path | str | None = None,
    photos: int = 8,
    limits: Limits | None = None,
) -> Path:
    """Write a detector with its router as ONNX, and check it against PyTorch on real photos, every route.

    Args:
        adapter: of the detector.
        router: decides the route inside the graph.
        out: the `.onnx` file; for a pair the folder; for Triton REPOSITORY/NAME.
        form: "cond" (an `If` picks the resolution), "resize" (the same without `If`), "branches" (the detector in
            both branches, fixed shapes), "pair" (the router and each size as graphs with fixed shapes) or "triton" (a
            pair as models of Triton Inference Server).
        high: high size in pixels; None is the detector's own.
        scale: low / high ratio, or several sizes; None is the adapter's own ratio.
        threshold: default of the graph's input of that name; of more than two sizes those between them, descending.
        nms: put the host's NMS into the graph, where it has a module for that.
        thumbnail: "inside" (the graph makes it from `images`) or "outside": an input (1, 3, S, S) that
            `DualResSession` makes of the photo's bytes, which is cheaper; nothing in the router's graph is antialiased
            then, as some engines want it.
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
    scale = adapter.default_scale if scale is None else scale
    ladder = scale if isinstance(scale, Ladder) else Ladder.of(check_scale(scale))
    thresholds = check_thresholds(threshold, len(ladder))
    size = adapter.host_size(int(high or adapter.default_size))
    if thumbnail not in THUMBNAILS:
        raise DualResError(f"unknown thumbnail '{thumbnail}': use {' or '.join(THUMBNAILS)}.")
    if form == "triton":
        check_name(out)
    graphs = "pair" if form == "triton" else form
    request = ExportRequest(adapter, router.eval(), graphs, size, ladder, thresholds, nms, thumbnail == "outside")
    _check_request(request, out)
    with locked(out, is_file=form != "pair"), TemporaryDirectory(prefix="dualres-export-") as folder:
        made = Path(folder, "pair" if graphs == "pair" else "model.onnx")
        card = _build(request, made, Path(folder))
        if photos:
            _check_file(request, made, card, sample_photos(images, photos), limits or Limits())
        if form == "triton":
            write_repository(made, out)
        else:
            put(made, out)
    return out


def _check_request(request: ExportRequest, out: Path) -> None:
    form, adapter = request.form, request.adapter
    if form not in FORMS:
        raise DualResError(f"unknown form '{form}': use {', '.join(FORMS)} or triton.")
    if form == "pair" and (out.is_file() or out.suffix == ".onnx"):
        raise DualResError(f"a pair is several graphs in a folder: give a folder instead of '{out}'.")
    if form != "pair" and (out.is_dir() or out.suffix != ".onnx"):
        raise DualResError(f"cannot write '{out}': give a file name that ends in .onnx.")
    sizes = request.sizes
    if len(sizes) > 2 and not len(set(sizes)) == len(sizes) <= MOST_SIZES:
        raise DualResError(f"a file holds up to {MOST_SIZES} sizes, each of other pixels: not {sizes}.")
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
    plans = tuple(request.adapter.export_plan(request.high, scale, request.nms) for scale in request.scales)
    plan = plans[-1]
    _check_plan(request, plan)
    parts = _parts(request, plans, folder)
    shapes = (parts.shapes[0], parts.shapes[-1]) if parts.shapes else (None, None)
    card = Card(
        request.form, request.adapter.name, request.high, request.scales[-1], plan.stride, request.thresholds[0],
        version("dualres-plugin"), plan.preprocess, plan.postprocess, static=shapes[0], low=shapes[1],
        quantiles=list(request.router.quantiles), names=request.adapter.class_names or {}, several=_several(request),
        thumbnail=parts.router_size if parts.outside else None,
    )  # fmt: skip
    if request.form == "pair":
        card = replace(card, files={name: f"{name}.onnx" for name in (ROUTER, *parts.names)})
        save_pair(forms.pair(parts), made)
    else:
        require_onnx().save(getattr(forms, request.form)(parts), str(made))
    write_card(made, card)
    return card


def _several(request: ExportRequest) -> Several | None:
    """What the card says of more than two sizes."""
    if len(request.sizes) == 2:
        return None
    try:
        gmacs = tuple(size_costs(request.adapter, request.high, request.ladder))
    except DualResError:  # this host cannot count: a session that holds the mean cost goes by pixels
        gmacs = ()
    return Several(request.sizes, request.scales, request.thresholds, gmacs)


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


def _parts(request: ExportRequest, plans: tuple[ExportPlan, ...], folder: Path) -> forms.Parts:
    """Router and detector as graphs: one with dynamic sides, or one for each size."""
    adapter, nms = request.adapter, request.nms
    router = _router_graph(request.router)
    shape = adapter.input_shape((request.high, request.high), request.high)
    shapes: tuple[tuple[int, int], ...] = ()
    if request.fixed:
        stretched = front.each_size([plan.stretch for plan in plans]) if plans[0].stretch else None
        fixed = stretched or [shape, *(adapter.low_shape(shape, scale) for scale in request.scales)]
        graphs = tuple(_fixed_graph(adapter, at, number > 0, nms, folder) for number, at in enumerate(fixed))
        shapes = () if stretched else tuple(fixed)
    else:
        branch = adapter.export_branch(shape, dynamic=True, nms=nms)
        graphs = (trace(branch, shape, True, "the detector"),)
    for graph in graphs:
        speed_up_distributions(graph)
    size, names = request.router.config.input_size, route_names(request.sizes)
    return forms.Parts(plans, router, size, request.thresholds, names, graphs, shapes, request.outside)


def _fixed_graph(adapter: HostAdapter[Any], shape: tuple[int, int], low: bool, nms: bool, folder: Path) -> Any:
    """By the host's own exporter where it has one, else traced."""
    written = adapter.export_static(shape, low, nms, folder)
    if written is not None:
        return read_graph(written)
    return trace(adapter.export_branch(shape, low, nms=nms), shape, False, f"the detector at {shape[0]}x{shape[1]}")


def export_plain(adapter: HostAdapter[Any], folder: Path, high: int, scale: float | Ladder) -> dict[str, Path]:
    """The detector alone at each size, which a routed one is compared with.

    Args:
        adapter: of the detector.
        folder: where the files go.
        high: high size in pixels.
        scale: low / high ratio, or several sizes.

    Returns:
        `plain_high` and `plain_low`, or `plain_640`, `plain_512`, …, as the host's own exporter writes them (or a
        trace); and, where the detector decodes distributions, `lean_high` and so on with the decoding of
        `export.decoding`, as in every form.
    """
    ladder = Ladder.of(scale)
    names = route_names(ladder.pixels(adapter.host_size(high)) or ())
    shapes = [(high, high), *(adapter.low_shape((high, high), ratio) for ratio in ladder.ratios())]
    files = {}
    for number, (size, at) in enumerate(zip(names, shapes)):
        with TemporaryDirectory(prefix="dualres-export-") as temporary:
            graph = _fixed_graph(adapter, at, number > 0, False, Path(temporary))
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
    store_in_half(graph)
    return graph
