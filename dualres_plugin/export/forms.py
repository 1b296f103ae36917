"""The four ways to put a router and a detector into ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dualres_plugin.export import front
from dualres_plugin.export.graph import Nodes, make_model
from dualres_plugin.hosts.export_plan import ExportPlan

Shape = tuple[int, int]


@dataclass(frozen=True)
class Parts:
    """What the forms are made of.

    Attributes:
        plan: how the detector wants its input.
        router: GraphProto, (1, 3, S, S) -> (1,).
        router_size: S.
        threshold: default of that input.
        high: GraphProto of the detector: dynamic for `cond` and `resize`, else fixed to `shape`.
        low: GraphProto fixed to `low_shape`; None for `cond` and `resize`.
        shape, low_shape: (height, width) that the graphs are fixed to; None where they are not.
    """

    plan: ExportPlan
    router: Any
    router_size: int
    threshold: float
    high: Any
    low: Any | None = None
    shape: Shape | None = None
    low_shape: Shape | None = None


def cond(parts: Parts) -> Any:
    """One `If` that picks the resolution, then one detector with dynamic height and width (weights once).

    Args:
        parts: `high` is dynamic, `low` is None.

    Returns:
        A ModelProto.
    """
    nodes, inputs = _start(parts)
    plan = parts.plan
    high, low = Nodes("high"), Nodes("low")
    if plan.scales_photos:
        for branch, sides in zip((high, low), front.photo_sides(nodes, "images", plan)):
            front.resize(branch, "images", front.nchw(branch, sides), plan.antialias, out=f"{branch.prefix}/frame")
    else:
        high.op("Identity", "images", out="high/frame")
        sides = front.low_sides(low, front.side_lengths(low, "images"), plan)
        front.resize(low, "images", front.nchw(low, sides), plan.antialias, out="low/frame")
    # Constants of the branches live outside: a runtime folds and shares them there.
    nodes.weights += high.weights + low.weights
    frame = nodes.op("If", "route", then_branch=_branch(high, 4), else_branch=_branch(low, 4), out="frame")
    return _finish(nodes, inputs, parts, frame)


def resize(parts: Parts) -> Any:
    """The same without `If`: the route picks a size, and one `Resize` makes the frame.

    Args:
        parts: as of `cond`.

    Returns:
        A ModelProto.
    """
    nodes, inputs = _start(parts)
    plan = parts.plan
    if plan.scales_photos:
        high, low = front.photo_sides(nodes, "images", plan)
    else:
        high = front.side_lengths(nodes, "images")
        low = front.low_sides(nodes, high, plan)
    chosen = nodes.op("Where", "route", high, low)
    frame = front.resize(nodes, "images", front.nchw(nodes, chosen), plan.antialias, out="frame")
    return _finish(nodes, inputs, parts, frame)


def branches(parts: Parts) -> Any:
    """The detector in both branches of an `If`, each fixed to its size; equal weights are kept once.

    Args:
        parts: `high` and `low` are fixed.

    Returns:
        A ModelProto.
    """
    nodes, inputs = _start(parts)
    made = []
    for name in ("high", "low"):
        branch = Nodes(name)
        found = _fixed(branch, parts, name, "images")
        if name == "low" and parts.plan.postprocess.layout == "anchors":
            found = _padded(branch, found, parts)
        branch.op("Identity", found, out=f"{name}/frame")
        nodes.weights += branch.weights
        made.append(_branch(branch, 3))
    nodes.op("If", "route", then_branch=made[0], else_branch=made[1], out="detections")
    return make_model("dualres", nodes.nodes, nodes.weights, inputs, _outputs(nodes))


def pair(parts: Parts) -> dict[str, Any]:
    """Three graphs with fixed shapes.

    Args:
        parts: as of `branches`.

    Returns:
        ModelProtos: `router` (images -> score, route), `high` and `low` (images -> detections).
    """
    nodes, inputs = _start(parts)
    models = {"router": make_model("router", nodes.nodes, nodes.weights, inputs, _outputs(nodes)[1:])}
    for name in ("high", "low"):
        body = Nodes(name)
        body.op("Identity", _fixed(body, parts, name, "images"), out="detections")
        models[name] = make_model(name, body.nodes, body.weights, [_images(body, parts)], _outputs(body)[:1])
    return models


def plain(graph: Any, shape: Shape | None, plan: ExportPlan | None = None, low: bool = False) -> Any:
    """The detector alone, for comparison: `images` -> `detections`.

    Args:
        graph: GraphProto of the detector.
        shape: (height, width) that it is fixed to; None where any size will do.
        plan: of a detector whose graph scales the photos itself.
        low: it scales them to the low size.

    Returns:
        A ModelProto.
    """
    nodes = Nodes("plain")
    frame = "images"
    if plan and plan.scales_photos:
        sides = front.photo_sides(nodes, "images", plan)[int(low)]
        frame = front.resize(nodes, "images", front.nchw(nodes, sides), plan.antialias)
    (found,) = nodes.add(graph, "net", {graph.input[0].name: frame}).values()
    nodes.op("Identity", found, out="detections")
    return make_model("plain", nodes.nodes, nodes.weights, [_image_input(nodes, shape)], _outputs(nodes)[:1])


# -- parts ---------------------------------------------------------------------------------------------------


def _start(parts: Parts) -> tuple[Nodes, list[Any]]:
    nodes = Nodes("route")
    inputs, defaults = front.router_inputs(nodes, parts.threshold)
    nodes.weights += defaults
    front.add_router(nodes, parts.router, parts.router_size)
    return nodes, [_images(nodes, parts), *inputs]


def _finish(nodes: Nodes, inputs: list[Any], parts: Parts, frame: str) -> Any:
    """The detector on `frame`, its boxes moved to pixels of `images`."""
    ratio = front.box_ratio(nodes, front.side_lengths(nodes, "images"), front.side_lengths(nodes, frame))
    (found,) = nodes.add(parts.high, "net", {parts.high.input[0].name: frame}).values()
    front.scale_boxes(nodes, found, ratio, parts.plan.postprocess.layout, out="detections")
    return make_model("dualres", nodes.nodes, nodes.weights, inputs, _outputs(nodes))


def _fixed(nodes: Nodes, parts: Parts, name: str, images: str) -> str:
    """The detector at one of its two fixed sizes, boxes in pixels of `images`."""
    assert parts.low is not None
    layout = parts.plan.postprocess.layout
    if parts.plan.stretch:
        shape = parts.plan.stretch[0 if name == "high" else 1]
        frame = front.resize(nodes, images, nodes.const([1, 3, *shape], np.int64), parts.plan.antialias)
        graph = parts.high if name == "high" else parts.low
        (found,) = nodes.add(graph, f"{name}_net", {graph.input[0].name: frame}).values()
        ratio = front.box_ratio(nodes, front.side_lengths(nodes, images), nodes.const(shape, np.int64))
        return front.scale_boxes(nodes, found, ratio, layout, out=f"{name}/scaled")
    assert parts.shape and parts.low_shape
    if name == "high":
        (found,) = nodes.add(parts.high, "high_net", {parts.high.input[0].name: images}).values()
        return found
    sizes = nodes.const([1, 3, *parts.low_shape], np.int64)
    small = front.resize(nodes, images, sizes, parts.plan.antialias)
    (found,) = nodes.add(parts.low, "low_net", {parts.low.input[0].name: small}).values()
    y, x = (high / low for high, low in zip(parts.shape, parts.low_shape))
    return front.scale_boxes(nodes, found, nodes.const([x, y, x, y], np.float32), layout, out="low/scaled")


def _padded(nodes: Nodes, found: str, parts: Parts) -> str:
    """Fill the low pass's anchors up with zeros, whose score no threshold lets pass.

    Engines such as TensorRT want outputs of one shape from both branches.
    """
    assert parts.low is not None
    counts = [g.output[0].type.tensor_type.shape.dim[2].dim_value for g in (parts.high, parts.low)]
    if not all(counts) or counts[0] == counts[1]:
        return found
    return nodes.op("Pad", found, nodes.const([0, 0, 0, 0, 0, counts[0] - counts[1]], np.int64))


def _branch(nodes: Nodes, rank: int) -> Any:
    h, t = nodes.onnx.helper, nodes.onnx.TensorProto
    output = h.make_tensor_value_info(f"{nodes.prefix}/frame", t.FLOAT, [None] * rank)
    return h.make_graph(nodes.nodes, nodes.prefix, [], [output])


def _images(nodes: Nodes, parts: Parts) -> Any:
    return _image_input(nodes, parts.shape)


def _image_input(nodes: Nodes, shape: Shape | None) -> Any:
    sides = list(shape) if shape else ["height", "width"]
    return nodes.onnx.helper.make_tensor_value_info("images", nodes.onnx.TensorProto.FLOAT, [1, 3, *sides])


def _outputs(nodes: Nodes) -> list[Any]:
    h, t = nodes.onnx.helper, nodes.onnx.TensorProto
    return [
        h.make_tensor_value_info("detections", t.FLOAT, [1, None, None]),
        h.make_tensor_value_info("route", t.BOOL, [1]),
        h.make_tensor_value_info("score", t.FLOAT, [1]),
    ]
