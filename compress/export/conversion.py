"""What every conversion of a float32 file into one of fewer bits shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from onnx import helper

from compress.errors import UsageError
from compress.export.artifact import metadata_of_conversion, read_artifact, read_model
from compress.files import sha256_of
from compress.results import Fidelity


def float_model(source: Path, precision: str) -> onnx.ModelProto:
    """A float32 file's structure.

    Args:
        source: the file.
        precision: that it is to be converted to, for the message.

    Raises:
        ModelFileError: it is no ONNX file.
        UsageError: it is not float32.
    """
    artifact = read_artifact(source)
    model = read_model(source)
    quantises = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    if quantises or artifact.precision != "fp32":
        found = "int8" if quantises else artifact.precision
        raise UsageError(
            f"{source} is {found} already; {precision} is made of a float32 file. Give that."
        )
    return model


def write_converted(
    model: onnx.ModelProto,
    path: Path,
    floats: onnx.ModelProto,
    *,
    precision: str,
    source: Path,
    conversion: Mapping[str, str],
    fidelity: Fidelity,
) -> None:
    """Writes a converted file with what is to be said of it.

    Args:
        model: the file.
        path: where.
        floats: the float file's structure.
        precision: of the new file.
        source: the float file.
        conversion: how it was made.
        fidelity: how far it is from the float file.
    """
    opset = next(str(each.version) for each in model.opset_import if each.domain == "")
    toolchain = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    values = metadata_of_conversion(
        floats,
        precision=precision,
        sha256=sha256_of(source),
        conversion=conversion,
        fidelity=fidelity,
        toolchain=toolchain | {"opset": opset},
    )
    helper.set_model_props(model, values)
    path.write_bytes(model.SerializeToString(deterministic=True))


def tidy(model: onnx.ModelProto) -> None:
    """Removes weights and operator sets that nothing uses, and the tools' own notes."""
    used = set(_read_by(model.graph)) | {output.name for output in model.graph.output}
    _keep(model.graph.initializer, lambda tensor: tensor.name in used)
    domains = {node.domain for node in model.graph.node} | {""}
    _keep(model.opset_import, lambda entry: entry.domain in domains)
    _keep(model.metadata_props, lambda entry: not entry.key.startswith("onnx.quant"))


def _read_by(graph: onnx.GraphProto) -> Iterator[str]:
    """Values that a graph's nodes read, and the graphs within them."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _read_by(attribute.g)


def _keep(entries: Any, wanted: Callable[[Any], bool]) -> None:
    kept = [entry for entry in entries if wanted(entry)]
    del entries[:]
    entries.extend(kept)
