"""What an ONNX file says about itself.

The metadata of a file that is made here (ONNX ``metadata_props``, all values text):

    compress.version         of this package
    compress.spec            JSON, the architecture
    compress.precision       "fp32"; for readers of the file, it is not believed here
    compress.normalization   JSON {"mean": [...], "std": [...]} or "unknown"
    compress.classes         JSON, the class names in the order of the logits
    compress.source          JSON, where the weights come from: run, checkpoint, their hashes
    compress.toolchain       JSON, package -> version, and the opset

One of reduced precision, which was made of a float file, says besides

    compress.conversion      JSON, by what and how: method, number of images, types
    compress.fidelity        JSON, how far it is from the float file and on how many images

One of several outputs says which its answers are, where that was said

    compress.output          the name of the output

A file that was made elsewhere has none of these, and is read all the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import onnx

from compress.errors import ModelFileError
from compress.files import atomic_path, sha256_of
from compress.onnx_file import (
    OUTPUT_KEY,
    PRECISION_KEY,
    UNKNOWN,
    load_model,
    precision_of,
    read_model,
    size_of,
)
from compress.onnx_file import metadata_of as metadata_in
from compress.results import Artifact, Fidelity
from compress.schema import decode_json
from compress.schema.words import shown
from compress.spec import PRECISIONS, ModelSpec, Normalization
from compress.version import __version__

PREFIX = "compress."

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
    """The metadata of a file of reduced precision: the float file's, but for what has changed.

    Args:
        float_file: that it was made of, from here or from elsewhere.
        precision: of the new file.
        sha256: of the float file.
        conversion: how it was made.
        fidelity: how far it is from the float file.
        toolchain: package -> version that made it.

    Raises:
        ModelFileError: the float file's own metadata is damaged.
    """
    values = metadata_in(float_file)

    def added(key: str, more: Mapping[str, str]) -> str:
        return _json((_read("the float file", values, key, dict[str, str]) or {}) | dict(more))

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
    _write_again(source, path, PREFIX + "normalization", _json(normalization.to_dict()))
    return read_artifact(path)


def write_output_name(source: Path, path: Path, name: str) -> Path:
    """Writes an ONNX file again, saying which output its answers are; gives the new one."""
    _write_again(source, path, OUTPUT_KEY, name)
    return path


def _write_again(source: Path, path: Path, key: str, value: str) -> None:
    """Writes an ONNX file with one entry of its metadata more or changed."""
    model = load_model(source)
    onnx.helper.set_model_props(model, metadata_in(model) | {key: value})
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


def read_artifact(path: Path) -> Artifact:
    """Describes an ONNX file, made here or elsewhere.

    Its precision is that of what it holds. What the file does not say is None (``spec``,
    ``normalization``) or empty (``classes``, ``toolchain``, ``source``).

    Raises:
        ModelFileError: it is not a whole ONNX file, or its metadata is damaged.
    """
    model = read_model(path)
    properties = metadata_in(model)
    _check_precision(path, properties)
    stored = properties.get(PREFIX + "normalization", UNKNOWN)
    return Artifact(
        path=path,
        format="onnx",
        sha256=sha256_of(path),
        size_bytes=size_of(path),
        spec=_read(path, properties, "spec", ModelSpec),
        precision=precision_of(model),
        normalization=(
            None if stored == UNKNOWN else _read(path, properties, "normalization", Normalization)
        ),
        classes=_read(path, properties, "classes", tuple[str, ...]) or (),
        toolchain=_read(path, properties, "toolchain", dict[str, str]) or {},
        source=_read(path, properties, "source", dict[str, str]) or {},
        conversion=_read(path, properties, "conversion", dict[str, str]) or {},
        fidelity=_read(path, properties, "fidelity", Fidelity),
    )


def _read(
    path: Path | str, properties: Mapping[str, str], key: str, kind: type[Value]
) -> Value | None:
    text = properties.get(PREFIX + key)
    if text is None:
        return None
    return decode_json(
        kind,
        text,
        f"The metadata '{PREFIX + key}' of {path} is damaged",
        error=ModelFileError,
        mend="Export it again.",
    )


def _check_precision(path: Path, properties: Mapping[str, str]) -> None:
    stated = properties.get(PRECISION_KEY)
    if stated is not None and stated not in (*PRECISIONS, "fp64", UNKNOWN):
        raise ModelFileError(
            f"The metadata '{PRECISION_KEY}' of {path} is damaged: it is {shown(stated)}, but "
            f"must be one of {', '.join(PRECISIONS)}. Export it again."
        )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)
