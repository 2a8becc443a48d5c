"""One form for every ONNX graph before it is converted, and what is asked of a graph.

Tools that convert graphs know weights that are initializers of the outermost graph. A file may
keep them in Constant nodes of many forms, in sparse tensors, inside the branches of an If or in
functions of its own, and may give one out as a result. ``normalise`` rewrites all of these; what
the graph computes stays the same.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, inliner, numpy_helper

from compress.errors import ExportError
from compress.onnx_file import graphs_within, nodes_of

# What multiplies by weights, which are one of the first two inputs.
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# A file of a few bytes may hold a sparse tensor of any size.
MAX_BYTES = 2**31
# Names that a message lists.
SHOWN = 5


def normalise(model: onnx.ModelProto) -> None:
    """Makes every constant an initializer of the outermost graph, in place.

    Functions of the file are written out where they are called, sparse tensors become dense, and
    an output that is a constant becomes the result of an Identity. Inputs and outputs keep their
    names.

    Raises:
        ExportError: a sparse tensor is too large.
        ValueError, TypeError, or an error of onnx: the graph is damaged.
    """
    if model.functions:
        # The operator sets of a function may be other ones than the graph's.
        model.CopyFrom(inliner.inline_local_functions(model, convert_version=True))
    for entry in (*model.opset_import, *nodes_of(model.graph)):
        if entry.domain == "ai.onnx":
            entry.domain = ""  # the same operators
    _normalise(model.graph, model.graph, Counter(_defined(model.graph)))


def sort_nodes(model: onnx.ModelProto) -> None:
    """Puts the nodes of the outermost graph after those that they need, in place.

    What graphs within a node read counts as read by the node; ONNX Runtime's own sorting overlooks
    that.

    Raises:
        ValueError: nodes need each other.
    """
    graph = model.graph
    makers = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    needs = [
        {makers[name] for name in (*node.input, *_read_within(node)) if name in makers}
        for node in graph.node
    ]
    users: list[list[int]] = [[] for _ in needs]
    for place, needed in enumerate(needs):
        for maker in needed:
            users[maker].append(place)
    missing = [len(needed) for needed in needs]
    ready = [place for place, count in enumerate(missing) if not count]
    order = []
    while ready:
        order.append(heapq.heappop(ready))
        for user in users[order[-1]]:
            missing[user] -= 1
            if not missing[user]:
                heapq.heappush(ready, user)
    if len(order) < len(needs):
        circle = next(node for node, count in zip(graph.node, missing, strict=True) if count)
        raise ValueError(f"{called(circle)} depends on its own result")
    nodes = [onnx.NodeProto.FromString(graph.node[place].SerializeToString()) for place in order]
    del graph.node[:]
    graph.node.extend(nodes)


def pass_by_identity(model: onnx.ModelProto) -> None:
    """Lets graphs within nodes read what nodes outside make through an Identity, in place.

    A quantiser replaces a value where nodes of the outermost graph read it, and there alone.
    """
    graph = model.graph
    taken = Counter(_defined(graph))
    outside = {name for node in graph.node for name in (*node.input, *node.output)}
    outside |= {entry.name for entry in graph.input}
    read = {name for node in graph.node for name in _read_within(node)}
    names = {name: _fresh(name, taken) for name in sorted(read & outside - {""})}
    for node in graph.node:
        for inner in graphs_within(node):
            _rename(inner, names)
    for name, new in names.items():
        graph.node.add().CopyFrom(helper.make_node("Identity", [name], [new], new))
    sort_nodes(model)


def products(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, list[TensorProto]]]:
    """Convolutions and products by weights, each with the initializers that make up its weights."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    yield from _products(model.graph, tensors, {name: frozenset([name]) for name in tensors})


def called(node: onnx.NodeProto) -> str:
    """A node by its kind and its name, or by its result where it has no name."""
    return f"{node.op_type} '{node.name or next(iter(node.output), '')}'"


