"""Batch norms' statistics and accuracy find out how a network is to be run."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from compress.data.augment import Augmenter
from compress.data.dataset import Split
from compress.data.normalization import KNOWN, normalize
from compress.models.network import Network
from compress.models.registry import build, changed, spec_of
from compress.spec import Normalization
from compress.tasks.classification import Classification
from compress.tasks.classification.chance import compare_with_chance
from compress.tasks.task import Standing
from compress.training.evaluation import predictor
from compress.training.probing import mismatch, probe_normalization
from tests.training.quarters import CLASSES, CPU, SIZE, SPEC, toy_images, train


@pytest.fixture(scope="module")
def network() -> Network:
    return train(SPEC, KNOWN["half"])


def calibrated(network: Network, images: Tensor, normalization: Normalization) -> Network:
    """A copy whose batch norms have seen these images alone."""
    found = copy.deepcopy(network).train()
    for module in found.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        found(normalize(images, normalization))
    return found.eval()


def test_mismatch_is_least_where_the_network_was_trained(network: Network) -> None:
    images, _ = toy_images(128, 3)
    right = mismatch(network, images, KNOWN["half"], CPU)
    for name in ("cifar10", "imagenet", "none"):
        assert mismatch(network, images, KNOWN[name], CPU)[0] > 2 * right[0]
    other = build(changed(SPEC, shortcut="pad-both"))
    other.load_state_dict(network.state_dict())
    assert mismatch(other.eval(), images, KNOWN["half"], CPU)[1] > 2 * right[1]


def test_mismatch_is_small_for_statistics_of_whole_images_and_of_crops(network: Network) -> None:
    images, _ = toy_images(512, 3)
    crops = Augmenter(images, seed=5, flip=False)(torch.arange(len(images)), 1)
    half = KNOWN["half"]
    of_whole = mismatch(calibrated(network, images, half), images, half, CPU)
    of_crops = mismatch(calibrated(network, crops, half), images, half, CPU)
    assert max(of_whole) < 1e-4
    assert max(of_crops) < 0.01


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("wrn-10-0.5", "stages.0.0.bn1", "bn"),
        ("resnet-8x0.5", "bn", "stages.2.0.bn2"),
        ("preresnet-11x0.5", "stages.0.0.bn1", "bn"),
        ("inception-x0.125", "bn", "stages.2.1.point.bn"),
    ],
)
def test_the_first_batch_norm_is_the_one_that_images_meet(name: str, first: str, last: str) -> None:
    """What the first one remembers decides the first figure, and the last one's does not."""
    torch.manual_seed(0)
    network = build(spec_of(name, input_shape=(3, SIZE, SIZE))).eval()
    images, _ = toy_images(64, 3)
    before = mismatch(network, images, KNOWN["half"], CPU)
    network.get_buffer(f"{last}.running_mean").add_(5)
    late = mismatch(network, images, KNOWN["half"], CPU)
    assert late[0] == before[0]
    assert late[1] > before[1]
    network.get_buffer(f"{first}.running_mean").add_(5)
    assert mismatch(network, images, KNOWN["half"], CPU)[0] > before[0] + 1


TASK = Classification.of_width(CLASSES)
TRIED = [KNOWN["cifar10"], KNOWN["half"], KNOWN["none"]]


def test_the_normalisation_of_a_model_is_the_best_of_those_that_are_tried(network: Network) -> None:
    images, labels = toy_images(300, 2)
    best, found = probe_normalization(predictor(network, TASK), TRIED, Split(images, labels), TASK)
    assert best == KNOWN["half"]
    assert found.startswith("The best of 3 known ones on 128 validation images is half (mean")


def test_no_normalisation_is_found_for_a_model_that_guesses(network: Network) -> None:
    images, labels = toy_images(300, 2)
    best, found = probe_normalization(
        predictor(network, TASK), TRIED, Split(images, (labels + 1) % CLASSES), TASK
    )
    assert best is None
    assert found.startswith(
        "Tried 3 normalisations; it is better than chance with none of them (with the best, it is "
        "right on "
    )
    assert "The data's own is used: cifar10 (mean" in found


def test_the_luckiest_of_several_is_not_found(network: Network) -> None:
    """7 of 8 right of four classes: 4 in 10,000 by chance; of one that was chosen from 3, more."""
    images, labels = toy_images(300, 2)
    right = network(normalize(images, KNOWN["half"])).argmax(1) == labels
    chosen = torch.cat([torch.nonzero(right)[:7, 0], torch.nonzero(right)[8:9, 0]])
    pixels, wrong = images[chosen], labels[chosen].clone()
    wrong[-1] = (wrong[-1] + 1) % CLASSES
    alone = compare_with_chance(labels[chosen], wrong, CLASSES)
    assert alone.standing is Standing.BETTER
    _, found = probe_normalization(
        predictor(network, TASK), TRIED[1:2] * 3, Split(pixels, wrong), TASK
    )
    assert "it is surely better than chance with none of them" in found
    assert "8 images are too few to decide" in found
