"""What an ONNX file claims: a few bytes of it can claim terabytes, or take a runtime hours."""

from __future__ import annotations

import math
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from compress.errors import ModelFileError
from compress.files import LFS_POINTER_BYTES, is_lfs_pointer, lfs_advice

if TYPE_CHECKING:
    from onnx import (
        AttributeProto,
        GraphProto,
        ModelProto,
        NodeProto,
        TensorProto,
        ValueInfoProto,
    )

# Graphs within graphs, such as an If within a branch of an If: runtimes look at the innermost one
# two or three times for each level.
MAX_DEPTH = 8
# Nodes, with those of local functions at each call: a runtime writes every call out.
MAX_NODES = 1_000_000
# The largest size of an input's or an output's dimension.
MAX_DIMENSION = 2**31 - 1

# Bytes of a value, where they are whole.
BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
# onnx.TensorProto.EXTERNAL
EXTERNAL = 1


def check_model(model: ModelProto, path: Path) -> None:
    """Refuses a model that claims what cannot be.

    Raises:
        ModelFileError: it says what is claimed.
    """
    _check_nodes(model, path)
    for value in (*model.graph.input, *model.graph.output):
        _check_dimensions(value, path)
    for tensor in tensors_of(model):
        _check_tensor(tensor, path)


def tensors_of(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor: initializers, those in attributes of nodes, and those of inner graphs."""
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)


def graphs_of(attribute: AttributeProto) -> Iterator[GraphProto]:
    """The graphs within an attribute: branches and bodies."""
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def _tensors_of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            single = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
            for sparse in (*single, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for graph in graphs_of(attribute):
                yield from _tensors_of_graph(graph)


def _check_nodes(model: ModelProto, path: Path) -> None:
    """Refuses graphs that lie too deep in each other, and functions that grow without end."""
    functions = {(each.domain, each.name): each.node for each in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    under_way: set[tuple[str, str]] = set()

    def count(nodes: Iterable[NodeProto], depth: int) -> int:
        if depth > MAX_DEPTH:
            raise ModelFileError(
                f"{path} nests graphs or functions more than {MAX_DEPTH} deep (If, Loop, Scan, "
                "calls), which takes runtimes exponential time. Export the network without them."
            )
        total = 0
        for node in nodes:
            total += 1
            for attribute in node.attribute:
                for graph in graphs_of(attribute):
                    total += count(graph.node, depth + 1)
            called = (node.domain, node.op_type)
            if called in functions:
                if called in under_way:
                    raise ModelFileError(f"The function {node.op_type} in {path} calls itself.")
                if called not in sizes:
                    under_way.add(called)
                    sizes[called] = count(functions[called], depth + 1)
                    under_way.discard(called)
                total += sizes[called]
        return total

    found = count(model.graph.node, 0)
    if found > MAX_NODES:
        raise ModelFileError(
            f"{path} has {found:,} nodes, with functions counted at each call, but at most "
            f"{MAX_NODES:,} are read. This is not the size of a network."
        )


def _check_dimensions(value: ValueInfoProto, path: Path) -> None:
    sizes = [each.dim_value for each in value.type.tensor_type.shape.dim]
    if any(size > MAX_DIMENSION for size in sizes):
        raise ModelFileError(
            f"{path} claims that '{value.name}' has the dimensions {sizes}, but none can exceed "
            f"{MAX_DIMENSION:,}. The file is damaged."
        )


def _check_tensor(tensor: TensorProto, path: Path) -> None:
    """Refuses a tensor that claims more than there is of it."""
    dims = list(tensor.dims)
    name = tensor.name or "without a name"
    if any(size < 0 for size in dims):
        raise ModelFileError(f"The tensor {name} of {path} has the dimensions {dims}: negative.")
    values = math.prod(dims)
    known = BYTES.get(tensor.data_type)
    needed = values * known if known else values // 2
    if tensor.data_location == EXTERNAL:
        _check_external(tensor, needed, path)
        return
    if tensor.HasField("raw_data"):
        there, what = len(tensor.raw_data), "bytes"
    else:
        fields = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
        there = sum(len(getattr(tensor, field)) for field in (*fields, "string_data"))
        needed, what = (values if known else values // 8), "values"
    if there < needed:
        raise ModelFileError(
            f"The tensor {name} of {path} has the dimensions {dims}, so {needed:,} {what}, but "
            f"the file holds {there:,}. It is damaged. Export or copy it again."
        )


def _check_external(tensor: TensorProto, needed: int, path: Path) -> None:
    """Refuses a tensor whose file is not beside the model, or ends before it does."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    where = PurePosixPath(location.replace("\\", "/"))
    name = tensor.name or "without a name"
    if not location or "\0" in location or where.is_absolute() or ".." in where.parts:
        raise ModelFileError(
            f"{path} keeps its tensor {name} in '{location[:200]}', but only files beside it are "
            "read. Export it again into one file."
        )
    numbers = {}
    for key in ("offset", "length"):
        text = entries.get(key) or "0"
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise ModelFileError(
                f"The {key} of tensor {name} of {path} in '{location}' is '{text[:40]}', but must "
                "be a whole number of bytes. The file is damaged."
            )
        numbers[key] = int(text)
    file = path.parent / location
    try:
        found = file.stat()
    except OSError:
        found = None
    end = numbers["offset"] + max(needed, numbers["length"])
    there = found is not None and stat.S_ISREG(found.st_mode)
    if there and _is_pointer(file):
        raise ModelFileError(lfs_advice(f"{file}, in which {path.name} keeps weights,"))
    if found is None or not there or found.st_size < end:
        raise ModelFileError(
            f"{path} keeps weights in {location}, which is missing or too short. Put the complete "
            f"file beside {path.name}, or export again into one file."
        )
    if entries.get("length") and numbers["length"] < needed:
        raise ModelFileError(
            f"The tensor {name} of {path} has the dimensions {list(tensor.dims)}, so {needed:,} "
            f"bytes, and the length {numbers['length']:,} in '{location}'. The file is damaged."
        )


def _is_pointer(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return is_lfs_pointer(opened.read(LFS_POINTER_BYTES))
    except OSError:
        return False
