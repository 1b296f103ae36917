"""A detector with its router as ONNX: one file (`cond`, `resize`, `branches`), or three with fixed shapes (`pair`)."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dualres_plugin.common.card import FORMS, KEY, Card
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files import atomic_write, make_dir
from dualres_plugin.common.resize import check_scale
from dualres_plugin.export.graph import require_onnx
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.runtime.engines import MANIFEST

logger = logging.getLogger("dualres")
WEIGHTS = "weights.bin"  # of a pair: read by both sizes


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

    Returns:
        The file, or the folder of a pair.

    Raises:
        DualResError: If the form does not suit the detector, onnx is missing, or the file computes anything else
            than PyTorch. A file that fails its check is not written.
    """
    require_onnx()
    out = Path(out)
    _check_arguments(form, out, adapter, threshold)
    size = int(high or adapter.default_size)
    scale = check_scale(adapter.default_scale if scale is None else scale)
    router = router.eval()
    with TemporaryDirectory(prefix="dualres-export-") as folder:
        made = Path(folder, "pair" if form == "pair" else "model.onnx")
        card = _build(adapter, router, made, form, size, scale, threshold, nms, Path(folder))
        if photos:
            from dualres_plugin.export.parity import check_parity, sample_photos
            from dualres_plugin.runtime.session import DualResSession

            session = DualResSession(made, warm_up=False)
            report = check_parity(session, adapter, router, sample_photos(images, photos))
            del session
            logger.info("checked against PyTorch: %s", report)
            if not report.detections:
                logger.warning("the detector found nothing in these photos, so no box was compared: give others.")
            _write_card(made, replace(card, parity=report.to_dict()))
        _put(made, out)
    return out


def _check_arguments(form: str, out: Path, adapter: HostAdapter[Any], threshold: float) -> None:
    if form not in FORMS:
        raise DualResError(f"unknown form '{form}': use {', '.join(FORMS)}.")
    if form == "pair" and (out.is_file() or out.suffix == ".onnx"):
        raise DualResError(f"a pair is three graphs in a folder: give a folder instead of '{out}'.")
    if form != "pair" and (out.is_dir() or out.suffix != ".onnx"):
        raise DualResError(f"cannot write '{out}': give a file name that ends in .onnx.")
    if math.isnan(threshold):
        raise DualResError("the threshold is not a number.")
    if adapter.low_detector is not None and form in ("cond", "resize"):
        raise DualResError(f"--form {form} holds one network; two (a low detector of its own) need branches or pair.")


def _build(
    adapter: HostAdapter[Any],
    router: ResolutionRouter,
    made: Path,
    form: str,
    size: int,
    scale: float,
    threshold: float,
    nms: bool,
    folder: Path,
) -> Card:
    from dualres_plugin.export import forms
    from dualres_plugin.export.decoding import speed_up_distributions
    from dualres_plugin.export.trace import trace

    plan = adapter.export_plan(size, scale, nms)
    fixed = form in ("branches", "pair")
    if not fixed and not plan.dynamic:
        raise DualResError(
            f"this {adapter.name} detector is built for fixed sizes, so one traced network cannot serve both: "
            f"use --form branches{'' if plan.stretch else ' or --form pair'}."
        )
    if fixed and (plan.fit or (plan.stretch and form == "pair")):
        other = "branches" if plan.stretch else "cond or resize"
        raise DualResError(f"this {adapter.name} detector scales photos of any shape in the graph: use --form {other}.")
    parts = forms.Parts(plan, _router_graph(router), router.config.input_size, threshold, high=None)
    shape = adapter.input_shape((size, size), size)
    if plan.stretch:
        graphs = [_fixed_graph(adapter, at, low, nms, folder) for at, low in zip(plan.stretch, (False, True))]
        parts = replace(parts, high=graphs[0], low=graphs[1])
    elif fixed:
        low_shape = adapter.low_shape(shape, scale)
        high_graph, low_graph = (
            _fixed_graph(adapter, at, low, nms, folder) for at, low in ((shape, False), (low_shape, True))
        )
        parts = replace(parts, high=high_graph, low=low_graph, shape=shape, low_shape=low_shape)
    else:
        branch = adapter.export_branch(shape, dynamic=True, nms=nms)
        parts = replace(parts, high=trace(branch, shape, True, "the detector"))
    for graph in (parts.high, parts.low):
        if graph is not None:
            speed_up_distributions(graph)
    card = Card(
        form, adapter.name, size, scale, plan.stride, threshold, version("dualres-plugin"), plan.preprocess,
        plan.postprocess, static=parts.shape, low=parts.low_shape, quantiles=list(router.quantiles),
        names=adapter.class_names or {},
    )  # fmt: skip
    if form == "pair":
        card = replace(card, files={name: f"{name}.onnx" for name in ("router", "high", "low")})
        _save_pair(forms.pair(parts), made)
    else:
        require_onnx().save(getattr(forms, form)(parts), str(made))
    _write_card(made, card)
    return card


