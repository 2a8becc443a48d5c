"""The one reader of ONNX files: what a file takes and gives, its precision, its size, its faults.

Nothing of a file is run here, and nothing of the size that it claims is made: how deep its graphs
are nested, how large its tensors say that they are and where they lie is looked at first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto

from compress.errors import ModelFileError
from compress.files import is_lfs_pointer, regular_file
from compress.units import format_bytes, format_count

UNKNOWN = "unknown"
# The entry of a file's metadata that says which output its answers are.
OUTPUT_KEY = "compress.output"
# protobuf's own limit.
MAX_BYTES = (1 << 31) - 1
# ONNX Runtime's time to load a graph may double with each graph that an If or a Loop holds.
MAX_NESTING = 8
MAX_NODES = 200_000
# Of an input or output. Images of a million pixels a side do not exist.
MAX_DIMENSION = 1 << 20
# From this version on a file need not list its weights among its inputs.
IR_VERSION = 4
MEND = "Give the file that `compress distill` or `compress export` wrote, or export it again."

# How a file begins whose first field is ONNX's version of its format, a small number, and what may
# be its second: the fields of ModelProto in their order.
_VERSION_TAG, _LARGEST_VERSION = 0x08, 0x20
_SECOND_TAGS = (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72, 0xA2)
_SUFFIXES = (".onnx", ".onnx.pb", ".ort")
# What other files begin with, whatever they are called: zip archives (torch's), pickles.
_OTHERS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

# Operations whose inputs after the first say how, and are no weights.
_SHAPED_BY_INPUTS = frozenset(
    (
        "Reshape",
        "Slice",
        "Pad",
        "Expand",
        "Resize",
        "Clip",
        "Gather",
        "Unsqueeze",
        "Squeeze",
        "ReduceMean",
        "ReduceSum",
        "Split",
        "Tile",
    )
)
_QUANTISED = frozenset(
    ("QuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
)
_PRECISIONS: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.DOUBLE: "fp64",
}
# What NumPy calls the types whose ONNX name is another.
_DTYPES = {"float": "float32", "double": "float64", "string": "str"}


@dataclass(frozen=True)
class Value:
    """An input or an output of a file.

    Attributes:
        name: of the value.
        dtype: as NumPy calls it ("float32", "uint8"); "sequence" or "map" of what is no tensor.
        shape: a number, or the name of an open dimension, each; None where the file does not say.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None

    def __str__(self) -> str:
        sizes = "?" if self.shape is None else ", ".join(map(str, self.shape))
        return f"'{self.name}' ({self.dtype} [{sizes}])"


# --- What kind of file it is ---------------------------------------------------------------------


def is_onnx(path: Path) -> bool:
    """Whether a file is an ONNX file, by its first bytes.

    One that is called so is taken for one too, so that its faults are told as an ONNX file's; not
    where it begins as an archive or a pickle does.
    """
    called_so = path.name.lower().endswith(_SUFFIXES)
    try:
        with regular_file(path, ModelFileError).open("rb") as file:
            head = file.read(3)
    except (ModelFileError, OSError):
        return called_so
    if len(head) == 3 and head[0] == _VERSION_TAG and 0 < head[1] < _LARGEST_VERSION:
        return head[2] in _SECOND_TAGS
    return called_so and not head.startswith(tuple(magic[:3] for magic in _OTHERS))


# --- Reading -------------------------------------------------------------------------------------


def read_model(path: Path) -> onnx.ModelProto:
    """Parses an ONNX file; tensors that it keeps in other files are not loaded.

    Weights that it lists among its inputs are removed from these.

    Raises:
        ModelFileError: there is no such file, it is not a whole ONNX file, or it claims what
            cannot be.
    """
    content = _content(path)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, RecursionError) as error:
        raise ModelFileError(
            f"{path} is not an ONNX file, or only a part of one ({len(content):,} bytes). {MEND}"
        ) from error
    if not model.graph.node or not model.graph.output or not model.opset_import:
        raise ModelFileError(
            f"{path} is not an ONNX file: there is no graph in its {len(content):,} bytes. {MEND}"
        )
    _check_nesting(path, model)
    _check_sizes(path, model, len(content))
    without_weight_inputs(model)
    return model


