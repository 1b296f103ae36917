"""The four ways to put a router and a detector into ONNX, at two sizes or more."""

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
        plans: how the detector wants its input: one for each size below the largest, largest first.
        router: GraphProto, (1, 3, S, S) -> (1,).
        router_size: S.
        thresholds: defaults of that input, one for each of the `plans`.
        names: of all sizes: "high" and "low"; or "640", "512", …
        graphs: GraphProtos of the detector: one that is dynamic for `cond` and `resize`, else one for each size.
        shapes: (height, width) that the graphs are fixed to; empty where they are not.
        outside: the thumbnail is an input, instead of made from `images`.
    """

    plans: tuple[ExportPlan, ...]
    router: Any
    router_size: int
    thresholds: tuple[float, ...]
    names: tuple[str, ...]
    graphs: tuple[Any, ...]
    shapes: tuple[Shape, ...] = ()
    outside: bool = False

    @property
    def plan(self) -> ExportPlan:
        """What holds at every size."""
        return self.plans[0]


def cond(parts: Parts) -> Any:
    """One `If` that picks the resolution, then one detector with dynamic height and width (weights once).

    Of more than two sizes the branch that is not the largest holds the next `If`, and so on.

    Args:
        parts: with one dynamic graph.

    Returns:
        A ModelProto.
    """
    nodes, inputs = _start(parts)
    branches = [Nodes(name) for name in parts.names]
    if parts.plan.scales_photos:
        for branch, sides in zip(branches, front.photo_sides(nodes, "images", parts.plans)):
            front.resize(
                branch, "images", front.nchw(branch, sides), parts.plan.antialias, out=f"{branch.prefix}/frame"
            )
    else:
        whole, *smaller = branches
        whole.op("Identity", "images", out=f"{whole.prefix}/frame")
        for branch, plan in zip(smaller, parts.plans):
            sides = front.low_sides(branch, front.side_lengths(branch, "images"), plan)
            front.resize(branch, "images", front.nchw(branch, sides), plan.antialias, out=f"{branch.prefix}/frame")
    # Constants of the branches live outside: a runtime folds and shares them there.
    nodes.weights += [weight for branch in branches for weight in branch.weights]
    frame = _choose(nodes, front.routes(nodes, len(branches)), branches, rank=4, out="frame")
    return _finish(nodes, inputs, parts, frame)


def resize(parts: Parts) -> Any:
    """The same without `If`: the route picks a size, and one `Resize` makes the frame.

    Where some sizes are averaged and others sampled, there are two, and the one that is not wanted keeps its input.

    Args:
        parts: as of `cond`.

    Returns:
        A ModelProto.
    """
    nodes, inputs = _start(parts)
    if parts.plan.scales_photos:
        sides = front.photo_sides(nodes, "images", parts.plans)
    else:
        whole = front.side_lengths(nodes, "images")
        sides = [whole, *(front.low_sides(nodes, whole, plan) for plan in parts.plans)]
    routes, frame = front.routes(nodes, len(sides)), "images"
    wanted = front.chosen(nodes, routes, sides)
    averaged = {plan.antialias for plan in parts.plans}
    if len(averaged) == 2:
        sampled = [sides[0] if plan.antialias else side for plan, side in zip(parts.plans, sides[1:])]
        first = front.chosen(nodes, routes, [sides[0], *sampled])
        frame = front.resize(nodes, frame, front.nchw(nodes, first), antialias=False)
    frame = front.resize(nodes, frame, front.nchw(nodes, wanted), max(averaged), out="frame")
    return _finish(nodes, inputs, parts, frame)


def branches(parts: Parts) -> Any:
    """The detector in both branches of an `If`, each fixed to its size; equal weights are kept once.

    Of more than two sizes the `If`s lie in one another, as in `cond`.

    Args:
        parts: with one graph for each size.

    Returns:
        A ModelProto.
    """
    nodes, inputs = _start(parts)
    made = []
    for step, name in enumerate(parts.names):
        branch = Nodes(name)
        found = _fixed(branch, parts, step, "images")
        if step and parts.plan.postprocess.layout == "anchors":
            found = _padded(branch, found, parts, step)
        branch.op("Identity", found, out=f"{name}/frame")
        nodes.weights += branch.weights
        made.append(branch)
    _choose(nodes, front.routes(nodes, len(made)), made, rank=3, out="detections")
    return make_model("dualres", nodes.nodes, nodes.weights, inputs, _outputs(nodes, len(parts.names)))


def pair(parts: Parts) -> dict[str, Any]:
    """Graphs with fixed shapes: the router's, and one for each size.

    Args:
        parts: as of `branches`.

    Returns:
        ModelProtos: `router` (images, or the thumbnail, -> score, and route or step), `high` and `low`, or "640",
        "512", … (images -> detections).
    """
    nodes, inputs = _start(parts)
    outputs = _outputs(nodes, len(parts.names))
    inputs = inputs[1:] if parts.outside else inputs
    models = {"router": make_model("router", nodes.nodes, nodes.weights, inputs, outputs[1:])}
    for step, name in enumerate(parts.names):
        body = Nodes(name)
        body.op("Identity", _fixed(body, parts, step, "images"), out="detections")
        models[name] = make_model(name, body.nodes, body.weights, [_images(body, parts)], outputs[:1])
    return models


def plain(graph: Any, shape: Shape) -> Any:
    """The detector alone, for comparison: `images` -> `detections`.

    Args:
        graph: GraphProto of the detector.
        shape: (height, width) that it is fixed to.

    Returns:
        A ModelProto.
    """
    nodes = Nodes("plain")
    (found,) = nodes.add(graph, "net", {graph.input[0].name: "images"}).values()
    nodes.op("Identity", found, out="detections")
    return make_model("plain", nodes.nodes, nodes.weights, [_image_input(nodes, shape)], _outputs(nodes)[:1])


# -- parts ---------------------------------------------------------------------------------------------------


def _start(parts: Parts) -> tuple[Nodes, list[Any]]:
    """The router, and the inputs of the graph."""
    nodes = Nodes("route")
    inputs, defaults = front.router_inputs(nodes, parts.thresholds, parts.router_size if parts.outside else None)
    nodes.weights += defaults
    thumbnail = "thumbnail" if parts.outside else front.add_thumbnail(nodes, parts.router_size)
    front.add_router(nodes, parts.router, thumbnail, len(parts.names))
    return nodes, [_images(nodes, parts), *inputs]


def _finish(nodes: Nodes, inputs: list[Any], parts: Parts, frame: str) -> Any:
    """The detector on `frame`, its boxes moved to pixels of `images`."""
    (graph,) = parts.graphs
    ratio = front.box_ratio(nodes, front.side_lengths(nodes, "images"), front.side_lengths(nodes, frame))
    (found,) = nodes.add(graph, "net", {graph.input[0].name: frame}).values()
    front.scale_boxes(nodes, found, ratio, parts.plan.postprocess.layout, out="detections")
    return make_model("dualres", nodes.nodes, nodes.weights, inputs, _outputs(nodes, len(parts.names)))


def _fixed(nodes: Nodes, parts: Parts, step: int, images: str) -> str:
    """The detector at one of its fixed sizes, boxes in pixels of `images`."""
    layout, name, graph = parts.plan.postprocess.layout, parts.names[step], parts.graphs[step]
    if parts.plan.stretch:
        shape = front.each_size([plan.stretch for plan in parts.plans])[step]
        frame = front.resize(nodes, images, nodes.const([1, 3, *shape], np.int64), parts.plan.antialias)
        (found,) = nodes.add(graph, f"{name}_net", {graph.input[0].name: frame}).values()
        ratio = front.box_ratio(nodes, front.side_lengths(nodes, images), nodes.const(shape, np.int64))
        return front.scale_boxes(nodes, found, ratio, layout, out=f"{name}/scaled")
    if not step:
        (found,) = nodes.add(graph, f"{name}_net", {graph.input[0].name: images}).values()
        return found
    sizes = nodes.const([1, 3, *parts.shapes[step]], np.int64)
    small = front.resize(nodes, images, sizes, parts.plans[step - 1].antialias)
    (found,) = nodes.add(graph, f"{name}_net", {graph.input[0].name: small}).values()
    y, x = (high / low for high, low in zip(parts.shapes[0], parts.shapes[step]))
    return front.scale_boxes(nodes, found, nodes.const([x, y, x, y], np.float32), layout, out=f"{name}/scaled")


def _padded(nodes: Nodes, found: str, parts: Parts, step: int) -> str:
    """Fill a smaller pass's anchors up with zeros, whose score no threshold lets pass.

    Engines such as TensorRT want outputs of one shape from both branches.
    """
    counts = [g.output[0].type.tensor_type.shape.dim[2].dim_value for g in (parts.graphs[0], parts.graphs[step])]
    if not all(counts) or counts[0] == counts[1]:
        return found
    return nodes.op("Pad", found, nodes.const([0, 0, 0, 0, 0, counts[0] - counts[1]], np.int64))


def _choose(nodes: Nodes, routes: list[str], branches: list[Nodes], rank: int, out: str) -> str:
    """An `If` whose branch for what is smaller holds the next one, down to the smallest size."""
    route, *rest = routes
    first, smaller, *_ = branches
    if rest:
        smaller = Nodes(f"below_{first.prefix}")
        _choose(smaller, rest, branches[1:], rank, out=f"{smaller.prefix}/frame")
    return nodes.op("If", route, then_branch=_branch(first, rank), else_branch=_branch(smaller, rank), out=out)


def _branch(nodes: Nodes, rank: int) -> Any:
    h, t = nodes.onnx.helper, nodes.onnx.TensorProto
    output = h.make_tensor_value_info(f"{nodes.prefix}/frame", t.FLOAT, [None] * rank)
    return h.make_graph(nodes.nodes, nodes.prefix, [], [output])


def _images(nodes: Nodes, parts: Parts) -> Any:
    return _image_input(nodes, parts.shapes[0] if parts.shapes else None)


def _image_input(nodes: Nodes, shape: Shape | None) -> Any:
    sides = list(shape) if shape else ["height", "width"]
    return nodes.onnx.helper.make_tensor_value_info("images", nodes.onnx.TensorProto.FLOAT, [1, 3, *sides])


def _outputs(nodes: Nodes, count: int = 2) -> list[Any]:
    h, t = nodes.onnx.helper, nodes.onnx.TensorProto
    route = h.make_tensor_value_info("route", t.BOOL, [1])
    step = h.make_tensor_value_info("step", t.INT64, [1])
    return [
        h.make_tensor_value_info("detections", t.FLOAT, [1, None, None]),
        route if count == 2 else step,
        h.make_tensor_value_info("score", t.FLOAT, [1]),
    ]
