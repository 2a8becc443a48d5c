"""The proof that an exported file is the same function as the model it was made from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors
from torch import Tensor, nn

from compress.errors import ModelFileError, ParityError, first_line
from compress.exporting.conversion import normalised
from compress.exporting.graphs import fixed_reshapes, listed
from compress.onnx_file import (
    described,
    fixed_batch,
    image_input,
    outputs_of,
    read_model,
    stated_output,
)
from compress.onnx_io import image_form
from compress.results import Parity
from compress.spec import Normalization
from compress.tasks.registry import unstated
from compress.tasks.task import Arrays, Task, arrays_of, finite_rows, joined, named_outputs, rows_at

Array = NDArray[np.float32]
# Images [b, c, h, w] -> answers by name.
Predict = Callable[[Array], Arrays]

# Largest difference of a number, absolute up to numbers of 100 and relative beyond: float32 itself
# has steps of 8e-6 at 100.
TOLERANCE = 1e-4
RELATIVE_TOLERANCE = 1e-6

# The dynamic batch is proved by calling with several; the rest goes in the last of these.
BATCHES = (1, 3, 64)
SEEDED_IMAGES = 132

_UNLOADABLE = (
    runtime_errors.Fail,
    runtime_errors.InvalidArgument,
    runtime_errors.InvalidGraph,
    runtime_errors.InvalidProtobuf,
    runtime_errors.NotImplemented,
    runtime_errors.NoSuchFile,
    runtime_errors.RuntimeException,
)


def verify(
    model: nn.Module,
    path: Path,
    images: Tensor,
    *,
    task: Task | None = None,
    batch: int | None = None,
) -> Parity:
    """Compares the answers of ``model`` and of the file, at several batch sizes.

    Args:
        model: in evaluation mode, on the CPU.
        path: the ONNX file.
        images: float32 [n, c, h, w], as the model takes them.
        task: whose answers they are; None where nothing says it.
        batch: how many images the file takes, where it is not to take any number of them.

    Returns:
        the agreement; ``top1_agreement`` is 1, a tie within the tolerance counted as the same.

    Raises:
        ParityError: an answer or a number of it differs; says of which image, and where it begins.
    """
    task = task or unstated()
    # As it is: a file that takes only so many images at once is to be found out.
    file = _File(path, task, torch.get_num_threads())
    largest, scale, start = 0.0, 0.0, 0
    while start < len(images):
        part = images[start : start + (batch or _batch_at(start))]
        with torch.inference_mode():
            expected = arrays_of(named_outputs(model, part, task))
        # A batch that is fixed is filled up with images that are not looked at.
        missing = 0 if batch is None else batch - len(part)
        filled = torch.cat([part, part[:1].expand(missing, *part.shape[1:])])
        answers, others = file.outputs(filled.numpy())
        found = rows_at({**others, **answers}, slice(len(part)))
        for name, array in expected.items():
            if name not in found:
                raise ParityError(f"The exported file has no output '{name}', the model has one.")
            if found[name].shape != array.shape:
                raise ParityError(
                    f"The exported file gives {list(found[name].shape)} for {len(part)} images, "
                    f"the model {list(array.shape)}."
                )
        finite = finite_rows(expected)
        if not finite.all():
            raise ParityError(
                f"The model's {task.number}s for image {start + int(np.argmin(finite))} are not "
                "finite, so they cannot be compared. Its weights are damaged, or its training "
                "diverged."
            )
        scale = max(scale, *(float(np.abs(array).max()) for array in expected.values()))
        tolerance = max(TOLERANCE, RELATIVE_TOLERANCE * scale)
        agreement = task.agreement(expected, found)
        _check_others(expected, found, expected.keys() - answers.keys(), tolerance, start)
        wrong = agreement.beyond(tolerance)
        if wrong.any():
            place = int(np.argmax(wrong))
            only = slice(place, place + 1)
            raise ParityError(
                f"The file does not equal the model. They differ at image {start + place}: "
                f"{task.parting(rows_at(expected, only), rows_at(found, only))}, the tolerance is "
                f"{tolerance:.1e}." + ("" if batch else _first_difference(model, path, part[only]))
            )
        largest = max(largest, agreement.largest)
        start += len(part)
    return Parity(images=len(images), top1_agreement=1.0, max_abs_diff=largest)


def _check_others(
    expected: Arrays, found: Arrays, names: Iterable[str], tolerance: float, start: int
) -> None:
    """Compares the outputs of a model and its file that are no answers of the task, such as maps.

    Raises:
        ParityError: a number differs.
    """
    for name in sorted(names):
        rows = (each[name].reshape(len(each[name]), -1) for each in (expected, found))
        difference = np.abs(np.subtract(*rows)).max(axis=1, initial=0.0)
        # Not (a > b), so that what is not a number counts as different.
        wrong = ~(difference <= tolerance)
        if wrong.any():
            place = int(np.argmax(wrong))
            raise ParityError(
                f"The file does not equal the model. They differ at image {start + place}: "
                f"the output '{name}' differs by {difference[place]:.3g}, the tolerance is "
                f"{tolerance:.1e}."
            )


def seeded_images(shape: tuple[int, int, int], normalization: Normalization | None) -> Tensor:
    """Images to compare on where there are no others [132, c, h, w], always the same.

    Uniform pixels, normalised where the normalisation is known; standard normal otherwise.
    """
    generator = torch.Generator().manual_seed(0)
    size = (SEEDED_IMAGES, *shape)
    if normalization is None:
        return torch.randn(size, generator=generator)
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (normalization.mean, normalization.std))
    return (torch.rand(size, generator=generator) - mean) / std


def predictor_of(path: Path, task: Task | None = None, *, threads: int = 1) -> Predict:
    """Loads an ONNX file into ONNX Runtime on the CPU: images [b, c, h, w] -> answers by name.

    A file of a fixed batch is called in its batches.

    Args:
        path: the file.
        task: whose answers it gives; None where nothing says it.
        threads: of the session; 0 are as many as there are cores.

    Raises:
        ModelFileError: the file cannot be loaded, or, from the function that is returned, it
            does not take the images.
    """
    file = _File(path, task or unstated(), threads)
    return in_batches_of(file.form.batch, file.answers)


def values_of(
    model: onnx.ModelProto, names: Sequence[str], *, threads: int = 0
) -> Callable[[Array], dict[str, Array]]:
    """Runs a graph as it is written, nothing fused: images [b, c, h, w] -> values by name.

    Args:
        model: the graph.
        names: of the values that are wanted, in the middle of the graph, too.
        threads: 0 are as many as there are cores.

    Raises:
        one of ONNX Runtime's errors: it cannot run the graph.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    outputs = {output.name for output in changed.graph.output}
    changed.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in names if name not in outputs
    )
    session = _session(changed.SerializeToString(), threads=threads, optimise=False)
    entry = session.get_inputs()[0].name

    def run(images: Array) -> dict[str, Array]:
        return dict(zip(names, session.run(list(names), {entry: images}), strict=True))

    return run


