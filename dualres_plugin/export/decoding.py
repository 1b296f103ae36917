"""Decoding of box distributions, written so that runtimes do it fast.

Heads with a distribution focal loss (YOLOv8 to YOLO12, YOLOv6 of Ultralytics; Generalized Focal Loss, arXiv 2006.04388)
give every box side as a distribution over bins and decode it to its mean: a softmax over the bins, then a 1 x 1
convolution that weights them. Exported as it is written, the softmax runs over an axis that is neither the last nor
contiguous; ONNX Runtime then takes more than ten times as long for it as for the arithmetic, a tenth of the whole
detector.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dualres_plugin.export.graph import attribute, require_onnx

BINS_OUTSIDE = [0, 2, 1, 3]  # (1, 4, bins, anchors) -> (1, bins, 4, anchors)


def speed_up_distributions(graph: Any) -> int:
    """Rewrite `Transpose, Softmax, Conv` of such a head in place; it computes the same up to rounding.

    The mean of the bins is two sums over them, one weighted, and their ratio: one matrix product of (2, bins) with
    the exponentials, which needs no transposition.

    Args:
        graph: GraphProto of a detector.

    Returns:
        How many were rewritten: 0 for a detector without such a head.
    """
    onnx = require_onnx()
    weights = {w.name: w for w in graph.initializer}
    found = [parts for node in graph.node if (parts := _distribution(node, graph, weights))]
    for flip, softmax, conv, bins in found:
        made, constants = _expectation(flip.input[0], conv.output[0], bins)
        at = list(graph.node).index(flip)
        for node in (flip, softmax, conv):
            graph.node.remove(node)
        rest = [onnx.NodeProto.FromString(n.SerializeToString()) for n in graph.node]
        del graph.node[:]
        graph.node.extend([*rest[:at], *made, *rest[at:]])
        graph.initializer.extend(constants)
    return len(found)


def _distribution(conv: Any, graph: Any, weights: dict[str, Any]) -> tuple[Any, Any, Any, np.ndarray] | None:
    """(transpose, softmax, convolution, bins) if this convolution takes the mean of distributions, else None."""
    if conv.op_type != "Conv" or len(conv.input) != 2 or conv.input[1] not in weights:
        return None
    kernel = require_onnx().numpy_helper.to_array(weights[conv.input[1]])
    if kernel.shape[0] != 1 or kernel.shape[2:] != (1, 1) or attribute(conv, "strides", [1, 1]) != [1, 1]:
        return None
    softmax = _made_by(conv.input[0], graph, "Softmax")
    flip = _made_by(softmax.input[0], graph, "Transpose") if softmax else None
    if softmax is None or flip is None:
        return None
    if attribute(softmax, "axis", -1) != 1 or attribute(flip, "perm", []) != BINS_OUTSIDE:
        return None
    # The result has its axes of one and four the other way round, which only a `Reshape` does not see.
    if [n.op_type for n in _readers(conv.output[0], graph)] != ["Reshape"]:
        return None
    if any(len(_readers(node.output[0], graph)) != 1 for node in (flip, softmax)):
        return None
    return flip, softmax, conv, kernel.reshape(1, -1)


def _expectation(logits: str, out: str, bins: np.ndarray) -> tuple[list[Any], list[Any]]:
    """Nodes and constants: (1, 4, bins, anchors) logits -> (1, 4, 1, anchors) means, named `out`."""
    helper, arrays = require_onnx().helper, require_onnx().numpy_helper
    constants = [
        arrays.from_array(np.concatenate([bins, np.ones_like(bins)]), f"{out}/bins"),
        arrays.from_array(np.array([2], np.int64), f"{out}/axis"),
    ]
    steps = [
        # Without its largest logit a distribution cannot overflow, in half precision either.
        ("ReduceMax", [logits, f"{out}/axis"], [f"{out}/peak"], {"keepdims": 1}),
        ("Sub", [logits, f"{out}/peak"], [f"{out}/shifted"], {}),
        ("Exp", [f"{out}/shifted"], [f"{out}/exp"], {}),
        ("MatMul", [f"{out}/bins", f"{out}/exp"], [f"{out}/sums"], {}),
        ("Split", [f"{out}/sums"], [f"{out}/weighted", f"{out}/total"], {"axis": 2, "num_outputs": 2}),
        ("Div", [f"{out}/weighted", f"{out}/total"], [out], {}),
    ]
    nodes = [helper.make_node(kind, given, made, name=made[0], **extra) for kind, given, made, extra in steps]
    return nodes, constants


def _made_by(name: str, graph: Any, kind: str) -> Any | None:
    return next((n for n in graph.node if n.op_type == kind and name in n.output), None)


def _readers(name: str, graph: Any) -> list[Any]:
    return [n for n in graph.node if name in n.input]
