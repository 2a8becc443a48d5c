"""What a data set asks of a network, and how good an answer is: all that depends on that is here.

A network answers images with named tensors (``Outputs``), a file with named arrays (``Arrays``).
Which of them are the answers, what they are held against, what is descended, what is counted and
how two models are compared is the task's; everybody else asks it. A data set has its task
(``Dataset.task``).

The engine uses it like this, and knows no label, class or accuracy of its own:

    targets = task.targets(split.targets[index], smoothing)     # of a batch
    loss = task.loss(named_outputs(network, images, task), targets)  # what a recipe descends
    tally = task.tally(device)                                  # of an evaluation
    tally.add(named_outputs(network, images, task), split.targets[part])    # batch by batch
    value = tally.value(team.all_reduce_sum)                    # higher is better
    metrics[f"validation_{task.metric.name}"] = value
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Protocol, Self, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.onnx_file import Value
from compress.results import Estimate

# What images are to be answered with, a row an image. A task whose images have targets of
# different lengths makes this a union of Tensor and a class that has the same ``len``, ``[index]``,
# ``[slice]`` and ``to``: nothing outside of a task does more with targets.
Targets: TypeAlias = Tensor

# By name, a row an image; on the device that computes, with a gradient where one is wanted.
Outputs: TypeAlias = Mapping[str, Tensor]
# The same of a file, on the CPU.
Arrays: TypeAlias = Mapping[str, NDArray[Any]]

# Tensors or arrays.
Rows = TypeVar("Rows", Tensor, NDArray[Any])

Sum: TypeAlias = Callable[[Tensor], Tensor]


def alone(values: Tensor) -> Tensor:
    """The sum over all processes, where there is one."""
    return values


def named_outputs(network: nn.Module, images: Tensor, task: Task) -> Outputs:
    """What a network answers, by name; what a network of one output gives has the task's name.

    Args:
        network: images -> a tensor, or tensors by name.
        images: as the network takes them.
        task: whose answers these are.
    """
    found: Tensor | Outputs = network(images)
    return {task.output: found} if isinstance(found, Tensor) else found


def tensors_of(arrays: Arrays) -> dict[str, Tensor]:
    """A file's answers as float32 tensors of their own: its next call may use the same memory."""
    return {name: torch.from_numpy(np.array(array, np.float32)) for name, array in arrays.items()}


def arrays_of(outputs: Outputs) -> dict[str, NDArray[Any]]:
    """A network's answers as arrays on the CPU."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in outputs.items()}


def joined(parts: Sequence[Mapping[str, Rows]]) -> dict[str, Rows]:
    """The answers to several batches as those to one; one part or more."""
    together: Any = (
        torch.cat if isinstance(next(iter(parts[0].values())), Tensor) else np.concatenate
    )
    return {name: together([part[name] for part in parts]) for name in parts[0]}


def rows_at(answers: Mapping[str, Rows], index: Tensor | slice) -> dict[str, Rows]:
    """The answers to some of the images."""
    return {name: rows[index] for name, rows in answers.items()}


def finite_rows(arrays: Arrays) -> NDArray[np.bool_]:
    """Which images [n] have nothing but finite numbers in any of their answers."""
    each = [np.isfinite(a).reshape(len(a), -1).all(axis=1) for a in arrays.values()]
    found: NDArray[np.bool_] = np.logical_and.reduce(each)
    return found


class Written(Protocol):
    """A score as people read it."""

    def __call__(self, value: float, digits: int = 2, /) -> str:
        """0.912 -> '91.20%', with so many digits behind the point."""
        ...


@dataclass(frozen=True)
class Metric:
    """How a score is called and written; more is better.

    Attributes:
        name: in tables, in JSON and in metrics.jsonl: "accuracy".
        text: a value -> "91.20%".
        unit: of differences, where they are shown: "points"; empty where there is none.
        scale: what a difference is multiplied by to be in that unit.
    """

    name: str
    text: Written
    unit: str = ""
    scale: float = 1.0

    def change(self, drop: float) -> str:
        """A drop of 0.002 -> '-0.20', the change that it is."""
        return f"{-self.scale * drop + 0.0:+.2f}"

    def with_unit(self, number: str) -> str:
        """'-0.20' -> '-0.20 points'."""
        return f"{number} {self.unit}".rstrip()


class Tally(Protocol):
    """A score that adds up over batches where the network computes; nothing waits for the device.

    Each of several processes adds its own part of the images.
    """

    def add(self, outputs: Outputs, targets: Targets) -> None:
        """Takes in a batch."""
        ...

    def value(self, total: Sum = alone) -> float:
        """The score of all batches.

        Args:
            total: the sum of a tensor over all processes; it is called equally often in each.
        """
        ...


class Evidence(Protocol):
    """What each image contributes to a score: two models are compared image by image.

    It is kept in a baseline's file, so that a model that is gone can be compared with.
    """

    def __len__(self) -> int:
        """How many images."""
        ...

    @property
    def value(self) -> float:
        """The score that follows from it."""
        ...

    @property
    def details(self) -> str:
        """What the score rests on, before "images": "8,760 of 10,000"."""
        ...

    def take(self, index: Tensor) -> Evidence:
        """That of the images at ``index``, int64 [k]."""
        ...

    def differing(self, other: Self) -> int:
        """Of how many images another evidence of as many says otherwise."""
        ...

    def against(self, other: Self) -> Pair:
        """This model, the candidate, beside another one on the same images.

        Raises:
            UsageError: there are no images, or not the same number.
        """
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``Task.stored`` reads them back."""
        ...


