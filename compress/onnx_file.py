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

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto

from compress.errors import ModelFileError, first_line
from compress.files import is_lfs_pointer, lfs_advice, regular_file
from compress.onnx_claims import check_model, graphs_of, tensors_of
from compress.units import format_bytes

UNKNOWN = "unknown"
# The entry of a file's metadata that says which output its answers are.
OUTPUT_KEY = "compress.output"
# protobuf's own limit.
MAX_BYTES = (1 << 31) - 1
# From this version on a file need not list its weights among its inputs.
IR_VERSION = 4
MEND = "Give the file that `compress distill` or `compress export` wrote, or export it again."

# How Protocol Buffers writes onnx.ModelProto: number of a field -> its wire type (0 a number,
# 2 bytes that follow their length).
_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_IR_VERSION, _GRAPH = 1, 7
# How other files that models come in begin: zip (torch), pickle, and HDF5.
_OTHERS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"\x89HDF")

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
# The entry of a file's metadata that states its precision, for other readers.
PRECISION_KEY = "compress.precision"
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
    """Whether a file is an ONNX file, by its first bytes; nothing else of it is looked at.

    Where they do not say what it is (it is empty, missing or text), its name decides, so that what
    is wrong with it is told as of an ONNX file.
    """
    named = ".onnx" in (suffix.lower() for suffix in path.suffixes[-2:])
    if not path.is_file():
        return named
    try:
        with path.open("rb") as file:
            head = file.read(1 << 16)
    except OSError:
        return named
    if _begins_like_onnx(head):
        return True
    return named and not head.startswith(_OTHERS) and not _is_safetensors(head)


def _begins_like_onnx(head: bytes) -> bool:
    """Whether bytes can be the beginning of a serialised ModelProto, as far as its graph."""
    place, version = 0, False
    while place < len(head):
        tag, place = _varint(head, place)
        field = tag >> 3
        if _FIELDS.get(field) != tag & 7:
            return False
        value, place = _varint(head, place)
        if place > len(head):
            return False
        if field == _IR_VERSION:
            version = 0 < value < 1000
            if not version:
                return False
        elif field == _GRAPH:
            return version and value > 0
        elif _FIELDS[field] == 2:
            place += value
    # Something long comes before the graph; everything up to there was as it should be.
    return version and place > len(head)


def _varint(head: bytes, place: int) -> tuple[int, int]:
    """A number in seven bits a byte, and where the next begins; beyond the end where it is cut."""
    value = shift = 0
    while place < len(head) and shift < 70:
        byte = head[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
    return value, len(head) + 1


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32


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
            f"{path} is not an ONNX file, or is incomplete ({len(content):,} bytes). {MEND}"
        ) from error
    if not model.graph.node or not model.graph.output or not model.opset_import:
        raise ModelFileError(
            f"{path} is not an ONNX file: its {len(content):,} bytes have no graph. {MEND}"
        )
    check_model(model, path)
    without_weight_inputs(model)
    return model


def _content(path: Path) -> bytes:
    """All bytes of a file that is not too large."""
    regular_file(path, ModelFileError)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ModelFileError(
                f"{path} has {format_bytes(size)}, but an ONNX file has at most 2 GB. Export it "
                "with its weights in a separate file."
            )
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(
            f"Cannot read the ONNX file {path}: {error.strerror or error}."
        ) from error
    if not content:
        raise ModelFileError(f"{path} is not an ONNX file: it is empty. {MEND}")
    if is_lfs_pointer(content):
        raise ModelFileError(lfs_advice(str(path)))
    return content


def load_model(path: Path) -> onnx.ModelProto:
    """Parses an ONNX file and loads the tensors that it keeps in other files.

    Raises:
        ModelFileError: as ``read_model``, or there is not enough memory for them.
    """
    model = read_model(path)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, MemoryError, onnx.checker.ValidationError) as error:
        raise ModelFileError(
            f"The weights that {path.name} keeps in {', '.join(external_files(model))} cannot be "
            f"read: {first_line(error)}. {MEND}"
        ) from error
    return model


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
            f"The ONNX file has {len(inputs)} inputs ({names}), but an image model has one. "
            "Export it with one input."
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
    model = read_model(path)
    try:
        return described(image_input(model))
    except ModelFileError as error:
        raise ModelFileError(f"{path.name}: {error}") from error


