"""The part of an exported graph before the detector: thumbnail, router, route, and the size that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dualres_plugin.export.graph import Nodes

if TYPE_CHECKING:
    from dualres_plugin.hosts.export_plan import ExportPlan

Pair = tuple[int, int]
WHOLE = (0, 0, 2**31 - 1, 2**31 - 1)  # a content box that covers any frame: ONNX `Slice` stops at the edge
# Sizes are multiples of the stride, so size/stride is a small integer; float32 keeps its product with the
# scale to 1e-6, and no ratio of two sizes in pixels comes this close to an integer without being one.
ROUND_UP_SLACK = 1e-4


def router_inputs(
    nodes: Nodes, thresholds: Sequence[float], thumbnail: int | None = None
) -> tuple[list[Any], list[Any]]:
    """The optional inputs `threshold` and `content`; of more than two sizes `thresholds` (K-1,) and `content`.

    Args:
        nodes: of the graph.
        thresholds: defaults of the former; the other's is the whole frame.
        thumbnail: side S of a thumbnail that comes from outside: the input `thumbnail` (1, 3, S, S) takes the place of
            `content`, and has no default.

    Returns:
        Their descriptions, and the weights that hold their defaults.
    """
    h, t = nodes.onnx.helper, nodes.onnx.TensorProto
    several = len(thresholds) > 1
    name, shape = ("thresholds", [len(thresholds)]) if several else ("threshold", [])
    limit = h.make_tensor_value_info(name, t.FLOAT, shape)
    default = h.make_tensor(name, t.FLOAT, shape, thresholds)
    if thumbnail:
        return [h.make_tensor_value_info("thumbnail", t.FLOAT, [1, 3, thumbnail, thumbnail]), limit], [default]
    content = h.make_tensor_value_info("content", t.INT64, [4])
    return [limit, content], [default, h.make_tensor("content", t.INT64, [4], WHOLE)]


def add_thumbnail(nodes: Nodes, size: int) -> str:
    """`images`, `content` -> the router's own thumbnail: content only, antialiased bilinear.

    Args:
        nodes: of the graph, which gains these.
        size: side of the thumbnail in pixels.

    Returns:
        Its name.
    """
    starts = nodes.op("Gather", "content", nodes.const([1, 0], np.int64))
    ends = nodes.op("Gather", "content", nodes.const([3, 2], np.int64))
    photo = nodes.op("Slice", "images", starts, ends, nodes.const([2, 3], np.int64))
    sizes = nodes.const([1, 3, size, size], np.int64)
    # No clamp as in PyTorch: weights that are positive and add up to one leave [0, 1] by rounding only.
    return resize(nodes, photo, sizes, antialias=True)


def add_router(nodes: Nodes, router: Any, thumbnail: str, count: int) -> None:
    """A thumbnail, `threshold` -> `score` (1,) and `route` (1,) bool, true for high (Eq. 3).

    Of more than two sizes `thresholds` gives `step` (1,) int64 instead: how many of them the score is not above.

    Args:
        nodes: of the graph, which gains these.
        router: the router's GraphProto, (1, 3, S, S) -> (1,).
        thumbnail: name of what it takes.
        count: of sizes.
    """
    (score,) = nodes.add(router, "router", {router.input[0].name: thumbnail}).values()
    nodes.op("Identity", score, out="score")
    if count == 2:
        nodes.op("Greater", score, "threshold", out="route")
        return
    above = nodes.op("Cast", nodes.op("Greater", score, "thresholds"), to=nodes.onnx.TensorProto.INT64)
    nodes.op("Sub", nodes.const([count - 1], np.int64), nodes.op("ReduceSum", above, keepdims=1), out="step")


def routes(nodes: Nodes, count: int) -> list[str]:
    """What the router has chosen, as conditions.

    Args:
        nodes: of the graph, after `add_router`.
        count: of sizes.

    Returns:
        For each size but the smallest the name of a (1,) bool, true where it is the image's.
    """
    if count == 2:
        return ["route"]
    return [nodes.op("Equal", "step", nodes.const([number], np.int64)) for number in range(count - 1)]


def resize(nodes: Nodes, image: str, sizes: str, antialias: bool, out: str | None = None) -> str:
    """Bilinear `Resize`, as torch's `interpolate(align_corners=False)`.

    Args:
        nodes: of the graph.
        image: name of (1, 3, H, W).
        sizes: name of the wanted NCHW, int64.
        antialias: average over the pixels that shrink into one.
        out: name of the result; None makes one.

    Returns:
        The name of the result.
    """
    return nodes.op(
        "Resize", image, "", "", sizes, out=out, mode="linear", antialias=int(antialias),
        coordinate_transformation_mode="half_pixel", exclude_outside=int(antialias),
    )  # fmt: skip


def side_lengths(nodes: Nodes, image: str) -> str:
    """Name of the (height, width) of an image, int64.

    Args:
        nodes: of the graph.
        image: name of (1, 3, H, W).
    """
    return nodes.op("Shape", image, start=2, end=4)


def chosen(nodes: Nodes, conditions: Sequence[str], values: Sequence[str]) -> str:
    """One value for each size -> the one of the image's size.

    Args:
        nodes: of the graph.
        conditions: what `routes` returned.
        values: names, largest size first, one more than the conditions.

    Returns:
        The name of the result.
    """
    *larger, found = values
    for condition, value in zip(reversed(conditions), reversed(larger)):
        found = nodes.op("Where", condition, value, found)
    return found


def low_sides(nodes: Nodes, high: str, plan: ExportPlan) -> str:
    """`resize.low_size` in the graph: `ceil(size * scale / stride) * stride` per axis.

    Args:
        nodes: of the graph.
        high: name of the (height, width) at high, multiples of the stride, as every host pads to.
        plan: scale and stride.

    Returns:
        The name of the (height, width) at low.
    """
    stride = nodes.const([plan.stride, plan.stride], np.int64)
    steps = nodes.op("Cast", nodes.op("Div", high, stride), to=nodes.onnx.TensorProto.FLOAT)
    scaled = nodes.op("Mul", steps, nodes.const(plan.scale, np.float32))
    up = nodes.op("Ceil", nodes.op("Sub", scaled, nodes.const(ROUND_UP_SLACK, np.float32)))
    low = nodes.op("Mul", nodes.op("Cast", up, to=nodes.onnx.TensorProto.INT64), stride)
    return nodes.op("Max", low, stride)


def fitted_sides(nodes: Nodes, sides: str, shortest: int, longest: int) -> str:
    """Torchvision's rule: `floor(side * min(shortest / min(sides), longest / max(sides)))`, in double precision.

    Args:
        nodes: of the graph.
        sides: name of the photo's (height, width).
        shortest, longest: that the sides are scaled to, in pixels.

    Returns:
        The name of the scaled (height, width), int64.
    """
    t = nodes.onnx.TensorProto
    exact = nodes.op("Cast", sides, to=t.DOUBLE)
    smaller = nodes.op("ReduceMin", exact, keepdims=1)
    larger = nodes.op("ReduceMax", exact, keepdims=1)
    fit_short = nodes.op("Div", nodes.const(shortest, np.float64), smaller)
    fit_long = nodes.op("Div", nodes.const(longest, np.float64), larger)
    factor = nodes.op("Min", fit_short, fit_long)
    return nodes.op("Cast", nodes.op("Floor", nodes.op("Mul", exact, factor)), to=t.INT64)


def photo_sides(nodes: Nodes, image: str, plans: Sequence[ExportPlan]) -> list[str]:
    """Sides that a graph which scales photos itself gives them.

    Args:
        nodes: of the graph.
        image: name of the photo, (1, 3, H, W).
        plans: one for each size below the largest; they have `fit` or `stretch`.

    Returns:
        Names of the (height, width) at every size, largest first.
    """
    if all(plan.stretch for plan in plans):
        return [nodes.const(sides, np.int64) for sides in each_size([plan.stretch for plan in plans])]
    sides = side_lengths(nodes, image)
    return [fitted_sides(nodes, sides, *fit) for fit in each_size([plan.fit for plan in plans])]


def each_size(pairs: Sequence[tuple[Pair, Pair] | None]) -> list[Pair]:
    """What plans say of high and low, as a list of every size, largest first.

    Args:
        pairs: of each size below the largest: what holds at the largest size, and at this one.
    """
    known = [pair for pair in pairs if pair is not None]
    return [known[0][0], *(low for _, low in known)]


def nchw(nodes: Nodes, sides: str) -> str:
    """(height, width) -> (1, 3, height, width).

    Args:
        nodes: of the graph.
        sides: name of the former.

    Returns:
        The name of the latter.
    """
    return nodes.op("Concat", nodes.const([1, 3], np.int64), sides, axis=0)


def box_ratio(nodes: Nodes, frame: str, used: str) -> str:
    """Factors that take boxes from one frame to another.

    Args:
        nodes: of the graph.
        frame: name of the (height, width) that they go to.
        used: name of the (height, width) that they come from.

    Returns:
        The name of (4,) float [x, y, x, y].
    """
    t = nodes.onnx.TensorProto
    ratio = nodes.op("Div", nodes.op("Cast", frame, to=t.FLOAT), nodes.op("Cast", used, to=t.FLOAT))
    return nodes.op("Gather", ratio, nodes.const([1, 0, 1, 0], np.int64))


def scale_boxes(nodes: Nodes, found: str, ratio: str, layout: str, out: str) -> str:
    """Multiply the boxes of a detector's output.

    Args:
        nodes: of the graph.
        found: name of the output.
        ratio: name of the (4,) factors.
        layout: "anchors" (1, 4 + classes, N) or "rows" (1, N, 6).
        out: name of the result.

    Returns:
        The name of the result.
    """
    axis, shape = (1, [1, 4, 1]) if layout == "anchors" else (2, [1, 1, 4])
    factors = nodes.op("Reshape", ratio, nodes.const(shape, np.int64))
    # Most heads end in Concat(boxes, scores): scale before it, or the scores would be copied twice more.
    last = nodes.nodes[-1] if nodes.nodes else None
    joined = next((n for n in reversed(nodes.nodes) if found in n.output), last)
    if layout == "anchors" and joined is not None and joined.op_type == "Concat" and len(joined.input) == 2:
        nodes.nodes.remove(joined)
        boxes, scores = joined.input
        return nodes.op("Concat", nodes.op("Mul", boxes, factors), scores, out=out, axis=1)
    start, four, end = (nodes.const([v], np.int64) for v in (0, 4, 2**31 - 1))
    axes = nodes.const([axis], np.int64)
    boxes = nodes.op("Mul", nodes.op("Slice", found, start, four, axes), factors)
    return nodes.op("Concat", boxes, nodes.op("Slice", found, four, end, axes), out=out, axis=axis)
