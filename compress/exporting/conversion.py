"""What every conversion of a float32 file into one of reduced precision shares."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from onnx import helper, version_converter

from compress.errors import CompressError, ExportError, ModelFileError, UsageError, first_line
from compress.exporting.artifact import metadata_of_conversion
from compress.exporting.graphs import control_flow, listed, normalise
from compress.files import sha256_of
from compress.onnx_file import (
    graphs_within,
    input_of,
    load_model,
    nodes_of,
    precision_of,
    weights_of,
    without_weight_inputs,
)
from compress.onnx_io import ImageInput, image_form
from compress.results import Fidelity


def float_model(source: Path, precision: str) -> onnx.ModelProto:
    """Loads a float32 file, with the weights that lie beside it, in the form of ``normalise``.

    Args:
        source: the file.
        precision: that it is to be converted to, for the message.

    Raises:
        ModelFileError: it is no ONNX file.
        UsageError: it is not float32.
        ExportError: it cannot be brought into that form.
    """
    model = normalised(source)
    if not any(weights_of(model)):
        raise UsageError(f"{source} holds no weights, so it is the same in {precision}.")
    found = precision_of(model)
    if found != "fp32":
        raise UsageError(
            f"{source} is already {found}, but {precision} is made from a float32 file. Give "
            "that file."
        )
    return model


def normalised(source: Path) -> onnx.ModelProto:
    """Loads a file, with the weights that lie beside it, in the form of ``normalise``.

    Raises:
        ModelFileError: it is no ONNX file.
        ExportError: it cannot be brought into that form.
    """
    model = load_model(source)
    with guarded(f"{source.name} cannot be converted", "onnx"):
        normalise(model)
    return model


def whole_model(source: Path) -> bytes:
    """An ONNX file as one that holds its weights itself, and has none among its inputs.

    Raises:
        ModelFileError: it is no ONNX file.
        ExportError: it cannot be written.
    """
    model = load_model(source)
    with guarded(f"{source.name} cannot be written as one file", "onnx"):
        content: bytes = model.SerializeToString(deterministic=True)
    return content


def in_opset(model: onnx.ModelProto, least: int) -> onnx.ModelProto:
    """The model in an operator set of that version or later, in the form of ``normalise``.

    Raises:
        one of onnx's errors: it cannot be converted to it.
    """
    if opset_of(model) >= least:
        return model
    made: onnx.ModelProto = version_converter.convert_version(model, least)
    without_weight_inputs(made)
    normalise(made)
    return made


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators in a model; 1 where it says none."""
    return next((each.version for each in model.opset_import if each.domain == ""), 1)


def float_images(path: Path) -> ImageInput:
    """How an ONNX file takes images, which is as float32 with the channels first.

    Raises:
        ModelFileError: it takes them otherwise, or not at all.
    """
    form = image_form(input_of(path), path.name)
    if form.channels_last or form.dtype != "float32":
        raise ModelFileError(
            f"{path.name} takes {form}, but only float32 [n, c, h, w] can be converted. Export "
            "the network without the layers that convert bytes or move the channels."
        )
    return form


def image_shape(path: Path, image_size: int) -> tuple[int, int, int]:
    """Channels, height and width that an ONNX file takes.

    Raises:
        ModelFileError: as ``float_images``, or it does not say its channels.
    """
    form = float_images(path)
    channels, *sides = form.sizes
    if not isinstance(channels, int):
        raise ModelFileError(
            f"{path.name} leaves the number of channels of '{form.name}' open. Give --data, whose "
            "images determine it."
        )
    height, width = (side if isinstance(side, int) else image_size for side in sides)
    return channels, height, width


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

    Raises:
        ExportError: it cannot be written as one file.
    """
    toolchain = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    values = metadata_of_conversion(
        floats,
        precision=precision,
        sha256=sha256_of(source),
        conversion=conversion,
        fidelity=fidelity,
        toolchain=toolchain | {"opset": str(opset_of(model))},
    )
    helper.set_model_props(model, values)
    with guarded(f"{source.name} cannot be written in {precision}", "protobuf"):
        content = model.SerializeToString(deterministic=True)
    path.write_bytes(content)


def tidy(model: onnx.ModelProto) -> None:
    """Removes weights and operator sets that nothing uses, and the tools' own notes."""
    used = set(_read_by(model.graph))
    _keep(model.graph.initializer, lambda tensor: tensor.name in used)
    domains = {node.domain for node in nodes_of(model.graph)} | {""}
    _keep(model.opset_import, lambda entry: entry.domain in domains)
    _keep(model.metadata_props, lambda entry: not entry.key.startswith("onnx.quant"))


@contextmanager
def guarded(
    failure: str, tool: str, advice: str = "", kind: type[CompressError] = ExportError
) -> Iterator[None]:
    """Makes every error of a tool that converts or runs a graph one of ours.

    What onnx, onnxscript, protobuf and ONNX Runtime raise at a graph that they do not know has no
    common base, and among it are AssertionError, KeyError and AttributeError.

    Args:
        failure: what could not be done, without a full stop: "f.onnx cannot be converted to fp16".
        tool: that is called.
        advice: what to do about it, in sentences; see ``advice_for``.
        kind: of error that it becomes.

    Raises:
        ExportError: or ``kind``: the tool failed, or there was not enough memory.
        CompressError: as it was raised.
    """
    try:
        yield
    except CompressError:
        raise
    except MemoryError as error:
        raise kind(
            f"{failure}: there is not enough memory. Use a machine with more memory, or free some."
        ) from error
    except Exception as error:
        advice = advice or "Export the file again, with a newer exporter if possible."
        said = first_line(error.__cause__ or error).rstrip(".")
        raise kind(f"{failure}: {tool} says: {said}. {advice}") from error


def advice_for(model: onnx.ModelProto) -> str:
    """What to do about a graph that a tool does not convert."""
    found = control_flow(model)
    if not found:
        return "Export it again for a newer operator set, or keep it in fp32."
    return (
        f"It has {listed(found)}, which tools support poorly: export it without control flow, or "
        "keep it in fp32."
    )


@contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Keeps what a tool prints, logs and warns of to itself, and gives it."""
    said = io.StringIO()
    level = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stdout(said), redirect_stderr(said):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield said
        finally:
            logging.disable(level)


def _read_by(graph: onnx.GraphProto) -> Iterator[str]:
    """Values that a graph's nodes read or that it gives out, and the graphs within them."""
    yield from (output.name for output in graph.output)
    for node in graph.node:
        yield from node.input
        for inner in graphs_within(node):
            yield from _read_by(inner)


def _keep(entries: Any, wanted: Callable[[Any], bool]) -> None:
    kept = [entry for entry in entries if wanted(entry)]
    del entries[:]
    entries.extend(kept)