def outputs_of(model: onnx.ModelProto) -> tuple[Value, ...]:
    """All outputs of a model, in its order."""
    return tuple(map(described, model.graph.output))


def stated_output(model: onnx.ModelProto) -> str | None:
    """The output that a file's metadata says its answers are; None where it says nothing."""
    return metadata_of(model).get(OUTPUT_KEY)


def fixed_batch(model: onnx.ModelProto) -> int | None:
    """How many images a model takes at once, where it does not take any number of them."""
    shape = described(image_input(model)).shape
    return shape[0] if shape and isinstance(shape[0], int) else None


def metadata_of(model: onnx.ModelProto) -> dict[str, str]:
    """What a file says of itself, key -> text."""
    return {entry.key: entry.value for entry in model.metadata_props}


# --- Tensors -------------------------------------------------------------------------------------


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

    It follows from what the file holds, not from what its metadata state. A file without weights
    computes in the type of its images. 'mixed' where most weights are of a type that is no
    precision.
    """
    called = (node for function in model.functions for node in function.node)
    if any(node.op_type in _QUANTISED for node in (*nodes_of(model.graph), *called)):
        return "int8"
    # Those in branches of an If, and what functions hold, where the graph itself has none.
    floats = (tensor for tensor in tensors_of(model) if tensor.data_type in _PRECISIONS)
    sizes: Counter[int] = Counter()
    for tensor in list(weights_of(model)) or floats:
        sizes[tensor.data_type] += math.prod(tensor.dims)
    if sizes:
        return _PRECISIONS.get(sizes.most_common(1)[0][0], "mixed")
    images = model.graph.input[0].type.tensor_type.elem_type if model.graph.input else 0
    return _PRECISIONS.get(images, "fp32")


def precision_of_file(path: Path) -> str:
    """The precision of a file, as ``precision_of`` says it of a model.

    Raises:
        ModelFileError: as ``read_model``.
    """
    return precision_of(read_model(path))


# --- External tensors ----------------------------------------------------------------------------


def external_files(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the files beside a model, that ``read_model`` gave, in which it keeps tensors."""
    names: dict[str, None] = {}
    for tensor in tensors_of(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            names[entries.get("location", "")] = None
    return tuple(names)


def fault_of(path: Path) -> str:
    """What is wrong with a file whoever runs it, and what to do; empty where nothing is."""
    try:
        read_model(path)
    except ModelFileError as fault:
        return str(fault)
    return ""


def size_of(path: Path) -> int:
    """Bytes of a file and of the files that it keeps weights in.

    Raises:
        ModelFileError: as ``read_model``.
    """
    names = external_files(read_model(path))
    return path.stat().st_size + sum((path.parent / name).stat().st_size for name in names)


# --- Walking a graph -----------------------------------------------------------------------------


def _initialised(graph: onnx.GraphProto) -> set[str]:
    """Values that the file itself gives."""
    weights = {tensor.name for tensor in graph.initializer}
    return weights | {tensor.values.name for tensor in graph.sparse_initializer}


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of graphs within nodes as well."""
    for node in graph.node:
        yield node
        for inner in graphs_within(node):
            yield from nodes_of(inner)


def graphs_within(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The branches of an If, the body of a Loop or a Scan."""
    for attribute in node.attribute:
        yield from graphs_of(attribute)


def _no_weights(graph: onnx.GraphProto) -> set[str]:
    """Constants that say how, scale or shift, and were not learned."""
    helpers: set[str] = set()
    scales: set[str] = set()  # of activations that are quantised as they come
    for node in graph.node:
        if node.op_type == "DynamicQuantizeLinear":
            scales.update(node.output[1:2])
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
