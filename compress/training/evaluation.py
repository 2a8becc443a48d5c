"""Accuracy of anything that turns images into logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from compress import onnx_file
from compress.data.dataset import Split
from compress.data.images import Images
from compress.data.normalization import Normalizer, normalize
from compress.errors import DataError
from compress.onnx_file import Value
from compress.onnx_io import ImageInput, answers_of, image_form, rows_of
from compress.profiling.inputs import Sample, images_kept
from compress.profiling.inspection import inspect_file
from compress.profiling.registry import runtime_named
from compress.profiling.runtime import Input, Session, Subject
from compress.spec import Normalization, Target
from compress.training.team import SINGLE_PROCESS, Team

# Large enough to keep the cores busy, small enough for any memory.
EVALUATION_BATCH = 250
# What a timing gets to draw from.
SAMPLE_IMAGES, SAMPLE_BYTES = 1000, 64_000_000

Predict = Callable[[Tensor], Tensor]


def predictor(network: nn.Module) -> Predict:
    """Normalised images [b, c, h, w] -> logits [b, C] on the CPU, in evaluation mode.

    The images may lie on another device than the network.
    """

    def predict(images: Tensor) -> Tensor:
        was_training = network.training
        network.eval()
        there = images.to(next(network.parameters()).device)
        with torch.inference_mode():
            logits: Tensor = network(there.contiguous(memory_format=torch.channels_last))
        network.train(was_training)
        return logits.float().cpu()

    return predict


@dataclass(frozen=True)
class FilePredictor:
    """A file that is loaded, as a function: normalised images [b, c, h, w] -> logits [b, C].

    Attributes:
        session: of the file.
        form: how it takes images. One that takes bytes normalises them itself: it is given images
            from 0 to 1 here.
        output: that its answers are.
        note: what was chosen of several outputs and inputs, a sentence; may be empty.
        file: its name.
    """

    session: Session
    form: ImageInput
    output: Value
    note: str
    file: str

    def __call__(self, images: Tensor) -> Tensor:
        """Logits of images; a file of a fixed batch is called with whole batches."""
        size = self.form.batch
        if size is None:
            return self._infer(images)
        parts = []
        for part in images.split(size):
            missing = size - len(part)
            filled = torch.cat([part, part[:1].expand(missing, *part.shape[1:])])
            parts.append(self._infer(filled))
        return torch.cat(parts)[: len(images)]

    def _infer(self, images: Tensor) -> Tensor:
        return self.call(self.form.of(images.cpu().numpy()))

    def call(self, images: Input) -> Tensor:
        """Logits of images as the file takes them."""
        self.session.infer(images)
        self.session.synchronize()
        found = self.session.outputs()[self.output.name]
        rows = rows_of(found, len(images), self.output, self.file)
        return torch.tensor(rows).float()  # a copy: the next call may use the same memory


@contextmanager
def file_predictor(
    path: Path,
    target: Target,
    *,
    shape: tuple[int, ...] | None = None,
    output: str | None = None,
    made_here: bool = False,
) -> Iterator[FilePredictor]:
    """The same for a file, as the target's runtime runs it; one of a fixed batch in its batches.

    Args:
        path: the file.
        target: the runtime and its threads.
        shape: of the images, channels first, where the file leaves it open.
        output: that its answers are, where several could be and its metadata does not say it.
        made_here: whether this run has made the file; else it is looked at in a process that can
            be ended (see ``compress.profiling.inspection``).

    Raises:
        ModelFileError: the file cannot be loaded or run, answers the same images differently each
            time, or gives no row of logits an image.
    """
    form = image_form(onnx_file.input_of(path), path.name)
    model = onnx_file.read_model(path)
    outputs, rows = onnx_file.outputs_of(model), None
    if not made_here:
        found = inspect_file(path, _in_order(form, shape))
        found.refuse_unrepeatable(path)
        outputs, rows = found.outputs, found.rows
    wanted = output or onnx_file.stated_output(model)
    answers, note = answers_of(outputs, path.name, wanted, rows=rows)
    if form.channels_last or form.dtype != "float32":
        note = f"{path.name} takes {form}; the images are converted to that. {note}".strip()
    subject = Subject(path.name, path=path)
    session = runtime_named(target.runtime).load(subject, threads=target.threads)
    try:
        yield FilePredictor(session, form, answers, note, path.name)
    finally:
        session.close()


def _in_order(form: ImageInput, shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Sizes of images, channels first, in the order of the file."""
    if shape is None or not form.channels_last:
        return shape
    channels, height, width = shape
    return height, width, channels


def logits_of(predict: Predict, images: Images, normalization: Normalization) -> Tensor:
    """Logits float32 [n, C] of uint8 images [n, c, h, w], batch by batch."""
    parts = [predict(normalize(part, normalization)) for part in images.split(EVALUATION_BATCH)]
    return torch.cat(parts)


def stratified_sample(labels: Tensor, count: int) -> Tensor:
    """Positions of at most ``count`` images of all classes alike, mixed; always the same ones."""
    by_class = torch.argsort(labels.cpu(), stable=True)
    count = min(count, len(labels))
    places = torch.linspace(0, len(labels) - 1, count, dtype=torch.float64).round().long()
    mixed = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return by_class[places][mixed]


def timing_sample(split: Split, normalization: Normalization, name: str) -> Sample | None:
    """Images of a split for models to be timed on; None where it has none.

    Args:
        split: of the data; all of its classes are in the sample alike.
        normalization: what the images go through.
        name: of the data.
    """
    if len(split) == 0:
        return None
    most = images_kept(tuple(split.images.shape[1:]), SAMPLE_IMAGES, SAMPLE_BYTES)
    images = split.take(stratified_sample(split.labels, most)).images[:]
    return Sample(images.cpu().numpy(), normalization, name)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of logits [n, C] whose largest is the label [n].

    Raises:
        DataError: there are no images.
    """
    if len(labels) == 0:
        raise DataError("This split is empty, but accuracy needs at least one image.")
    return float((logits.argmax(dim=1).cpu() == labels.cpu()).double().mean())


def accuracy_on_device(
    network: nn.Module,
    split: Split,
    normalization: Normalization,
    layout: torch.memory_format = torch.channels_last,
    team: Team = SINGLE_PROCESS,
) -> float:
    """Accuracy of a network where its images are; nothing but the figure leaves the device.

    Each process of a team looks at its part of them.
    """
    mine = split.part(team.shard(len(split)))
    was_training = network.training
    network.eval()
    hits = torch.zeros((), dtype=torch.int64, device=split.labels.device)
    normalized = Normalizer(normalization, split.labels.device)
    with torch.inference_mode():
        for images, labels in zip(
            mine.images.split(EVALUATION_BATCH), mine.labels.split(EVALUATION_BATCH), strict=True
        ):
            inputs = normalized(images).contiguous(memory_format=layout)
            hits += (network(inputs).argmax(dim=1) == labels).sum()
    network.train(was_training)
    return int(team.all_reduce_sum(hits)) / len(split)


def evaluate(predict: Predict, split: Split, normalization: Normalization) -> float:
    """Accuracy on a split, as a fraction of 1."""
    return accuracy(logits_of(predict, split.images, normalization), split.labels)
