"""Small helpers to write ONNX graphs by hand: nodes, renaming, shared weights, tidying."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dualres_plugin.common.errors import DualResError

OPSET = 18  # the first with antialiased Resize; the last that the hosts' exporters write by default
IR_VERSION = 10


def require_onnx() -> Any:
    """The `onnx` package.

    Raises:
        DualResError: If it is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise DualResError('export needs onnx. Install it with: pip install "dualres-plugin[export]"') from None
    return onnx


class Nodes:
    """ONNX nodes under construction; `op` returns the name of what it computes.

    Args:
        prefix: starts every name, so that several groups of nodes live in one graph.
    """

    def __init__(self, prefix: str):
        self.onnx = require_onnx()
        self.prefix = prefix
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._count = 0

    def op(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """Append a node.

        Args:
            kind: operator.
            *inputs: names; "" leaves an optional one out.
            out: name of what it computes; None makes one.
            **attributes: of the operator.

        Returns:
            The name of what it computes.
        """
        name = out or self._name(kind)
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def const(self, value: Any, dtype: Any) -> str:
        """Add a constant.

        Args:
            value: anything that numpy makes an array of.
            dtype: numpy's.

        Returns:
            Its name.
        """
        name = self._name("const")
        self.weights.append(self.onnx.numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def add(self, graph: Any, prefix: str, mapping: dict[str, str]) -> dict[str, str]:
        """Append another graph's nodes and weights.

        Args:
            graph: a GraphProto; it is not changed.
            prefix: put before its names.
            mapping: its input names -> names here.

        Returns:
            Its output names -> names here.
        """
        names = Renamed(prefix, mapping)
        self.nodes += [names.node(node) for node in graph.node]
        for weight in graph.initializer:
            copy = self.onnx.TensorProto()
            copy.CopyFrom(weight)
            copy.name = names(weight.name)
            self.weights.append(copy)
        return {out.name: names(out.name) for out in graph.output}

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{self.prefix}/{kind.lower()}_{self._count}"


class Renamed:
    """Puts a prefix before every name of a graph, subgraphs included, but for those that a mapping names."""

    def __init__(self, prefix: str, mapping: dict[str, str]):
        self.prefix = prefix
        self.mapping = mapping

    def __call__(self, name: str) -> str:
        return self.mapping.get(name, f"{self.prefix}/{name}") if name else ""

    def node(self, node: Any) -> Any:
        """A renamed copy of a NodeProto."""
        copy = type(node)()
        copy.CopyFrom(node)
        copy.name = self(node.name)
        copy.input[:] = [self(name) for name in node.input]
        copy.output[:] = [self(name) for name in node.output]
        for attribute in copy.attribute:
            if attribute.HasField("g"):
                self._graph(attribute.g)
        return copy

    def _graph(self, graph: Any) -> None:
        renamed = [self.node(node) for node in graph.node]
        del graph.node[:]
        graph.node.extend(renamed)
        for item in (*graph.initializer, *graph.input, *graph.output):
            item.name = self(item.name)


def attribute(node: Any, name: str, default: Any) -> Any:
    """The value of a node's attribute.

    Args:
        node: a NodeProto.
        name: of the attribute.
        default: what it is where none is given.
    """
    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else require_onnx().helper.get_attribute_value(found)


def walk(graph: Any) -> Iterator[Any]:
    """Every node of a graph and of its subgraphs.

    Args:
        graph: a GraphProto.

    Yields:
        Each before those of its own subgraphs.
    """
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from walk(attribute.g)


def share_weights(graph: Any) -> None:
    """Keep one of every set of equal weights, and none that no node reads.

    Args:
        graph: a GraphProto, changed in place.
    """
    kept: dict[bytes, str] = {}
    same: dict[str, str] = {}
    weights = []
    inputs = {i.name for i in graph.input}  # defaults of optional inputs are not constants
    used = {name for node in walk(graph) for name in node.input} | inputs
    for weight in graph.initializer:
        if weight.name not in used:
            continue
        name = weight.name
        if name not in inputs:
            weight.name = ""
            name_or_first = kept.setdefault(hashlib.sha256(weight.SerializeToString(deterministic=True)).digest(), name)
            weight.name = name
            if name_or_first != name:
                same[name] = name_or_first
                continue
        weights.append(weight)
    copies = [type(w).FromString(w.SerializeToString()) for w in weights]
    del graph.initializer[:]
    graph.initializer.extend(copies)
    for node in walk(graph):
        node.input[:] = [same.get(name, name) for name in node.input]


def tidy(graph: Any) -> None:
    """Drop what exporters leave behind and no runtime needs: traces of Python source, inferred shapes.

    Args:
        graph: a GraphProto, changed in place.
    """
    del graph.value_info[:]
    del graph.metadata_props[:]
    graph.doc_string = ""
    for node in walk(graph):
        del node.metadata_props[:]
        node.doc_string = ""
        for attribute in node.attribute:
            attribute.doc_string = ""
            if attribute.HasField("g"):
                del attribute.g.value_info[:]
                del attribute.g.metadata_props[:]
                attribute.g.doc_string = ""


def as_weights(graph: Any) -> None:
    """Turn `Constant` nodes into weights, so that equal ones are shared and nothing hides in a subgraph.

    Args:
        graph: a GraphProto, changed in place.
    """
    onnx = require_onnx()
    rest = []
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = onnx.TensorProto()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
        else:
            rest.append(node)
    copies = [type(n).FromString(n.SerializeToString()) for n in rest]
    del graph.node[:]
    graph.node.extend(copies)


def make_model(
    name: str, nodes: Sequence[Any], weights: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any]
) -> Any:
    """A checked, tidied ModelProto.

    Args:
        name: of the graph.
        nodes: NodeProtos in the order they run.
        weights: TensorProtos; equal ones are kept once.
        inputs, outputs: ValueInfoProtos.

    Raises:
        onnx.checker.ValidationError: If they make no graph.
    """
    onnx = require_onnx()
    graph = onnx.helper.make_graph(list(nodes), name, list(inputs), list(outputs), list(weights))
    tidy(graph)
    share_weights(graph)
    model = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="dualres-plugin",
    )
    onnx.checker.check_model(model)
    return model
