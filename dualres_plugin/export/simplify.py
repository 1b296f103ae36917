"""A traced router with fewer steps: it is so small that every step which is no convolution shows in its time."""

from __future__ import annotations

from typing import Any

import numpy as np

from dualres_plugin.common.card import HALF_ABOVE
from dualres_plugin.export.graph import require_onnx

SPATIAL = [2, 3]  # axes of height and width in (B, C, H, W)


def simplify_router(graph: Any) -> None:
    """Write a router with fewer steps; it computes the same up to rounding.

    Args:
        graph: GraphProto of a traced router, changed in place.
    """
    fold_scale(graph)
    pool_globally(graph)


def fold_scale(graph: Any) -> None:
    """Put the division by the standard deviation into the weights of the first convolution.

    The mean stays a step of its own: a convolution pads with zeros, which are the mean only after it was subtracted.
    A mean of zeros and a deviation of ones go altogether.

    Args:
        graph: GraphProto, changed in place.
    """
    weights = _weights(graph)
    for node in list(graph.node):
        if node.op_type not in ("Sub", "Div") or node.input[1] not in weights:
            continue
        values = _array(weights[node.input[1]])
        if values.shape[:1] + values.shape[2:] != (1, 1, 1):  # not one value a channel
            continue
        users = [n for n in graph.node if node.output[0] in n.input]
        if (values == (1 if node.op_type == "Div" else 0)).all():
            _bypass(graph, node, users)
        elif node.op_type == "Div" and len(users) == 1 and _can_take(users[0], graph, weights):
            kernel = weights[users[0].input[1]]
            kernel.CopyFrom(_tensor((_array(kernel) / values).astype(np.float32), kernel.name))
            _bypass(graph, node, users)


def pool_globally(graph: Any) -> None:
    """Averages over height and width as `GlobalAveragePool`, joined before they are flattened.

    ONNX Runtime pools in the layout of its fast convolutions, but would bring whole feature maps back into the plain
    one for a `ReduceMean`.

    Args:
        graph: GraphProto, changed in place.
    """
    weights = _weights(graph)
    means = {n.output[0] for n in graph.node if _is_spatial_mean(n, weights)}
    read_once = {name for name in means if sum(list(n.input).count(name) for n in graph.node) == 1}
    joins = [n for n in graph.node if n.op_type == "Concat" and n.attribute[0].i == 1 and set(n.input) <= read_once]
    joined = {name for n in joins for name in n.input}
    nodes = []
    for node in graph.node:
        flat = node.output[0]
        if flat in means:
            nodes.append(_make("GlobalAveragePool", [node.input[0]], [f"{flat}/map"], node.name))
            if flat in joined:
                continue
        elif node in joins:
            maps = [f"{name}/map" for name in node.input]
            nodes.append(_make("Concat", maps, [f"{flat}/map"], node.name, axis=1))
        else:
            nodes.append(type(node).FromString(node.SerializeToString()))
            continue
        nodes.append(_make("Flatten", [f"{flat}/map"], [flat], f"{node.name}/flat"))
    del graph.node[:]
    graph.node.extend(nodes)


def store_in_half(graph: Any) -> None:
    """Store the large weights in 16 bits, each with a `Cast` back, which a runtime does once, when it loads the file.

    Args:
        graph: GraphProto of a router, changed in place; nothing may look for these weights afterwards.
    """
    onnx = require_onnx()
    casts = []
    for weight in graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT or np.prod(weight.dims) <= HALF_ABOVE:
            continue
        values, name = _array(weight), weight.name
        if np.abs(values).max() > np.finfo(np.float16).max:
            continue
        weight.CopyFrom(_tensor(values.astype(np.float16), f"{name}/half"))
        casts.append(
            onnx.helper.make_node("Cast", [weight.name], [name], name=f"{name}/cast", to=onnx.TensorProto.FLOAT)
        )
    nodes = [*casts, *(type(n).FromString(n.SerializeToString()) for n in graph.node)]
    del graph.node[:]
    graph.node.extend(nodes)


def _can_take(conv: Any, graph: Any, weights: dict[str, Any]) -> bool:
    """Is this a convolution of all channels, whose weights nobody else reads?"""
    if conv.op_type != "Conv" or conv.input[1] not in weights:
        return False
    groups = next((a.i for a in conv.attribute if a.name == "group"), 1)
    return groups == 1 and sum(list(n.input).count(conv.input[1]) for n in graph.node) == 1


def _is_spatial_mean(node: Any, weights: dict[str, Any]) -> bool:
    if node.op_type != "ReduceMean" or len(node.input) != 2 or node.input[1] not in weights:
        return False
    kept = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
    return not kept and _array(weights[node.input[1]]).tolist() == SPATIAL


def _bypass(graph: Any, node: Any, users: list[Any]) -> None:
    for user in users:
        user.input[:] = [node.input[0] if name == node.output[0] else name for name in user.input]
    graph.node.remove(node)


def _make(kind: str, inputs: list[str], outputs: list[str], name: str, **attributes: int) -> Any:
    return require_onnx().helper.make_node(kind, inputs, outputs, name=name, **attributes)


def _weights(graph: Any) -> dict[str, Any]:
    return {w.name: w for w in graph.initializer}


def _array(tensor: Any) -> np.ndarray:
    values: np.ndarray = require_onnx().numpy_helper.to_array(tensor)
    return values


def _tensor(values: np.ndarray, name: str) -> Any:
    return require_onnx().numpy_helper.from_array(values, name)
