"""What an ONNX file says about itself.

The metadata of a file that is made here (ONNX ``metadata_props``, all values text):

    compress.version         of this package
    compress.spec            JSON, the architecture
    compress.precision       "fp32"
    compress.normalization   JSON {"mean": [...], "std": [...]} or "unknown"
    compress.classes         JSON, the class names in the order of the logits
    compress.source          JSON, where the weights come from: run, checkpoint, their hashes
    compress.toolchain       JSON, package -> version, and the opset

One that was made of a float file, in fewer bits, says besides

    compress.conversion      JSON, by what and how: method, number of images, types
    compress.fidelity        JSON, how far it is from the float file and on how many images

A file that was made elsewhere has none of these, and is read all the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from compress import __version__
from compress.errors import CompressError, ModelFileError
from compress.external import external_files, tensors_of
from compress.files import atomic_path, sha256_of
from compress.results import Artifact, Fidelity
from compress.spec import ModelSpec, Normalization

PREFIX = "compress."
UNKNOWN = "unknown"

Value = TypeVar("Value")


def metadata_of(
    *,
    spec: ModelSpec,
    precision: str,
    normalization: Normalization | None,
    classes: Sequence[str],
    source: Mapping[str, str],
    toolchain: Mapping[str, str],
) -> dict[str, str]:
    """The metadata of a file that is made here, in the order in which it is written."""
    known = UNKNOWN if normalization is None else _json(normalization.to_dict())
    values = {
        "version": __version__,
        "spec": _json(spec.to_dict()),
        "precision": precision,
        "normalization": known,
        "classes": _json(list(classes)),
        "source": _json(dict(source)),
        "toolchain": _json(dict(toolchain)),
    }
    return {PREFIX + key: value for key, value in values.items()}


def metadata_of_conversion(
    float_file: onnx.ModelProto,
    *,
    precision: str,
    sha256: str,
    conversion: Mapping[str, str],
    fidelity: Fidelity,
    toolchain: Mapping[str, str],
) -> dict[str, str]:
    """The metadata of a file in fewer bits: the float file's, changed in what is no longer true.

    Args:
        float_file: that it was made of, from here or from elsewhere.
        precision: of the new file.
        sha256: of the float file.
        conversion: how it was made.
        fidelity: how far it is from the float file.
        toolchain: package -> version that made it.

    Raises:
        ValueError: the float file's own metadata is damaged.
    """
    values = {entry.key: entry.value for entry in float_file.metadata_props}

    def added(key: str, more: Mapping[str, str]) -> str:
        return _json(_texts(json.loads(values.get(PREFIX + key, "{}"))) | dict(more))

    changed = {
        "version": __version__,
        "precision": precision,
        "source": added("source", {"float_sha256": sha256}),
        "toolchain": added("toolchain", toolchain),
        "conversion": _json(dict(conversion)),
        "fidelity": _json(fidelity.to_dict()),
    }
    return values | {PREFIX + key: value for key, value in changed.items()}


def write_normalization(source: Path, path: Path, normalization: Normalization) -> Artifact:
    """Writes an ONNX file again, saying what its images go through.

    Args:
        source: the file.
        path: the new one; may be ``source``.
        normalization: what it is to say.
    """
    model = onnx.load(source)
    values = {entry.key: entry.value for entry in model.metadata_props}
    values[PREFIX + "normalization"] = _json(normalization.to_dict())
    onnx.helper.set_model_props(model, values)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
    return read_artifact(path)


def read_model(path: Path) -> onnx.ModelProto:
    """Parses an ONNX file; tensors that it keeps in other files are not loaded.

    Raises:
        ModelFileError: there is no such file, it cannot be read, or it is not a whole ONNX file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = "there is no such file" if not path.exists() else error.strerror or str(error)
        raise ModelFileError(f"Cannot read the ONNX file {path}: {reason}.") from error
    mend = "Give the file that `compress distill` or `compress export` wrote."
    if not content:
        raise ModelFileError(f"{path} is empty, not an ONNX file. {mend}")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise ModelFileError(f"{path} is not an ONNX file, or is cut short. {mend}") from error
    if not model.graph.node or not model.graph.output or not model.opset_import:
        raise ModelFileError(f"{path} holds no ONNX graph. {mend}")
    return model


def read_artifact(path: Path) -> Artifact:
    """Describes an ONNX file, made here or elsewhere.

    What the file does not say is None (``spec``, ``normalization``) or empty (``classes``,
    ``toolchain``, ``source``).

    Raises:
        ModelFileError: it is not a whole ONNX file, or its metadata is damaged.
    """
    model = read_model(path)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    stored = properties.get(PREFIX + "normalization", UNKNOWN)
    return Artifact(
        path=path,
        format="onnx",
        sha256=sha256_of(path),
        size_bytes=path.stat().st_size + _external_bytes(path, model),
        spec=_read(path, properties, "spec", _spec),
        precision=properties.get(PREFIX + "precision", precision_of(model)),
        normalization=(
            None if stored == UNKNOWN else _read(path, properties, "normalization", _normalization)
        ),
        classes=_read(path, properties, "classes", _names) or (),
        toolchain=_read(path, properties, "toolchain", _texts) or {},
        source=_read(path, properties, "source", _texts) or {},
        conversion=_read(path, properties, "conversion", _texts) or {},
        fidelity=_read(path, properties, "fidelity", _fidelity),
    )


def _read(
    path: Path, properties: Mapping[str, str], key: str, convert: Callable[[Any], Value]
) -> Value | None:
    text = properties.get(PREFIX + key)
    if text is None:
        return None
    try:
        return convert(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, CompressError) as error:
        raise ModelFileError(
            f"The metadata '{PREFIX + key}' of {path} is damaged ({error}). Export it again."
        ) from error


def _spec(value: Any) -> ModelSpec:
    return ModelSpec.from_dict(dict(value))


def _normalization(value: Any) -> Normalization:
    mean, std = (tuple(float(number) for number in value[key]) for key in ("mean", "std"))
    return Normalization(mean, std)


def _fidelity(value: Any) -> Fidelity:
    return Fidelity(**value)


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"a list was expected, found {type(value).__name__}")
    return tuple(str(name) for name in value)


def _texts(value: Any) -> dict[str, str]:
    return {str(key): str(text) for key, text in value.items()}


def precision_of(model: onnx.ModelProto) -> str:
    """The precision of a file that does not say it, from the kind of its largest tensor of numbers.

    "unknown" where it has none.
    """
    kinds: dict[int, str] = {
        onnx.TensorProto.FLOAT: "fp32",
        onnx.TensorProto.FLOAT16: "fp16",
        onnx.TensorProto.BFLOAT16: "bf16",
        onnx.TensorProto.DOUBLE: "fp64",
        onnx.TensorProto.INT8: "int8",
        onnx.TensorProto.UINT8: "int8",
    }
    tensors = [tensor for tensor in tensors_of(model) if tensor.data_type in kinds]
    largest = max(tensors, key=lambda tensor: math.prod(tensor.dims), default=None)
    return UNKNOWN if largest is None else kinds[largest.data_type]


def _external_bytes(path: Path, model: onnx.ModelProto) -> int:
    """Size of the files beside ``path`` in which the model keeps tensors."""
    total = 0
    for name in external_files(model):
        file = path.parent / name
        if not file.is_file():
            raise ModelFileError(
                f"{path} keeps weights in '{name}', which is not beside it. Copy both files."
            )
        total += file.stat().st_size
    return total


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)
