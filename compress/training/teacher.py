"""A pretrained network of anybody's, made ready to teach: read, identified, probed, judged.

Weights do not show which normalisation they were trained with, nor some structural choices (see
compress.models.recognition). Two things do. Batch norms remember the mean and the variance of what
they saw in training: run the right way, images of the same kind give them again, and that needs
no labels and few images. Accuracy on validation images then confirms the choice or overrules it;
alone it often cannot decide, since a slightly wrong normalisation costs no accuracy.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

import torch
from torch import Tensor, nn

from compress.data.augment import Augmenter
from compress.data.classes import class_mapping, class_note
from compress.data.dataset import Dataset
from compress.data.images import Images
from compress.data.normalization import describe, known_for, name_of, normalize
from compress.errors import DataError, TeacherError, UsageError
from compress.files import sha256_of
from compress.models.checkpoint import read_tensors
from compress.models.recognition.hypothesis import Hypothesis, in_order, instantiate
from compress.models.recognition.statement import statement_of, structure
from compress.models.registry import Network
from compress.spec import ModelSpec, Normalization
from compress.training.evaluation import Predict, accuracy, logits_of, predictor, spread
from compress.units import format_percent

# A reading is dropped as soon as it is worse than the best by this many standard deviations of
# the paired difference; what is left after the last round is tied.
PROBE_ROUNDS = (32, 128, 500)
# Of a model whose statistics cannot be read; accuracy alone has to decide.
MODEL_PROBE_ROUNDS = (*PROBE_ROUNDS, 1000)
STATISTICS_IMAGES = 128
# Statistics decide where the next best differs from them by more than twice as much.
DECIDING_RATIO = 2.0
REJECTING_DEVIATIONS = 3.0
# The probability with which a network that only guesses counts as better than chance.
SIGNIFICANCE = 1e-3
# So many standard deviations above the mean of a normal distribution is as unlikely.
DECIDING_DEVIATIONS = 3.09
# Accuracy that goes less than this share of the way from chance to 1 is next to chance.
NEXT_TO_CHANCE = 0.1
# Keeps the divergence of filters that never vary finite.
EPSILON = 1e-5


@dataclass(frozen=True)
class Teacher:
    """A network that a student can learn from.

    Attributes:
        network: in evaluation mode, frozen, on its device.
        spec: what it is.
        normalization: what its images go through.
        accuracy: on the validation images, as a fraction of 1.
        notes: what was found and assumed, in sentences.
        sha256: of the file.
    """

    network: Network
    spec: ModelSpec
    normalization: Normalization
    accuracy: float
    notes: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class Identified:
    """A network that can be run, however well it does.

    Attributes:
        network: in evaluation mode, frozen, on its device.
        spec: what it is, with the height and width of the data.
        normalization: what its images go through.
        tried: the normalisations that this one was chosen from.
        classes: what the file calls its classes, in the order of the network's outputs; none
            where it does not say.
        notes: what was found and assumed, in sentences.
    """

    network: Network
    spec: ModelSpec
    normalization: Normalization
    tried: tuple[Normalization, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Candidate:
    """One way to run the file: a reading of its weights with a normalisation."""

    hypothesis: Hypothesis
    normalization: Normalization


def load_teacher(
    path: Path,
    data: Dataset,
    *,
    normalization: Normalization | None,
    arch: str | None,
    device: torch.device,
) -> Teacher:
    """Identifies a checkpoint (see ``identify``, the same arguments) and judges it as a teacher.

    Raises:
        CheckpointError: the file cannot be used.
        TeacherError: other classes or channels than the data, or no better than chance.
        DataError: there are no validation images to judge it on.
        UsageError: ``arch`` or ``normalization`` cannot be.
    """
    if len(data.validation) == 0:
        raise DataError(
            f"There are no validation images to judge the teacher {path} on. Hold some out of "
            "the training data with --validation."
        )
    found = identify(path, data, normalization=normalization, arch=arch, device=device)
    labels = data.validation.labels
    logits = logits_of(predictor(found.network), data.validation.images, found.normalization)
    chance = compare_with_chance(logits, labels)
    if chance.standing is Standing.NO_BETTER:
        raise TeacherError(f"The teacher is {chance.text} {_causes(logits, labels, found)}")
    notes = list(found.notes)
    if chance.standing is Standing.UNDECIDED:
        notes.append(f"Warning: the teacher is {chance.text}")
    return Teacher(
        found.network,
        found.spec,
        found.normalization,
        accuracy(logits, labels),
        tuple(notes),
        sha256_of(path),
    )


def identify(
    path: Path,
    data: Dataset,
    *,
    normalization: Normalization | None,
    arch: str | None,
    device: torch.device,
) -> Identified:
    """Reads a checkpoint and finds out how to run it.

    Where the file and the data name the same classes in another order, the network that is given
    has its outputs in the data's (see ``compress.data.classes``).

    Args:
        path: a .pt, .pth, .th or .safetensors file.
        data: what it is to run on. What its weights do not show is probed on the validation
            images; there may be none where nothing is to be probed.
        normalization: what the user says; else the file's own, else it is probed, the data's own
            first.
        arch: what the user says of the network (see ``compress.models.recognition.statement``).
        device: where it is to run.

    Raises:
        CheckpointError: the file cannot be used.
        TeacherError: other classes or channels than the data.
        DataError: there are no validation images, and the normalisation has to be probed; or its
            classes are in another order than the data's and cannot be matched by name.
        UsageError: ``arch`` or ``normalization`` cannot be.
    """
    images, labels, input_shape = data.validation.images, data.validation.labels, data.input_shape
    checkpoint = read_tensors(path)
    hypotheses = checkpoint.hypotheses(arch=arch, image_size=input_shape[1:])
    spec = hypotheses[0].spec
    _check_fits(path, spec, data.num_classes, input_shape)
    notes = list(checkpoint.notes)
    classes = checkpoint.classes if len(checkpoint.classes) == spec.num_classes else ()
    order = class_mapping(classes, data.class_names)
    if note := class_note(classes, data.class_names):
        notes.append(note)
    if order is not None:
        classes = tuple(classes[place] for place in order)
        hypotheses = [in_order(hypothesis, order) for hypothesis in hypotheses]
    if spec.input_shape != input_shape:
        # Global pooling lets the networks take images of any size.
        notes.append(
            f"{path.name} was made for images of {_size(spec.input_shape)}; it runs on the "
            f"data's {_size(input_shape)} here."
        )
        hypotheses = [replace(h, spec=h.spec.with_(input_shape=input_shape)) for h in hypotheses]
    stated = checkpoint.normalization or hypotheses[0].normalization
    if stated is not None and len(stated.mean) != input_shape[0]:
        notes.append("The file's normalisation is of another number of channels; it was not used.")
        stated = None
    if normalization is not None:
        check_channels(normalization, input_shape[0])
        if stated is not None and stated != normalization:
            notes.append(f"--normalize was taken; the file itself says {describe(stated)}.")
        tried = [normalization]
    elif stated is not None:
        tried = [stated]
        notes.append(f"The normalisation is the file's own: {describe(stated)}.")
    else:
        tried = known_normalizations(path, data.normalization, len(labels))
    candidates = [_Candidate(h, n) for n in tried for h in hypotheses]
    if len(candidates) > 1 and len(labels):
        chosen, found = _probe(candidates, images, labels, device)
        notes += found
    else:
        chosen = candidates[0]
        if len(candidates) > 1:
            notes.append(
                "The weights do not show everything, and there are no validation images to find "
                f"it on: {structure(chosen.hypothesis.spec)} was taken. State it where it is "
                f"another ({statement_of(hypotheses[1].spec)}, say)."
            )
    notes += chosen.hypothesis.notes
    return Identified(
        instantiate(chosen.hypothesis).to(device).requires_grad_(False),
        chosen.hypothesis.spec,
        chosen.normalization,
        tuple(tried),
        classes,
        tuple(dict.fromkeys(notes)),
    )


def check_channels(normalization: Normalization, channels: int) -> None:
    """Refuses a user's normalisation of another number of channels than the images have.

    Raises:
        UsageError: it is.
    """
    if len(normalization.mean) != channels:
        raise UsageError(
            f"--normalize has {len(normalization.mean)} channel(s), the images have {channels}; "
            "give one mean and one deviation a channel."
        )


def known_normalizations(path: Path, own: Normalization, images: int) -> list[Normalization]:
    """What to probe where nobody states the normalisation: the data set's own, then the known.

    Args:
        path: of the model, for the message.
        own: the data set's.
        images: how many there are to probe on.

    Raises:
        DataError: none.
    """
    if images == 0:
        raise DataError(
            f"{path} does not say its normalisation, and there are no validation images to find "
            "it on. Give --normalize, or hold images out with --validation."
        )
    return list(dict.fromkeys([own, *known_for(len(own.mean)).values()]))


def _size(shape: tuple[int, int, int]) -> str:
    return f"{shape[1]}x{shape[2]}"


def _check_fits(
    path: Path, spec: ModelSpec, num_classes: int, input_shape: tuple[int, int, int]
) -> None:
    """Raises where the network cannot be scored on the data at all."""
    faults = []
    if spec.num_classes != num_classes:
        faults.append(f"it has {spec.num_classes} classes and the data has {num_classes}")
    if spec.input_shape[0] != input_shape[0]:
        faults.append(
            f"it reads images of {spec.input_shape[0]} channel(s) and the data has {input_shape[0]}"
        )
    if faults:
        raise TeacherError(
            f"{path} ({spec.name}) does not fit the data: {'; '.join(faults)}. "
            "Give the data that it was trained on."
        )


# ---------------------------------------------------------------------------------------------
# Probing


def _probe(
    candidates: Sequence[_Candidate], images: Images, labels: Tensor, device: torch.device
) -> tuple[_Candidate, list[str]]:
    """The best of several ways to run a file, and what was found, in sentences.

    The favourite is the one that the batch norms' statistics point to: the normalisation by the
    first of them alone, then the structure by all. Then every other normalisation, and every
    other structure, is scored against it on the same images.
    """
    sample = spread(labels, PROBE_ROUNDS[-1])
    pixels, labels = images[sample], labels[sample]
    few = pixels[:STATISTICS_IMAGES]
    hypotheses = list({id(c.hypothesis): c.hypothesis for c in candidates}.values())
    normalizations = list(dict.fromkeys(c.normalization for c in candidates))
    first = instantiate(hypotheses[0]).to(device)
    by_normalization = {n: mismatch(first, few, n, device)[0] for n in normalizations}
    normalization = min(normalizations, key=by_normalization.__getitem__)
    by_structure = []
    for hypothesis in hypotheses:
        network = instantiate(hypothesis).to(device)
        by_structure.append(mismatch(network, few, normalization, device)[1])
    likely = by_structure.index(min(by_structure))
    contest = [_Candidate(hypotheses[likely], n) for n in normalizations]
    contest += [_Candidate(h, normalization) for h in hypotheses if h is not hypotheses[likely]]
    distances = [by_normalization[n] for n in normalizations]
    distances += [value for index, value in enumerate(by_structure) if index != likely]
    favourite = normalizations.index(normalization)
    right, alive = _score([_runner(each, device) for each in contest], pixels, labels)
    chosen = favourite
    if favourite not in alive:
        best = max(alive, key=lambda index: int(right[index].sum()))
        # Among networks that all guess, the luckiest guess overrules nothing.
        chance = 1 / hypotheses[0].spec.num_classes
        if binomial_tail(int(right[best].sum()), len(right[best]), chance) <= SIGNIFICANCE:
            chosen = best
    outcome = _Outcome(contest, right, alive, favourite, chosen, distances, by_structure[likely])
    return contest[chosen], outcome.notes()


def probe_normalization(
    predict: Predict, tried: Sequence[Normalization], images: Images, labels: Tensor
) -> tuple[Normalization, str]:
    """The normalisation with which a model is right most often, and what was found, in a sentence.

    Args:
        predict: normalised images -> logits, with weights that cannot be looked into.
        tried: what to choose from; the first wins a draw.
        images: uint8 [n, c, h, w], n >= 1.
        labels: int64 [n].
    """

    def runner(normalization: Normalization) -> _Run:
        return lambda part: logits_of(predict, part, normalization)

    sample = spread(labels, MODEL_PROBE_ROUNDS[-1])
    right, alive = _score(
        [runner(each) for each in tried], images[sample], labels[sample], MODEL_PROBE_ROUNDS
    )
    best = max(alive, key=lambda index: int(right[index].sum()))
    score = format_percent(float(right[best].double().mean()), 1)
    others = ", ".join(name_of(tried[i]) or describe(tried[i]) for i in alive if i != best)
    tied = f" Within noise of it: {others}." if others else ""
    return tried[best], (
        f"Best of {len(tried)} known ones on {len(right[best])} validation images: "
        f"{describe(tried[best])}, {score}.{tied}"
    )


_Run = Callable[[Tensor], Tensor]  # uint8 images -> logits


def _runner(candidate: _Candidate, device: torch.device) -> _Run:
    """Builds the network for each call, so that only one is in memory."""

    def run(images: Tensor) -> Tensor:
        network = instantiate(candidate.hypothesis).to(device)
        return logits_of(predictor(network), images, candidate.normalization)

    return run


def _score(
    runs: Sequence[_Run], images: Tensor, labels: Tensor, rounds: Sequence[int] = PROBE_ROUNDS
) -> tuple[list[Tensor], list[int]]:
    """Which images each run has right, bool [k], and who is within noise of the best.

    The clearly worse are dropped after each round; the rest see more images.
    """
    right = [torch.zeros(0, dtype=torch.bool) for _ in runs]
    alive = list(range(len(runs)))
    for end in rounds:
        start = len(right[alive[0]])
        for index in alive:
            hits = runs[index](images[start:end]).argmax(dim=1) == labels[start:end].cpu()
            right[index] = torch.cat([right[index], hits])
        best = max(alive, key=lambda index: int(right[index].sum()))
        alive = [index for index in alive if not _is_worse(right[index], right[best])]
        if len(alive) == 1 or end >= len(labels):
            break
    return right, alive


def _is_worse(right: Tensor, best: Tensor) -> bool:
    """Whether one is worse than another on the same images, by more than noise (McNemar)."""
    lost = int((best & ~right).sum())
    won = int((right & ~best).sum())
    return bool(lost - won > REJECTING_DEVIATIONS * math.sqrt(lost + won))


def mismatch(
    network: Network, images: Tensor, normalization: Normalization, device: torch.device
) -> tuple[float, float]:
    """How far the batch norms' running statistics are from those of some images.

    The Kullback-Leibler divergence between the normal distributions of a filter, averaged over
    filters: for the first batch norm that images meet, and averaged over all. The smaller of two:
    images as they are, and padded by 4 and cropped, as most networks are trained.
    """
    remembered = {name: value.double() for name, value in network.state_dict().items()}
    preactivated = network.spec.arch in ("wrn", "preresnet")
    first = "stages.0.0.bn1" if preactivated else "bn"
    # View 0 is the images as they are.
    crops = Augmenter(images, seed=0, flip=False)(torch.arange(len(images)), 1)
    found = []
    for batch in (images, crops):
        probe = copy.deepcopy(network).train()
        for module in probe.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0  # the statistics become those of the batch
        with torch.inference_mode():
            probe(normalize(batch.to(device), normalization))
        divergences = {}
        for name, value in probe.state_dict().items():
            layer, _, leaf = name.rpartition(".")
            if leaf == "running_mean":
                variance = remembered[f"{layer}.running_var"] + EPSILON
                ratio = (probe.state_dict()[f"{layer}.running_var"].double() + EPSILON) / variance
                shift = (value.double() - remembered[name]).square() / variance
                divergences[layer] = float((0.5 * (ratio + shift - 1 - ratio.log())).mean())
        found.append((divergences[first], sum(divergences.values()) / len(divergences)))
    return min(value[0] for value in found), min(value[1] for value in found)


@dataclass(frozen=True)
class _Outcome:
    """What a probe measured, to be told.

    Attributes:
        candidates: all that were tried.
        right: for each, which images it had right.
        alive: those within noise of the best.
        favourite: the one that the batch norms' statistics point to.
        chosen: the one that is taken.
        distances: for each, its mismatch, of the first batch norm where the normalisation is
            another than the favourite's, else of all.
        structure_distance: the favourite's mismatch of all batch norms.
    """

    candidates: Sequence[_Candidate]
    right: Sequence[Tensor]
    alive: Sequence[int]
    favourite: int
    chosen: int
    distances: Sequence[float]
    structure_distance: float

    def notes(self) -> list[str]:
        """Sentences for the user."""
        winner = self.candidates[self.chosen]
        best = self.candidates[self.favourite]
        others = range(len(self.candidates))
        same_structure = [i for i in others if self.candidates[i].hypothesis is best.hypothesis]
        same_images = [i for i in others if i not in same_structure]
        notes = []
        if len(same_structure) > 1:
            notes.append(
                "The normalisation was found by trying: "
                f"{describe(winner.normalization)}, {self._score(self.chosen)} of "
                f"{len(self.right[self.chosen])} validation images."
            )
            notes += self._tied(same_structure, self.distances[self.favourite], "first batch norm")
        if same_images:
            notes.append(
                "What the weights do not show of the structure was found by trying: "
                f"{structure(winner.hypothesis.spec)}."
            )
            notes += self._tied(same_images, self.structure_distance, "batch norms")
        if self.chosen != self.favourite:
            notes.append(
                f"The batch norms' statistics point to {self._label(self.favourite)}, which is "
                f"worse by more than noise ({self._score(self.favourite)})."
            )
        return notes

    def _tied(self, indices: Sequence[int], nearest: float, what: str) -> list[str]:
        """What accuracy cannot tell from the chosen one, and whether statistics can."""
        tied = [i for i in indices if i in self.alive and i != self.chosen]
        if not tied:
            return []
        listed = ", ".join(f"{self._label(i)} {self._score(i)}" for i in tied)
        text = f"By accuracy alone {listed} would do as well. "
        if self.chosen != self.favourite:
            return [text.strip()]
        open_ = [i for i in tied if self.distances[i] <= DECIDING_RATIO * nearest]
        if open_:
            names = " and ".join(self._label(i) for i in open_)
            return [f"{text}The statistics of its {what} do not rule out {names} either."]
        closest = min(self.distances[i] for i in tied)
        return [
            f"{text}The statistics of its {what} decide: they are off by {nearest:.2g}, with the "
            f"next by {closest:.2g}."
        ]

    def _score(self, index: int) -> str:
        return format_percent(float(self.right[index].double().mean()), 1)

    def _label(self, index: int) -> str:
        candidate, best = self.candidates[index], self.candidates[self.favourite]
        if candidate.hypothesis is not best.hypothesis:
            return structure(candidate.hypothesis.spec)
        return name_of(candidate.normalization) or describe(candidate.normalization)


# ---------------------------------------------------------------------------------------------
# Judging


class Standing(Enum):
    """Whether a network is better than chance."""

    BETTER = "better"
    UNDECIDED = "undecided"
    NO_BETTER = "no better"


@dataclass(frozen=True)
class Chance:
    """A network beside one that does not look at the images.

    Attributes:
        standing: whether it is better.
        text: what was found; the end of a sentence that says what the network is.
    """

    standing: Standing
    text: str


def compare_with_chance(logits: Tensor, labels: Tensor) -> Chance:
    """Judges logits [n, C] of images with these labels [n].

    Chance is the better of two: a uniform guess, and what the network's own answers would score
    if they were dealt out to the images at random (an answer that is always the commonest class
    scores no more than that; Cohen's kappa rests on the same). The network is better where its
    hits would be less likely than SIGNIFICANCE under either, the first by the binomial
    distribution, the second by a normal one with the mean and variance of hits under random
    permutations. It is no better where it has no more hits than chance, or where the images are
    enough to show that it is next to chance. In between it is undecided.
    """
    labels = labels.cpu()
    count, classes = logits.shape
    predicted = logits.argmax(dim=1)
    hits = int((predicted == labels).sum())
    answers = torch.bincount(predicted, minlength=classes).double() / count
    shares = torch.bincount(labels, minlength=classes).double() / count
    blind = float((answers * shares).sum())
    chance = max(1 / classes, blind)
    share = hits / count
    both = answers * shares
    variance = (both * (1 - answers - shares)).sum() + both.sum() ** 2
    deviations = (share - blind) / math.sqrt(max(float(variance), EPSILON**2) / max(count - 1, 1))
    by_deal = 0.5 * math.erfc(deviations / math.sqrt(2))
    found = (
        f"it is right on {format_percent(share, 1)} of {count} images, where a guess is on "
        f"{format_percent(1 / classes, 1)}, the commonest class on "
        f"{format_percent(float(shares.max()), 1)}, and its own answers in random order on "
        f"{format_percent(blind, 1)}."
    )
    if max(binomial_tail(hits, count, 1 / classes), by_deal) <= SIGNIFICANCE:
        return Chance(Standing.BETTER, f"better than chance: {found}")
    above = share - chance > EPSILON / count
    highest = share + REJECTING_DEVIATIONS * math.sqrt(share * (1 - share) / count)
    next_to = chance + NEXT_TO_CHANCE * (1 - chance)
    # One that has nothing wrong cannot be refused, however few the images.
    if hits < count and not (above and highest >= next_to):
        return Chance(Standing.NO_BETTER, f"no better than chance: {found}")
    enough = "images of more classes"
    if above:
        needed = DECIDING_DEVIATIONS**2 * chance * (1 - chance) / (share - chance) ** 2
        enough = f"about {max(math.ceil(needed), count + 1):,} of its kind"
    return Chance(
        Standing.UNDECIDED,
        f"perhaps no better than chance: {found} {count} images are too few to tell; {enough} "
        "would decide.",
    )


def _causes(logits: Tensor, labels: Tensor, found: Identified) -> str:
    """Why a network may be no better than chance."""
    predicted, labels = logits.argmax(dim=1), labels.cpu()
    # The best that renumbering the classes could do.
    table = torch.zeros(logits.shape[1], logits.shape[1], dtype=torch.long)
    table.index_put_((predicted, labels), torch.ones_like(labels), accumulate=True)
    renumbered = float(table.max(dim=1).values.sum()) / len(labels)
    share = float((predicted == labels).double().mean())
    commonest = float(torch.bincount(labels).max()) / len(labels)
    hint = ""
    if renumbered > 2 * max(share, commonest) and renumbered > 0.5:
        hint = f" (renumbered, it would be right on {format_percent(renumbered, 1)}: likely)"
    names = ", ".join(name_of(value) or describe(value) for value in found.tried)
    return (
        f"Likely causes: its classes are others or in another order{hint}; its images were "
        f"normalised otherwise (tried: {names}; say it with --normalize); it is another network "
        f"than {found.spec.name} ({structure(found.spec)}; say it with --teacher-arch, for "
        f"instance {statement_of(found.spec)})."
    )


def binomial_tail(successes: int, trials: int, chance: float) -> float:
    """P(X >= successes) of X ~ Binomial(trials, chance), exactly."""
    if successes <= 0:
        return 1.0
    total = 0.0
    for count in range(successes, trials + 1):
        log_ways = math.lgamma(trials + 1) - math.lgamma(count + 1)
        log_ways -= math.lgamma(trials - count + 1)
        total += math.exp(
            log_ways + count * math.log(chance) + (trials - count) * math.log1p(-chance)
        )
    return min(total, 1.0)