class Stored(Protocol):
    """How evidence lies in a file: a dataclass that ``compress.schema`` decodes."""

    @property
    def evidence(self) -> Evidence:
        """What it holds."""
        ...


class Pair(Protocol):
    """Two models on the same images, the candidate and what it is compared with."""

    @property
    def metric(self) -> Metric:
        """Of both scores."""
        ...

    @property
    def n(self) -> int:
        """Images, one or more."""
        ...

    @property
    def score(self) -> float:
        """The candidate's."""
        ...

    @property
    def drop(self) -> float:
        """The other's score less the candidate's."""
        ...

    def interval(self) -> Estimate:
        """The drop with 95% bounds."""
        ...

    def false_alarm(self) -> float:
        """One-sided: how often equally good models would drop as far or further."""
        ...

    def deviations(self) -> float:
        """How many standard deviations of equally good models the drop lies above none."""
        ...

    def images_needed(self, allowed: float) -> int | None:
        """How many images would decide, if they went as these; None where no number would."""
        ...

    @property
    def details(self) -> str:
        """What the drop rests on, the end of a sentence: "12 lost and 10 won of 500 images"."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """The counts behind it as plain values; ``Task.pair_of`` reads them back."""
        ...

    def figures(self) -> dict[str, float]:
        """What else follows from them, for whoever reads a verdict's JSON."""
        ...


@dataclass(frozen=True)
class Agreement:
    """How far the answers of two models to the same images are apart, image by image.

    Attributes:
        finite: whether all numbers that were found are finite [n].
        difference: the largest of an answer's numbers' absolute differences [n].
        moved: the same without what is added to all numbers alike, where that changes no answer
            [n].
        spread: how far an expected answer's numbers lie apart; what ``moved`` is small beside [n].
        other: whether the answer is another one [n], however near: another class.
        margin: by how much the expected answer was preferred to the one that was found [n]; a tie
            is within the tolerance.
        relative_error: root mean square of the differences by that of what was expected, both
            less what changes no answer; 1 where a number is not finite.
    """

    finite: NDArray[np.bool_]
    difference: NDArray[np.float64]
    moved: NDArray[np.float64]
    spread: NDArray[np.float64]
    other: NDArray[np.bool_]
    margin: NDArray[np.float64]
    relative_error: float

    @property
    def share(self) -> float:
        """Of images whose answer is the same one; one that is not finite is none."""
        return float((self.finite & ~self.other).mean())

    @property
    def largest(self) -> float:
        """Difference of any number that is finite."""
        return float(self.difference[self.finite].max(initial=0.0))

    def beyond(self, tolerance: float) -> NDArray[np.bool_]:
        """Which images differ by more than a tolerance, or in more than a tie within it [n]."""
        # Not (a > b), so that what is not a number counts as different.
        return ~(self.difference <= tolerance) | (self.other & ~(self.margin <= tolerance))

    def moved_beyond(self, share: float, nothing: float) -> NDArray[np.bool_]:
        """Which images moved by more than a share of their spread, and by more than nothing [n]."""
        return ~(self.moved <= share * self.spread + nothing)


class Standing(Enum):
    """Whether a network is better than one that does not look at the images."""

    BETTER = "better"
    UNDECIDED = "undecided"
    NO_BETTER = "no better"


@dataclass(frozen=True)
class Chance:
    """A network beside one that does not look at the images.

    Attributes:
        standing: whether it is better.
        found: the figures, as a sentence that begins with "it is right on".
        cause: why it may be no better, as far as answers show it: "its classes are others".
    """

    standing: Standing
    found: str
    cause: str = ""

    @property
    def text(self) -> str:
        """What was found; the end of a sentence that says what the network is."""
        perhaps = {
            Standing.BETTER: "better than chance",
            Standing.UNDECIDED: "perhaps no better than chance",
            Standing.NO_BETTER: "no better than chance",
        }[self.standing]
        return f"{perhaps}: {self.found}"


