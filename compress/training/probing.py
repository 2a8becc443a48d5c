"""Finding out on images how a network is to be run, where its weights do not show it.

Weights do not show which normalisation they were trained with, nor some structural choices (see
compress.models.recognition). Two things do. Batch norms remember the mean and the variance of what
they saw in training: run the right way, images of the same kind give them again, and that needs
no labels and few images. Accuracy on validation images then confirms the choice or overrules it;
alone it often cannot decide, since a slightly wrong normalisation costs no accuracy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compress.data.augment import Augmenter
from compress.data.dataset import Split
from compress.data.images import Images
from compress.data.normalization import describe, known_for, name_of, normalize
from compress.errors import DataError, UsageError
from compress.models.hypothesis import Hypothesis, instantiate
from compress.models.network import Network
from compress.models.statement import structure
from compress.spec import Normalization
from compress.tasks.deciding import REJECTING_DEVIATIONS
from compress.tasks.task import Chance, Evidence, Outputs, Standing, Targets, Task, joined
from compress.training.evaluation import Predict, answers_to, predictor, stratified_sample

# A reading is dropped as soon as it is worse than the best by this many standard deviations of
# the paired difference; what is left after the last round is tied.
PROBE_ROUNDS = (32, 128, 500)
# Of a model whose statistics cannot be read; accuracy alone has to decide.
MODEL_PROBE_ROUNDS = (*PROBE_ROUNDS, 1000)
STATISTICS_IMAGES = 128
# That of torch's batch norms.
EPSILON = 1e-5
# Statistics decide where the next best differs from them by more than twice as much.
DECIDING_RATIO = 2.0


def check_channels(normalization: Normalization, channels: int) -> None:
    """Refuses a user's normalisation of another number of channels than the images have.

    Raises:
        UsageError: it is.
    """
    if len(normalization.mean) != channels:
        raise UsageError(
            f"--normalize has {len(normalization.mean)} channel(s), but the images have "
            f"{channels}. Give one mean and one standard deviation per channel."
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
            f"{path} does not state its normalisation, and there are no validation images to find "
            "it. Give --normalize, or hold images out with --validation."
        )
    return list(dict.fromkeys([own, *known_for(len(own.mean)).values()]))


@dataclass(frozen=True)
class Candidate:
    """One way to run the file: a reading of its weights with a normalisation."""

    hypothesis: Hypothesis
    normalization: Normalization


def probe(
    candidates: Sequence[Candidate], split: Split, task: Task, device: torch.device
) -> tuple[Candidate, list[str]]:
    """The best of several ways to run a file, and what was found, in sentences.

    The favourite is the one that the batch norms' statistics point to: the normalisation by the
    first of them alone, then the structure by all. Then every other normalisation, and every
    other structure, is scored against it on the same images.
    """
    chosen_images = split.take(stratified_sample(split, task, PROBE_ROUNDS[-1]))
    few = chosen_images.images[:STATISTICS_IMAGES]
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
    contest = [Candidate(hypotheses[likely], n) for n in normalizations]
    contest += [Candidate(h, normalization) for h in hypotheses if h is not hypotheses[likely]]
    distances = [by_normalization[n] for n in normalizations]
    distances += [value for index, value in enumerate(by_structure) if index != likely]
    favourite = normalizations.index(normalization)
    tests = _score([_answering(each, task, device) for each in contest], chosen_images, task)
    chance = tests.chance
    chosen = favourite
    # Among networks that all guess, the luckiest guess overrules nothing.
    if favourite not in tests.alive and chance.standing is Standing.BETTER:
        chosen = tests.best
    outcome = _Outcome(contest, tests, chance, favourite, chosen, distances, by_structure[likely])
    return contest[chosen], outcome.notes()


def probe_normalization(
    predict: Predict, tried: Sequence[Normalization], split: Split, task: Task
) -> tuple[Normalization | None, str]:
    """The normalisation with which a model is right most often, and what was found, in a sentence.

    None where the model is not surely better than chance with any: the luckiest guess is no
    finding.

    Args:
        predict: normalised images -> answers, with weights that cannot be looked into.
        tried: what to choose from; the first, the data's own, wins a draw.
        split: one image or more to find it on.
        task: of them.
    """

    def runner(normalization: Normalization) -> _Answering:
        return lambda part: answers_to(predict, part, normalization)

    sample = split.take(stratified_sample(split, task, MODEL_PROBE_ROUNDS[-1]))
    tests = _score([runner(each) for each in tried], sample, task, MODEL_PROBE_ROUNDS)
    best = tests.best
    chance = tests.chance
    if chance.standing is not Standing.BETTER:
        own = f"The data's own is used: {describe(tried[0])}."
        return None, _none_found(len(tried), chance, own)
    others = ", ".join(name_of(tried[i]) or describe(tried[i]) for i in tests.alive if i != best)
    tied = f" These are within noise of it: {others}." if others else ""
    return tried[best], (
        f"The best of {len(tried)} known ones on {len(tests.evidence[best])} validation images is "
        f"{describe(tried[best])}, {tests.score(best)}.{tied}"
    )


def _none_found(tried: int, chance: Chance, taken: str) -> str:
    """Says that no normalisation was found, and which is taken all the same."""
    surely = "" if chance.standing is Standing.NO_BETTER else "surely "
    return (
        f"Tried {tried} normalisations; it is {surely}better than chance with none of them (with "
        f"the best, {chance.found.rstrip('.')}). {taken}"
    )


_Answering = Callable[[Images], Outputs]  # uint8 images -> answers


def _answering(candidate: Candidate, task: Task, device: torch.device) -> _Answering:
    """Builds the network for each call, so that only one is in memory."""

    def run(images: Images) -> Outputs:
        network = instantiate(candidate.hypothesis).to(device)
        return answers_to(predictor(network, task), images, candidate.normalization)

    return run


@dataclass(frozen=True)
class _Tests:
    """What several ways to run something answered to the same images.

    Attributes:
        task: of the images.
        targets: of all of them [n].
        outputs: of each way, its answers to the first k images.
        evidence: what these are worth, image by image.
        alive: the ways that are within noise of the best.
    """

    task: Task
    targets: Targets
    outputs: Sequence[Outputs]
    evidence: Sequence[Evidence]
    alive: Sequence[int]

    def score(self, way: int) -> str:
        """Of one way, for people."""
        return self.task.metric.text(self.evidence[way].value, 1)

    @property
    def best(self) -> int:
        """The way with the highest score; the first of several."""
        return max(self.alive, key=lambda way: self.evidence[way].value)

    @property
    def chance(self) -> Chance:
        """The best beside chance, as the best of so many."""
        best = self.best
        seen = self.targets[: len(self.evidence[best])]
        return self.task.chance(self.outputs[best], seen, tried=len(self.outputs))


def _score(
    runs: Sequence[_Answering], split: Split, task: Task, rounds: Sequence[int] = PROBE_ROUNDS
) -> _Tests:
    """What each run answers. The clearly worse are dropped after each round; the rest see more."""
    outputs: list[Outputs] = [{} for _ in runs]
    evidence: list[Any] = [None for _ in runs]
    tests = _Tests(task, split.targets.cpu(), outputs, evidence, range(len(runs)))
    start = 0
    for end in rounds:
        for way in tests.alive:
            found = runs[way](split.images[start:end])
            outputs[way] = joined([outputs[way], found]) if start else found
            evidence[way] = task.evidence(outputs[way], tests.targets[:end])
        best = evidence[tests.best]
        alive = [way for way in tests.alive if not _is_worse(evidence[way], best)]
        tests = replace(tests, alive=alive)
        if len(alive) == 1 or end >= len(split):
            break
        start = end
    return tests


def _is_worse(evidence: Evidence, best: Evidence) -> bool:
    """Whether one is worse than another on the same images, by more than noise."""
    return evidence.against(best).deviations() > REJECTING_DEVIATIONS


def _note(met: list[str], name: str, *_: object) -> None:
    met.append(name)


def mismatch(
    network: Network, images: Tensor, normalization: Normalization, device: torch.device
) -> tuple[float, float]:
    """How far the batch norms' running statistics are from those of some images.

    The Kullback-Leibler divergence between the normal distributions of a filter, averaged over
    filters: for the first batch norm that images meet, and averaged over all. The smaller of two:
    images as they are, and padded by 4 and cropped, as most networks are trained.
    """
    remembered = {name: value.double() for name, value in network.state_dict().items()}
    # View 0 is the images as they are.
    crops = Augmenter(images, seed=0, flip=False)(torch.arange(len(images)), 1)
    found = []
    for batch in (images, crops):
        probe = copy.deepcopy(network).train()
        met: list[str] = []
        for name, module in probe.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0  # the statistics become those of the batch
                module.register_forward_hook(partial(_note, met, name))
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
        found.append((divergences[met[0]], sum(divergences.values()) / len(divergences)))
    return min(value[0] for value in found), min(value[1] for value in found)


@dataclass(frozen=True)
class _Outcome:
    """What a probe measured, to be told.

    Attributes:
        candidates: all that were tried.
        tests: what each answered.
        chance: the best of them beside chance.
        favourite: the one that the batch norms' statistics point to.
        chosen: the one that is taken.
        distances: for each, its mismatch, of the first batch norm where the normalisation is
            another than the favourite's, else of all.
        structure_distance: the favourite's mismatch of all batch norms.
    """

    candidates: Sequence[Candidate]
    tests: _Tests
    chance: Chance
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
        if self.chance.standing is not Standing.BETTER:
            return self._nothing_found(len(same_structure), bool(same_images))
        if len(same_structure) > 1:
            notes.append(
                "The normalisation was found by trying: "
                f"{describe(winner.normalization)}, {self.tests.score(self.chosen)} of "
                f"{len(self.tests.evidence[self.chosen])} validation images."
            )
            notes += self._tied(same_structure, self.distances[self.favourite], "first batch norm")
        if same_images:
            notes.append(
                "The structure that the weights do not determine was found by trying: "
                f"{structure(winner.hypothesis.spec)}."
            )
            notes += self._tied(same_images, self.structure_distance, "batch norms")
        if self.chosen != self.favourite:
            notes.append(
                f"The batch norms' statistics point to {self._label(self.favourite)}, which is "
                f"worse by more than noise ({self.tests.score(self.favourite)})."
            )
        return notes

    def _nothing_found(self, normalizations: int, structures: bool) -> list[str]:
        """Sentences about a network that is no better than chance in any way that was tried."""
        notes = []
        taken = self.candidates[self.chosen]
        if normalizations > 1:
            notes.append(
                _none_found(
                    normalizations,
                    self.chance,
                    f"{describe(taken.normalization)} is assumed, because it fits the statistics "
                    "of the first batch norm best.",
                )
            )
        if structures:
            notes.append(
                f"The images do not determine the structure: {structure(taken.hypothesis.spec)} "
                "is assumed, because it fits the statistics of the batch norms best."
            )
        return notes

    def _tied(self, indices: Sequence[int], nearest: float, what: str) -> list[str]:
        """What accuracy cannot tell from the chosen one, and whether statistics can."""
        tied = [i for i in indices if i in self.tests.alive and i != self.chosen]
        if not tied:
            return []
        listed = ", ".join(f"{self._label(i)} {self.tests.score(i)}" for i in tied)
        text = f"By accuracy alone {listed} are as good. "
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

    def _label(self, index: int) -> str:
        candidate, best = self.candidates[index], self.candidates[self.favourite]
        if candidate.hypothesis is not best.hypothesis:
            return structure(candidate.hypothesis.spec)
        return name_of(candidate.normalization) or describe(candidate.normalization)