def _content(path: Path) -> bytes:
    """All bytes of a file that is not too large."""
    regular_file(path, ModelFileError)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ModelFileError(
                f"{path} has {format_bytes(size)}; an ONNX file has 2 GB at most. Export it with "
                "its weights in a file beside it."
            )
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(
            f"Cannot read the ONNX file {path}: {error.strerror or error}."
        ) from error
    if not content:
        raise ModelFileError(f"{path} is empty, not an ONNX file. {MEND}")
    if is_lfs_pointer(content):
        raise ModelFileError(
            f"{path} is a Git LFS pointer, not the file itself. Run `git lfs pull` and try again."
        )
    return content


def _check_nesting(path: Path, model: onnx.ModelProto) -> None:
    """Refuses graphs within graphs within graphs, and more nodes than any network has."""
    nodes = 0
    graphs = [(model.graph, 0)]
    bodies = [node for function in model.functions for node in function.node]
    graphs += [(inner, 1) for node in bodies for inner in graphs_within(node)]
    while graphs:
        graph, depth = graphs.pop()
        nodes += len(graph.node)
        if depth > MAX_NESTING:
            raise ModelFileError(
                f"{path} has graphs that are nested more than {MAX_NESTING} deep (If, Loop or Scan "
                "within each other), which takes ever longer to load. Export it without."
            )
        graphs += [(inner, depth + 1) for node in graph.node for inner in graphs_within(node)]
    if nodes > MAX_NODES:
        raise ModelFileError(
            f"{path} has {nodes:,} nodes; up to {MAX_NODES:,} are read. It is no image classifier."
        )