class Confidence(Protocol):
    """How sure a model is of each answer, and how often it is right where it is so sure."""

    def error(self, weights: NDArray[np.float64] | None = None) -> float:
        """How far both are apart, as a fraction of 1; images count by their weights [n]."""
        ...


class Reading(Protocol):
    """How a file's outputs become a task's answers."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the file's outputs that are read."""
        ...

    @property
    def note(self) -> str:
        """What was chosen of several, a sentence; may be empty."""
        ...

    def __call__(self, arrays: Arrays, count: int) -> Arrays:
        """The file's arrays for so many images -> answers by the task's names.

        Raises:
            ModelFileError: they are not what they have to be.
        """
        ...


class Task(Protocol):
    """What a data set asks of a network.

    Two tasks are equal where models of one can be scored on the other's data.

    Attributes:
        name: that a baseline's file has: "classification".
        metric: of its score.
        output: that a network's answers are, where it has one output: "logits".
        noun: what ``width`` counts, in the plural: "classes".
        number: what one of these numbers is: "logit".
        answer: what they come to: "class".
        stored: how evidence lies in a file, for ``compress.schema.decode``.
    """

    name: ClassVar[str]
    metric: ClassVar[Metric]
    output: ClassVar[str]
    noun: ClassVar[str]
    number: ClassVar[str]
    answer: ClassVar[str]
    stored: ClassVar[type[Stored]]

    @property
    def width(self) -> int:
        """How many numbers answer an image."""
        ...

    def width_of(self, outputs: Outputs) -> int:
        """How many numbers an image was answered with."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """What the numbers are called, in the data's order; empty where they have no names."""
        ...

    # --- what is learnt --------------------------------------------------------------------------

    def targets(self, targets: Targets, smoothing: float = 0.0) -> Targets:
        """What the loss of a batch is with.

        Args:
            targets: of its images.
            smoothing: share of label smoothing, from 0; a task to which it means nothing refuses
                another.
        """
        ...

    def loss(self, outputs: Outputs, targets: Targets) -> Tensor:
        """The mean loss of a batch, a scalar, with what ``targets`` gave."""
        ...

    def strata(self, targets: Targets) -> Tensor:
        """Which of several kinds each image is of, int64 [n]: samples have their share of each."""
        ...

    # --- how good it is --------------------------------------------------------------------------

    def tally(self, device: torch.device) -> Tally:
        """An empty score."""
        ...

    def evidence(self, outputs: Outputs, targets: Targets) -> Evidence:
        """What each image contributes to the score; the tensors may lie on different devices."""
        ...

    def pair_of(self, counts: Mapping[str, Any]) -> Pair:
        """A comparison from what ``Pair.to_dict`` gave."""
        ...

    def chance(self, outputs: Outputs, targets: Targets, *, tried: int = 1) -> Chance:
        """Whether a network is better than one that does not look at the images.

        Args:
            outputs: its answers.
            targets: of the same images.
            tried: how many ways to run it were tried, of which this is the best.
        """
        ...

    def confidence(self, outputs: Outputs, targets: Targets) -> Confidence | None:
        """How sure a model is of what; None for a task whose answers do not say it."""
        ...

    # --- what a file says ------------------------------------------------------------------------

    def reading(
        self,
        outputs: Sequence[Value],
        file: str,
        wanted: str | None = None,
        *,
        images: int | None = None,
    ) -> Reading:
        """Which of a file's outputs are the answers.

        Args:
            outputs: of the file, with the sizes that it says or that a run has shown.
            file: its name, for messages.
            wanted: what the user calls the output.
            images: how many the sizes are of; None where they are what the file says.

        Raises:
            UnknownName: there is no output of the name that is wanted.
            ModelFileError: none can be, or several could be.
        """
        ...

    def agreement(self, expected: Arrays, found: Arrays) -> Agreement:
        """How far two models' answers to the same images are apart, each computed in float64."""
        ...

    def parting(self, expected: Arrays, found: Arrays) -> str:
        """What differs in the answers to one image (arrays of one row), sentences' end.

        "the model gives class 3 (logit 2.1), the file class 5 (logit 2.2); the largest difference
        is in logit 5, 1.9 and 2.2"
        """
        ...

    def permuted(self, outputs: Outputs, order: Sequence[int]) -> Outputs:
        """The answers with number ``order[i]`` at place i; as they are where there are others."""
        ...

    def with_classes(self, classes: Sequence[str]) -> Task:
        """The same with other names of its numbers."""
        ...

    def renumbered(self, targets: Targets, order: Sequence[int]) -> Targets:
        """Targets of class i as those of class ``order[i]``."""
        ...