def _session(
    source: str | bytes, *, threads: int, optimise: bool = True
) -> onnxruntime.InferenceSession:
    """On the CPU; 0 threads are as many as there are cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


class _File:
    """An ONNX file in ONNX Runtime, and which of its outputs are a task's answers.

    Raises:
        ModelFileError: the file cannot be loaded, takes no images or gives no answers.
    """

    def __init__(self, path: Path, task: Task, threads: int) -> None:
        try:
            self._session = _session(str(path), threads=threads)
        except _UNLOADABLE as error:
            raise ModelFileError(f"ONNX Runtime cannot load {path.name}: {error}") from error
        model = read_model(path)
        self._path, self._entry = path, described(image_input(model))
        self._outputs = [output.name for output in outputs_of(model)]
        self.form = image_form(self._entry, path.name)
        self.reading = task.reading(outputs_of(model), path.name, stated_output(model))

    def answers(self, images: Array) -> Arrays:
        """The task's answers to images, by the task's names."""
        return self.reading(self._run(self.reading.names, images), len(images))

    def outputs(self, images: Array) -> tuple[Arrays, Arrays]:
        """The task's answers by its names, and all other outputs by the file's."""
        every = self._run(self._outputs, images)
        others = {name: every[name] for name in self._outputs if name not in self.reading.names}
        return self.reading(every, len(images)), others

    def _run(self, names: Sequence[str], images: Array) -> Arrays:
        try:
            found = self._session.run(list(names), {self.form.name: self.form.of(images)})
        except _UNLOADABLE as error:
            raise ModelFileError(
                f"{self._path.name} takes {_shape(self._entry.shape or ())} of "
                f"{self._entry.dtype}; ONNX Runtime cannot run it on {_shape(images.shape)}: "
                f"{error}"
            ) from error
        return dict(zip(names, found, strict=True))


def check_batch(path: Path, predict: Predict, image: Array) -> None:
    """Runs one image and two, where a file says that it takes any number of them.

    Args:
        path: the file.
        predict: images [b, c, h, w] -> answers, as the file gives them.
        image: [1, c, h, w].

    Raises:
        ModelFileError: it does not take the image, or takes one alone; names the node.
    """
    if fixed_batch(read_model(path)) is not None:
        return
    predict(image)
    reason = ""
    try:
        found = predict(np.repeat(image, 2, axis=0))
        rows = min(len(np.atleast_1d(array)) for array in found.values())
    except ModelFileError as error:
        rows, reason = 0, str(error)
    if rows == 2:
        return
    node = re.search(r"running (\w+) node\. Name:'([^']*)'", reason)
    where = f"of two it gives {rows}"
    if reason:
        where = f"on two its node {node[1]} '{node[2]}' fails" if node else first_line(reason)
    fixed = fixed_reshapes(normalised(path))
    if fixed:
        where += f". It has {listed(fixed)} to a fixed number of rows"
    raise ModelFileError(
        f"{path.name} claims to take any number of images, but takes only one: {where}. Export it "
        "again with a free batch size (a Reshape to -1 rows, not to 1), or with a batch size of "
        "1 in the shape of its input."
    )


def in_batches_of(size: int | None, predict: Predict) -> Predict:
    """Calls what takes ``size`` images alone with any number; None where it takes any itself.

    The last batch is filled up with images again, whose answers are dropped.
    """
    if size is None:
        return predict
    whole = size

    def all_of(images: Array) -> Arrays:
        parts = []
        for start in range(0, len(images), whole):
            part = images[start : start + whole]
            found = predict(np.resize(part, (whole, *part.shape[1:])))
            parts.append(rows_at(found, slice(len(part))))
        return joined(parts)

    return all_of


def _shape(sizes: Sequence[object]) -> str:
    return "[" + ", ".join(map(str, sizes)) + "]"


def _batch_at(start: int) -> int:
    """1 image, then 3, then 64 at a time."""
    for index, size in enumerate(BATCHES):
        if start <= sum(BATCHES[:index]):
            return size
    return BATCHES[-1]


def _first_difference(model: nn.Module, path: Path, image: Tensor) -> str:
    """The first layer with weights whose output the model does not have anywhere; may be ''.

    Layers keep the names of their weights in the file. The exporter may have merged a layer with
    the one behind it, so an output of the file counts as right when any of the model's modules
    gives it.
    """
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _arguments: object, output: object) -> None:
        if isinstance(output, Tensor):
            outputs.append(output)

    hooks = [module.register_forward_hook(keep) for module in model.modules()]
    try:
        with torch.inference_mode():
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    graph = onnx.load(path)
    weights = {tensor.name for tensor in graph.graph.initializer}
    layers = {
        node.output[0]: next(name for name in node.input if name in weights)
        for node in graph.graph.node
        if weights.intersection(node.input) and node.op_type in ("Conv", "Gemm", "MatMul")
    }
    try:
        values = values_of(graph, list(layers))(image.numpy())
    except _UNLOADABLE:
        return ""
    for name, value in values.items():
        same = [output.numpy() for output in outputs if tuple(output.shape) == value.shape]
        scale = max(1.0, float(np.abs(value).max()))
        if not any(np.abs(value - output).max() <= TOLERANCE * scale for output in same):
            layer = layers[name].rpartition(".")[0] or layers[name]
            return f" The first layer that differs is '{layer}'."
    return ""
