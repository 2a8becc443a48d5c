"""The score of anything that answers images: a network in memory, or a file in its runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from compress import onnx_file
from compress.data.dataset import Dataset, Split
from compress.data.images import Images
from compress.data.normalization import Normalizer, normalize
from compress.onnx_io import ImageInput, image_form
from compress.profiling.inputs import Sample, images_kept
from compress.profiling.inspection import inspect_file
from compress.profiling.registry import runtime_named
from compress.profiling.runtime import Input, Session, Subject
from compress.spec import Normalization, Target
from compress.tasks.task import Outputs, Reading, Task, joined, named_outputs, rows_at, tensors_of
from compress.training.team import SINGLE_PROCESS, Team

# Large enough to keep the cores busy, small enough for any memory.
EVALUATION_BATCH = 250
# What a timing gets to draw from.
SAMPLE_IMAGES, SAMPLE_BYTES = 1000, 64_000_000

Predict = Callable[[Tensor], Outputs]


def predictor(network: nn.Module, task: Task) -> Predict:
    """Normalised images [b, c, h, w] -> float32 answers on the CPU, in evaluation mode.

    The images may lie on another device than the network.
    """

    def predict(images: Tensor) -> Outputs:
        was_training = network.training
        network.eval()
        there = images.to(next(network.parameters()).device)
        with torch.inference_mode():
            there = there.contiguous(memory_format=torch.channels_last)
            found = named_outputs(network, there, task)
        network.train(was_training)
        return {name: tensor.float().cpu() for name, tensor in found.items()}

    return predict


@dataclass(frozen=True)
class FilePredictor:
    """A file that is loaded, as a function: normalised images [b, c, h, w] -> answers.

    Attributes:
        session: of the file.
        form: how it takes images. One that takes bytes normalises them itself: it is given images
            from 0 to 1 here.
        reading: which of its outputs are the answers.
        note: what was chosen of several outputs and inputs, a sentence; may be empty.
        file: its name.
    """

    session: Session
    form: ImageInput
    reading: Reading
    note: str
    file: str

    def __call__(self, images: Tensor) -> Outputs:
        """Answers to images; a file of a fixed batch is called with whole batches."""
        size = self.form.batch
        if size is None:
            return self._infer(images)
        parts = []
        for part in images.split(size):
            missing = size - len(part)
            filled = torch.cat([part, part[:1].expand(missing, *part.shape[1:])])
            parts.append(self._infer(filled))
        return rows_at(joined(parts), slice(len(images)))

    def _infer(self, images: Tensor) -> Outputs:
        return self.call(self.form.of(images.cpu().numpy()))

    def call(self, images: Input) -> Outputs:
        """Answers to images as the file takes them."""
        self.session.infer(images)
        self.session.synchronize()
        return tensors_of(self.reading(self.session.outputs(), len(images)))


@contextmanager
def file_predictor(
    path: Path,
    target: Target,
    task: Task,
    *,
    shape: tuple[int, ...] | None = None,
    output: str | None = None,
    made_here: bool = False,
) -> Iterator[FilePredictor]:
    """The same for a file, as the target's runtime runs it; one of a fixed batch in its batches.

    Args:
        path: the file.
        target: the runtime and its threads.
        task: whose answers it gives.
        shape: of the images, channels first, where the file leaves it open.
        output: that its answers are, where several could be and its metadata does not say it.
        made_here: whether this run has made the file; else it is looked at in a process that can
            be ended (see ``compress.profiling.inspection``).

    Raises:
        ModelFileError: the file cannot be loaded or run, answers the same images differently each
            time, or has no output that the task can read.
    """
    form = image_form(onnx_file.input_of(path), path.name)
    model = onnx_file.read_model(path)
    outputs, shown = onnx_file.outputs_of(model), None
    if not made_here:
        found = inspect_file(path, _in_order(form, shape))
        found.refuse_unrepeatable(path)
        outputs, shown = found.outputs, found.rows
    wanted = output or onnx_file.stated_output(model)
    reading = task.reading(outputs, path.name, wanted, images=shown)
    note = reading.note
    if form.channels_last or form.dtype != "float32":
        note = f"{path.name} takes {form}; the images are converted to that. {note}".strip()
    subject = Subject(path.name, path=path)
    session = runtime_named(target.runtime).load(subject, threads=target.threads)
    try:
        yield FilePredictor(session, form, reading, note, path.name)
    finally:
        session.close()


def _in_order(form: ImageInput, shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Sizes of images, channels first, in the order of the file."""
    if shape is None or not form.channels_last:
        return shape
    channels, height, width = shape
    return height, width, channels


def answers_to(predict: Predict, images: Images, normalization: Normalization) -> Outputs:
    """Answers to uint8 images [n, c, h, w], batch by batch."""
    return joined(
        [predict(normalize(part, normalization)) for part in images.split(EVALUATION_BATCH)]
    )


def stratified_sample(split: Split, task: Task, count: int) -> Tensor:
    """Positions of at most ``count`` images, each of the task's strata with its share.

    They are mixed, and always the same ones.
    """
    by_stratum = torch.argsort(task.strata(split.targets).cpu(), stable=True)
    count = min(count, len(split))
    places = torch.linspace(0, len(split) - 1, count, dtype=torch.float64).round().long()
    mixed = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return by_stratum[places][mixed]


def timing_sample(data: Dataset, split: Split, normalization: Normalization) -> Sample | None:
    """Images for models to be timed on, a stratified sample; None where there are none.

    Args:
        data: that they are of.
        split: of the data.
        normalization: what the images go through.
    """
    if len(split) == 0:
        return None
    most = images_kept(tuple(split.images.shape[1:]), SAMPLE_IMAGES, SAMPLE_BYTES)
    images = split.take(stratified_sample(split, data.task, most)).images[:]
    return Sample(images.cpu().numpy(), normalization, data.name)


def score_on_device(
    network: nn.Module,
    task: Task,
    split: Split,
    normalization: Normalization,
    layout: torch.memory_format = torch.channels_last,
    team: Team = SINGLE_PROCESS,
) -> float:
    """The task's score of a network where its images are; nothing but it leaves the device.

    Each process of a team looks at its part of them.
    """
    mine = split.part(team.shard(len(split)))
    was_training = network.training
    network.eval()
    tally = task.tally(split.targets.device)
    normalized = Normalizer(normalization, split.targets.device)
    with torch.inference_mode():
        for images, targets in zip(
            mine.images.split(EVALUATION_BATCH), mine.targets.split(EVALUATION_BATCH), strict=True
        ):
            inputs = normalized(images).contiguous(memory_format=layout)
            tally.add(named_outputs(network, inputs, task), targets)
    network.train(was_training)
    return tally.value(team.all_reduce_sum)


def evaluate(predict: Predict, task: Task, split: Split, normalization: Normalization) -> float:
    """The task's score on a split."""
    return task.evidence(answers_to(predict, split.images, normalization), split.targets).value