def listed(names: list[str]) -> str:
    """The first few of them, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def fixed_reshapes(model: onnx.ModelProto) -> list[str]:
    """The nodes that reshape to a fixed number of rows."""
    rows = {
        tensor.name: int(numpy_helper.to_array(tensor).flat[0])
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.INT64 and math.prod(tensor.dims) > 0
    }
    return [
        called(node)
        for node in nodes_of(model.graph)
        if node.op_type == "Reshape" and rows.get(node.input[1], 0) > 0
    ]


def control_flow(model: onnx.ModelProto) -> list[str]:
    """The nodes that hold graphs."""
    return [called(node) for node in nodes_of(model.graph) if any(graphs_within(node))]


def _normalise(graph: onnx.GraphProto, outermost: onnx.GraphProto, taken: Counter[str]) -> None:
    for sparse in graph.sparse_initializer:
        graph.initializer.add().CopyFrom(_dense(sparse, sparse.values.name))
    del graph.sparse_initializer[:]
    for place in reversed(range(len(graph.node))):
        tensor = _constant(graph.node[place])
        if tensor is not None:
            graph.initializer.add().CopyFrom(tensor)
            del graph.node[place]
    given = {output.name for output in graph.output}
    names: dict[str, str] = {}
    for tensor in graph.initializer:
        # Two branches may have constants of the same name.
        if tensor.name in given or (graph is not outermost and taken[tensor.name] > 1):
            names[tensor.name] = tensor.name = _fresh(tensor.name, taken)
    _rename(graph, names)
    for name in sorted(given & names.keys()):
        graph.node.add().CopyFrom(helper.make_node("Identity", [names[name]], [name], name))
    if graph is not outermost:
        outermost.initializer.extend(graph.initializer)
        del graph.initializer[:]
    for node in graph.node:
        for inner in graphs_within(node):
            _normalise(inner, outermost, taken)


def _constant(node: onnx.NodeProto) -> TensorProto | None:
    """What a Constant node gives; None for another node."""
    if node.op_type != "Constant" or node.domain or not node.attribute:
        return None
    (name,), (attribute,) = node.output, node.attribute
    value = helper.get_attribute_value(attribute)
    tensor = TensorProto()
    if attribute.name == "value":
        tensor.CopyFrom(value)
    elif attribute.name == "sparse_value":
        tensor.CopyFrom(_dense(value, name))
    elif attribute.name in ("value_float", "value_floats"):
        tensor.CopyFrom(numpy_helper.from_array(np.array(value, np.float32)))
    elif attribute.name in ("value_int", "value_ints"):
        tensor.CopyFrom(numpy_helper.from_array(np.array(value, np.int64)))
    elif attribute.name in ("value_string", "value_strings"):
        texts = [value] if attribute.name == "value_string" else list(value)
        shape = [] if attribute.name == "value_string" else [len(texts)]
        tensor.CopyFrom(helper.make_tensor(name, TensorProto.STRING, shape, texts))
    else:
        return None
    tensor.name = name
    return tensor


def _dense(sparse: onnx.SparseTensorProto, name: str) -> TensorProto:
    values, places = (numpy_helper.to_array(each) for each in (sparse.values, sparse.indices))
    shape = tuple(sparse.dims)
    if math.prod(shape) * values.itemsize > MAX_BYTES:
        sizes = "x".join(map(str, shape))
        raise ExportError(
            f"The sparse tensor '{name}' has {sizes} values, more than an ONNX file can hold. "
            "Export the file again without it."
        )
    made = np.zeros(shape, values.dtype)
    if places.ndim == 1:
        made.reshape(-1)[places] = values
    else:
        made[tuple(places.T)] = values
    return numpy_helper.from_array(made, name)


def _fresh(name: str, taken: Counter[str]) -> str:
    """A name like it that nothing has, which it has from now on."""
    number = 1
    while f"{name}_{number}" in taken:
        number += 1
    taken[f"{name}_{number}"] += 1
    return f"{name}_{number}"


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Lets nodes read values by their new names."""
    if names:
        for node in nodes_of(graph):
            for place, name in enumerate(node.input):
                node.input[place] = names.get(name, name)


def _defined(graph: onnx.GraphProto) -> Iterator[str]:
    """Names of values, as often as one is given."""
    yield from (each.name for each in (*graph.input, *graph.initializer))
    yield from (each.values.name for each in graph.sparse_initializer)
    for node in graph.node:
        yield from node.output
        for inner in graphs_within(node):
            yield from _defined(inner)


def _read_within(node: onnx.NodeProto) -> Iterator[str]:
    """Names that graphs within a node read; what they make themselves is among them."""
    for inner in _within(node):
        yield from inner.input


def _within(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    for inner in graphs_within(node):
        yield from nodes_of(inner)


def _products(
    graph: onnx.GraphProto,
    tensors: Mapping[str, TensorProto],
    known: Mapping[str, frozenset[str]],
) -> Iterator[tuple[onnx.NodeProto, list[TensorProto]]]:
    """``known`` are values that no image changes, with the initializers that they are made of."""
    made = dict(known)
    for node in graph.node:
        constant = [made.get(name) for name in node.input if name]
        inner = list(graphs_within(node))
        if constant and None not in constant and not inner:
            sources = frozenset().union(*(each for each in constant if each))
            made.update(dict.fromkeys(node.output, sources))
        elif node.op_type in PRODUCTS:
            names = [name for each in node.input[:2] for name in made.get(each, ())]
            if names:
                yield node, [tensors[name] for name in names]
        for each in inner:
            yield from _products(each, tensors, made)