def _fixed_graph(adapter: HostAdapter[Any], shape: tuple[int, int], low: bool, nms: bool, folder: Path) -> Any:
    """By the host's own exporter where it has one, else traced."""
    from dualres_plugin.export.trace import read_graph, trace

    written = adapter.export_static(shape, low, nms, folder)
    if written is not None:
        return read_graph(written)
    return trace(adapter.export_branch(shape, low, nms=nms), shape, False, f"the detector at {shape[0]}x{shape[1]}")


def export_plain(adapter: HostAdapter[Any], folder: Path, high: int, scale: float) -> dict[str, Path]:
    """The detector alone at each size, which a routed one is compared with.

    Returns:
        `plain_high` and `plain_low`, as the host's own exporter writes them (or a trace); and, where the detector
        decodes distributions, `lean_high` and `lean_low` with the decoding of `exporting.decoding`, as in every form.
    """
    from dualres_plugin.export.decoding import speed_up_distributions

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
    from dualres_plugin.export import forms

    require_onnx().save(forms.plain(graph, shape), str(path))
    return path


def export_network(router: ResolutionRouter, path: Path) -> Path:
    """The router without its thumbnail: (1, 3, S, S) `images` -> `score`; a bench tells the two apart with it."""
    from dualres_plugin.export.graph import make_model

    graph = _router_graph(router)
    require_onnx().save(make_model("router", graph.node, graph.initializer, graph.input, graph.output), str(path))
    return path


def _router_graph(router: ResolutionRouter) -> Any:
    from dualres_plugin.export.simplify import simplify_router
    from dualres_plugin.export.trace import trace

    side = router.config.input_size
    graph = trace(router.eval().cpu(), (side, side), False, "the router")
    simplify_router(graph)
    return graph


# -- files -----------------------------------------------------------------------------------------------------


def _save_pair(models: dict[str, Any], folder: Path) -> None:
    """Three graphs; equal weights lie once in a file that all of them read."""
    onnx = require_onnx()
    make_dir(folder)
    offsets: dict[bytes, int] = {}
    blob = bytearray()
    for name, model in models.items():
        inputs = {i.name for i in model.graph.input}
        for weight in model.graph.initializer:
            raw = onnx.numpy_helper.to_array(weight).tobytes()
            if len(raw) < 1024 or weight.name in inputs:
                continue  # small ones, and constants that shape inference reads, stay inside
            if raw not in offsets:
                blob += b"\0" * (-len(blob) % 64)  # aligned, so that runtimes can map it
                offsets[raw] = len(blob)
                blob += raw
            weight.ClearField("float_data")
            weight.ClearField("int64_data")
            weight.raw_data = raw
            onnx.external_data_helper.set_external_data(weight, WEIGHTS, offsets[raw], len(raw))
            weight.ClearField("raw_data")
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    (folder / WEIGHTS).write_bytes(bytes(blob))
    for name in models:
        onnx.checker.check_model(str(folder / f"{name}.onnx"))


def _write_card(made: Path, card: Card) -> None:
    if made.is_dir():
        (made / MANIFEST).write_text(card.to_json() + "\n", encoding="utf-8")
        return
    onnx = require_onnx()
    model = onnx.load(str(made))
    onnx.helper.set_model_props(model, {KEY: card.to_json()})
    onnx.save(model, str(made))


def _put(made: Path, out: Path) -> None:
    if made.is_dir():
        from dualres_plugin.common.files import atomic_dir

        with atomic_dir(out) as temporary:
            for file in made.iterdir():
                (temporary / file.name).write_bytes(file.read_bytes())
        return
    with atomic_write(out) as temporary:
        temporary.write_bytes(made.read_bytes())