def _check_sizes(path: Path, model: onnx.ModelProto, held_bytes: int) -> None:
    """Refuses dimensions that cannot be, and tensors that claim more than the file holds."""
    for value in (*model.graph.input, *model.graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if not 0 <= dimension.dim_value <= MAX_DIMENSION:
                raise ModelFileError(
                    f"{path} says that '{value.name}' has a dimension of "
                    f"{dimension.dim_value:,}; a size is from 1 to {MAX_DIMENSION:,}. {MEND}"
                )
    for tensor in tensors_of(model):
        if any(size < 0 for size in tensor.dims):
            raise ModelFileError(
                f"{path} says that the tensor '{tensor.name}' is of "
                f"{'x'.join(map(str, tensor.dims))}. {MEND}"
            )
        # Two values of four bits share a byte; no type has fewer.
        if tensor.data_location != TensorProto.EXTERNAL and math.prod(tensor.dims) > 2 * held_bytes:
            raise ModelFileError(
                f"{path} says that the tensor '{tensor.name}' has "
                f"{format_count(math.prod(tensor.dims))} values, and has {held_bytes:,} bytes in "
                f"all. It is damaged. {MEND}"
            )


def without_weight_inputs(model: onnx.ModelProto) -> None:
    """Removes the weights from a model's inputs, in place.

    Files of before ONNX 1.5, those of ``keep_initializers_as_inputs=True``, and what
    ``onnx.version_converter`` makes of any file list them there, so that a caller may replace them.
    Tools then do not take them for constants, and some take the first for the images.
    """
    weights = _initialised(model.graph)
    if any(entry.name in weights for entry in model.graph.input):
        kept = [entry for entry in model.graph.input if entry.name not in weights]
        del model.graph.input[:]
        model.graph.input.extend(kept)
        model.ir_version = max(model.ir_version, IR_VERSION)


# --- What it takes and gives ---------------------------------------------------------------------


def image_input(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """The one input of a model that is no weight.

    Raises:
        ModelFileError: there is none, or there are several.
    """
    weights = _initialised(model.graph)
    inputs: list[onnx.ValueInfoProto] = [
        entry for entry in model.graph.input if entry.name not in weights
    ]
    if len(inputs) != 1:
        names = ", ".join(f"'{entry.name}'" for entry in inputs) or "none"
        raise ModelFileError(
            f"The ONNX file has {len(inputs)} inputs ({names}); an image model has one. Export it "
            "with that alone."
        )
    return inputs[0]


def described(entry: onnx.ValueInfoProto) -> Value:
    """What a graph says of one of its inputs or outputs."""
    if not entry.type.HasField("tensor_type"):
        kind = entry.type.WhichOneof("value") or "unknown_type"
        return Value(entry.name, kind.removesuffix("_type"), None)
    tensor = entry.type.tensor_type
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(
            dimension.dim_value if dimension.dim_value > 0 else dimension.dim_param or f"dim{place}"
            for place, dimension in enumerate(tensor.shape.dim)
        )
    return Value(entry.name, dtype_of(tensor.elem_type), shape)


def dtype_of(kind: int) -> str:
    """What NumPy calls a type of ONNX."""
    known = kind in TensorProto.DataType.values()
    named = TensorProto.DataType.Name(kind).lower() if known else f"type {kind}"
    return _DTYPES.get(named, named)


def input_of(path: Path) -> Value:
    """The one input of a file.

    Raises:
        ModelFileError: the file is damaged or not whole, or has not exactly one input.
    """
    model = read_whole(path)
    try:
        return described(image_input(model))
    except ModelFileError as error:
        raise ModelFileError(f"{path.name}: {error}") from error


def outputs_of(model: onnx.ModelProto) -> tuple[Value, ...]:
    """All outputs of a model, in its order."""
    return tuple(map(described, model.graph.output))


def stated_output(model: onnx.ModelProto) -> str | None:
    """The output that a file's metadata says its answers are; None where it says nothing."""
    said = {entry.key: entry.value for entry in model.metadata_props}
    return said.get(OUTPUT_KEY)


# --- Tensors -------------------------------------------------------------------------------------


def tensors_of(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every tensor: initializers, those in attributes of nodes, and those of inner graphs."""
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _tensors_of_node(node)


def weights_of(model: onnx.ModelProto) -> Iterable[TensorProto]:
    """Constants that were learned: floating point, or integers that stand for such values.

    They are initializers, or the values of Constant nodes, of which those with one number alone
    are part of a formula.

    Shapes, axes and zero points are left out; so are the scales of a quantised file, and the
    statistics that a batch normalisation keeps beside its two weights.
    """
    helpers = _no_weights(model.graph)
    constants = [
        (node.output[0], attribute.t)
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value" and attribute.t.dims
    ]
    for name, tensor in [*((each.name, each) for each in model.graph.initializer), *constants]:
        if name not in helpers and tensor.data_type not in (
            TensorProto.INT64,
            TensorProto.BOOL,
            TensorProto.STRING,
        ):
            yield tensor


def precision_of(model: onnx.ModelProto) -> str:
    """'int8' where values are quantised, else the type of most weights: 'fp32', 'fp16', ...

    UNKNOWN where it has no weights, 'mixed' where most are of a type that is no precision.
    """
    if any(node.op_type in _QUANTISED for node in model.graph.node):
        return "int8"
    # Those in branches of an If, and what functions hold, where the graph itself has none.
    floats = (tensor for tensor in tensors_of(model) if tensor.data_type in _PRECISIONS)
    sizes: Counter[int] = Counter()
    for tensor in list(weights_of(model)) or floats:
        sizes[tensor.data_type] += math.prod(tensor.dims)
    most = sizes.most_common(1)
    return _PRECISIONS.get(most[0][0], "mixed") if most else UNKNOWN


def precision_of_file(path: Path) -> str:
    """The same of a file; one without weights computes in the type of its images.

    Raises:
        ModelFileError: as ``read_model``.
    """
    model = read_model(path)
    kind = image_input(model).type.tensor_type.elem_type
    found = precision_of(model)
    return _PRECISIONS.get(kind, "fp32") if found == UNKNOWN else found


# --- External tensors ----------------------------------------------------------------------------


def external_files(model: onnx.ModelProto) -> dict[str, int]:
    """File beside the model -> the byte that the last of its tensors ends at.

    Raises:
        ModelFileError: a tensor is said to lie elsewhere than beside the model, or at no place in a
            file.
    """
    ends: dict[str, int] = {}
    for tensor in tensors_of(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            name = entries.get("location", "")
            if not name or Path(name).is_absolute() or ".." in Path(name).parts:
                raise ModelFileError(
                    f"The tensor '{tensor.name}' is said to lie in '{name}'; weights lie in a file "
                    f"beside the ONNX file. {MEND}"
                )
            places = [entries.get(key, "0") for key in ("offset", "length")]
            if not all(place.isascii() and place.isdigit() and len(place) < 19 for place in places):
                raise ModelFileError(
                    f"The tensor '{tensor.name}' is said to lie in '{name}' at offset "
                    f"'{places[0][:40]}' with length '{places[1][:40]}', which are no places in a "
                    f"file. {MEND}"
                )
            end = sum(map(int, places))
            ends[name] = max(end, ends.get(name, 0))
    return ends


def read_whole(path: Path) -> onnx.ModelProto:
    """Parses a file as ``read_model`` does, and looks for the files that it keeps weights in.

    Raises:
        ModelFileError: as ``read_model``, or such a file is not there or too short.
    """
    model = read_model(path)
    missing = []
    for name, end in external_files(model).items():
        beside = path.parent / name
        if not beside.is_file() or beside.stat().st_size < end:
            missing.append(name)
        elif is_lfs_pointer(_head(beside)):
            raise ModelFileError(
                f"{beside}, which {path.name} keeps weights in, is a Git LFS pointer. Run "
                "`git lfs pull` and try again."
            )
    if missing:
        raise ModelFileError(
            f"{path.name} keeps weights in {', '.join(sorted(missing))}, which is not there or too "
            f"short. Put it beside {path.name}, or export again into one file."
        )
    return model


def fault_of(path: Path) -> str:
    """What is wrong with a file whoever runs it, and what to do; empty where nothing is."""
    try:
        read_whole(path)
    except ModelFileError as fault:
        return str(fault)
    return ""


def size_of(path: Path) -> int:
    """Bytes of a file and of the files that it keeps weights in.

    Raises:
        ModelFileError: as ``read_whole``.
    """
    names = external_files(read_whole(path))
    return path.stat().st_size + sum((path.parent / name).stat().st_size for name in names)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


# --- Walking a graph -----------------------------------------------------------------------------


def _initialised(graph: onnx.GraphProto) -> set[str]:
    """Values that the file itself gives."""
    weights = {tensor.name for tensor in graph.initializer}
    return weights | {tensor.values.name for tensor in graph.sparse_initializer}


def graphs_within(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The branches of an If, the body of a Loop or a Scan."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _tensors_of_graph(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _tensors_of_node(node)


def _tensors_of_node(node: Any) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        for each in (*sparse, *attribute.sparse_tensors):
            yield from (each.values, each.indices)
    for graph in graphs_within(node):
        yield from _tensors_of_graph(graph)


def _no_weights(graph: onnx.GraphProto) -> set[str]:
    """Constants that say how, scale or shift, and were not learned."""
    helpers: set[str] = set()
    scales: set[str] = set()  # of activations that are quantised as they come
    for node in graph.node:
        if node.op_type == "DynamicQuantizeLinear":
            scales.add(node.output[1])
        elif node.op_type == "Mul" and scales & set(node.input):
            helpers.update(set(node.input) - scales)
    for node in graph.node:
        if node.op_type == "BatchNormalization":
            helpers.update(node.input[3:5])
        elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            helpers.update(node.input[1:])
        elif node.op_type in ("QLinearConv", "QLinearMatMul"):
            helpers.update(name for place, name in enumerate(node.input) if place not in (0, 3, 8))
        elif node.op_type in ("MatMulInteger", "ConvInteger"):
            helpers.update(node.input[2:])
        elif node.op_type in _SHAPED_BY_INPUTS:
            helpers.update(node.input[1:])
    return helpers
