"""torch -> ONNX."""

from __future__ import annotations

import copy
import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from compress.errors import ExportError, ParityError, UsageError
from compress.exporting.artifact import metadata_of, read_artifact
from compress.exporting.conversion import guarded, quiet
from compress.exporting.parity import seeded_images, verify
from compress.files import atomic_path
from compress.results import Artifact, Parity
from compress.spec import ModelSpec, Normalization
from compress.tasks.registry import unstated
from compress.tasks.task import Task, named_outputs

INPUT, BATCH = "images", "batch"
OPSET = 20
TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime")


def onnx_from_torch(
    model: nn.Module,
    path: Path,
    *,
    spec: ModelSpec,
    normalization: Normalization | None,
    classes: Sequence[str],
    images: Tensor | None = None,
    source: Mapping[str, str],
    task: Task | None = None,
) -> tuple[Artifact, Parity]:
    """Writes ``model`` as an ONNX file and proves that the file is the same function.

    The file has one input "images" [batch, c, h, w], float32 and normalised. Its outputs have the
    names that the model gives them; the only output of a model that gives none has the task's name,
    "logits" [batch, classes] of a classifier. The file tells what it is (see
    ``compress.exporting.artifact``) and holds no path of the machine that made it. Equal weights
    give equal bytes. ``model`` stays as it is; what is exported is its evaluation mode.

    Args:
        model: takes a tensor [b, c, h, w], gives the task's answers: a tensor, or tensors by name.
        path: the ONNX file.
        spec: of the model.
        normalization: that ``images`` went through; None where it is not known.
        classes: names in the order of the answers' numbers; may be empty.
        images: what to compare on, float32 [n, c, h, w], normalised; None for seeded ones.
        source: where the weights come from (run, checkpoint, hashes), for the metadata.
        task: of the model; None where nothing says it.

    Returns:
        the file, and how far it is from the model.

    Raises:
        ExportError: the exporter cannot translate the model.
        ParityError: the file is not the same function; no file is left.
        UsageError: the folder cannot be written to, or the images are of another shape than the
            model's.
    """
    if images is not None and tuple(images.shape[1:]) != spec.input_shape:
        found, made = ("x".join(map(str, each)) for each in (images.shape[1:], spec.input_shape))
        raise UsageError(
            f"{spec.name} would be exported for images of {made}, but the images to compare on "
            f"are {found}. Give images of the same shape."
        )
    network = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format).eval()
    task = task or unstated()
    proto = translate(network, spec, task)
    describe(proto, spec=spec, normalization=normalization, classes=classes, source=source)
    with atomic_path(path) as temporary:
        temporary.write_bytes(proto.SerializeToString(deterministic=True))
        inputs = seeded_images(spec.input_shape, normalization) if images is None else images.cpu()
        try:
            parity = verify(network, temporary, inputs, task=task)
        except ParityError as error:
            raise ParityError(f"{error} Nothing was written.") from error
    return read_artifact(path), parity


def onnx_for_timing(network: nn.Module, path: Path, *, spec: ModelSpec) -> int:
    """Writes the graph of a network that is only going to be timed; nothing is proved.

    Its weights stand for nothing. The graph is the one that ``onnx_from_torch`` writes.

    Returns:
        the size of the file in bytes.

    Raises:
        ExportError: the exporter cannot translate the network.
    """
    proto = translate(network.eval(), spec, unstated())
    describe(proto, spec=spec, normalization=None, classes=(), source={})
    content = proto.SerializeToString(deterministic=True)
    path.write_bytes(content)
    return len(content)


def translate(network: nn.Module, spec: ModelSpec, task: Task) -> onnx.ModelProto:
    """The ONNX graph of a network in evaluation mode, without the exporter's own notes.

    Raises:
        ExportError: the exporter cannot translate the network.
    """
    # Zeros, because the exporter must not draw from the generator that training draws from.
    example = torch.zeros(2, *spec.input_shape)
    advice = (
        "The network must not use Python control flow that depends on data. Use tensor "
        "operations instead."
    )
    with (
        guarded(f"{spec.name} cannot be exported to ONNX", "torch.onnx", advice),
        quiet(),
        torch.random.fork_rng(devices=[]),
        torch.inference_mode(False),
    ):
        with torch.no_grad():
            names = list(named_outputs(network, example, task))
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            external_data=False,
            verbose=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=names,
            dynamic_shapes=({0: BATCH},),
        )
    if program is None:  # torch's type admits it, for the exporter that is not used here.
        raise ExportError(f"{spec.name} cannot be exported to ONNX: the exporter gave nothing.")
    proto: onnx.ModelProto = program.model_proto
    strip_notes(proto)
    return proto


def strip_notes(proto: onnx.ModelProto) -> None:
    """Removes the exporter's notes: stack traces with paths of this machine, and the like."""
    proto.doc_string = ""
    graph = proto.graph
    graph.doc_string = ""
    del graph.metadata_props[:]
    for entries in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer):
        for entry in entries:
            entry.doc_string = ""
            del entry.metadata_props[:]
    weights = {tensor.name for tensor in graph.initializer}
    shapes = [value for value in graph.value_info if value.name not in weights]
    del graph.value_info[:]
    graph.value_info.extend(shapes)


def describe(
    proto: onnx.ModelProto,
    *,
    spec: ModelSpec,
    normalization: Normalization | None,
    classes: Sequence[str],
    source: Mapping[str, str],
) -> None:
    """Writes the metadata of ``compress.exporting.artifact`` into the file."""
    opsets = {entry.domain: str(entry.version) for entry in proto.opset_import}
    toolchain = {name: importlib.metadata.version(name) for name in TOOLS}
    values = metadata_of(
        spec=spec,
        precision="fp32",
        normalization=normalization,
        classes=classes,
        source=source,
        toolchain=toolchain | {"opset": opsets.get("", "unknown")},
    )
    onnx.helper.set_model_props(proto, values)
