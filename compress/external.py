"""Where an ONNX file keeps its tensors: within itself, or in files beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto

# onnx.TensorProto.EXTERNAL; onnx takes a while to import.
EXTERNAL = 1


def tensors_of(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor: initialisers, those in attributes of nodes, and those of inner graphs."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _of_node(node)


def external_files(model: ModelProto) -> dict[str, int]:
    """File beside the model -> the byte that the last of its tensors ends at."""
    ends: dict[str, int] = {}
    for tensor in tensors_of(model):
        if tensor.data_location == EXTERNAL:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
            name = entries.get("location", "")
            ends[name] = max(end, ends.get(name, 0))
    return ends


def _of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _of_node(node)


def _of_node(node: Any) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        for each in (*sparse, *attribute.sparse_tensors):
            yield from (each.values, each.indices)
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from _of_graph(graph)
