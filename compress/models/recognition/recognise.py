"""Which network a set of weights is, read from shapes and from how their names group and number.

No layer is looked up by its name. A name counts for three things: what lies under one prefix
belongs together, numbers give an order, and alike things in all blocks are called alike.

    layers.py      weights by name -> convolutions, batch norms, the classifier
    order.py       alike parts -> forward order, by what names, numbers and the file say
    blocks.py      residual blocks -> stages
    reading.py     a whole network, every layer under our own name
    basic.py       networks of basic blocks: WRN and CIFAR ResNet
    bottleneck.py  networks of bottleneck blocks: pre-activation ResNet
    inception.py   the small Inception
    statement.py   what the user says of the network
    hypothesis.py  one reading, and the network with its weights

What the shapes do not show (where option A pads, what a pre-activation shortcut reads, which
convolution has the stride, whether an Inception pads) comes back as several hypotheses, the most
common first; only images tell them apart.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from compress.errors import CheckpointError, UsageError
from compress.models.recognition import basic, bottleneck, inception
from compress.models.recognition.hypothesis import Hypothesis
from compress.models.recognition.layers import Unfit, Weights
from compress.models.recognition.order import Choices
from compress.models.recognition.reading import Reading
from compress.models.recognition.statement import Statement
from compress.spec import ModelSpec

FAMILIES = (
    "The known networks are wide residual networks (wrn-DEPTH-WIDTH, depth 6n+4) and CIFAR "
    "ResNets (resnet-DEPTH, depth 6n+2), both with a 3x3 stem, three stages of widths 1:2:4 and "
    "n blocks of two 3x3 convolutions in each; pre-activation ResNets (preresnet-DEPTH, depth "
    "9n+2), the same with blocks of 1x1, 3x3 and 1x1 convolutions; and the small Inception of "
    "arXiv 1611.03530 (inception)."
)


# More readings of one file than this are not worth trying on images.
LARGEST_NUMBER_OF_READINGS = 8


def recognise(
    tensors: Mapping[str, Tensor],
    *,
    ordered: bool,
    arch: str | ModelSpec | None = None,
    image_size: tuple[int, int] = (32, 32),
) -> list[Hypothesis]:
    """Weights by name -> the networks that they may be, the most likely first.

    Args:
        tensors: name -> weights, in the file's order.
        ordered: whether that order is the order of registration (not so in safetensors).
        arch: what the user says it is (see ``Statement``). Only networks that agree come back; a
            width that rounding hides is taken from it; and where neither names nor the file give
            an order, the alphabetical one is tried.
        image_size: height and width of the images, which weights do not show.

    Raises:
        CheckpointError: of no known family, or not the network that ``arch`` says; the message
            says what was seen.
        UsageError: ``arch`` states no network.
    """
    stated = None if arch is None else Statement.of(arch)
    try:
        readings = _readings(Weights.parse(tensors, ordered=ordered), stated)
        hypotheses = [
            reading.hypothesis(spec)
            for reading in readings
            for spec in _variants(reading.spec(image_size, stated))
        ]
    except (Unfit, UsageError) as unfit:
        reason = str(unfit).rstrip(".")
        raise CheckpointError(
            f"These weights are not of a known network: {reason}. The file has "
            f"{describe(tensors)}. {FAMILIES}"
        ) from None
    if stated is None:
        return hypotheses
    admitted = [found for found in hypotheses if stated.admits(found.spec)]
    if not admitted:
        raise stated.disagreement("These weights are", [found.spec for found in hypotheses])
    if "pool" in stated.fields:
        admitted = [replace(found, doubt="") for found in admitted]
    return admitted


def _readings(weights: Weights, stated: Statement | None) -> list[Reading]:
    """Every whole network that the layers make, the most plain first."""
    read = _reader(weights)
    choices = Choices()
    readings = []
    unfit = None
    try:
        readings.append(read(weights, choices, stated))
    except Unfit as error:
        unfit = error
    names = list(choices.met)
    options = itertools.product(*(range(choices.met[name]) for name in names))
    for option in itertools.islice(options, 1, LARGEST_NUMBER_OF_READINGS):
        try:
            other = read(weights, Choices(dict(zip(names, option, strict=True))), stated)
        except Unfit:
            continue
        readings.append(other)
    if not readings and unfit is not None:
        raise unfit
    return readings


def _reader(weights: Weights) -> Callable[[Weights, Choices, Statement | None], Reading]:
    """What reads networks with so many 3x3 and 1x1 convolutions.

    Bottleneck blocks have two of 1x1 for each of 3x3, beside shortcuts. The small Inception has 8
    of 1x1 and, beside its stem, 10 of 3x3, of which networks of basic blocks have 6n.
    """
    kernels = Counter(tuple(conv.weight.shape[2:]) for conv in weights.convs)
    if set(kernels) == {(1, 1), (3, 3)}:
        # One of the 3x3 ones is the stem; the classifier may be one of the 1x1 ones.
        blocks, points = kernels[3, 3] - 1, kernels[1, 1]
        if blocks and points >= 2 * blocks:
            return bottleneck.read
        if blocks == 10 and points in (8, 9):
            return inception.read
    return basic.read


def _variants(spec: ModelSpec) -> list[ModelSpec]:
    """All networks whose weights have these shapes, the most common first."""
    if spec.arch == "resnet":
        # The most used CIFAR ResNets in PyTorch pad both ends; the paper's Torch code the last.
        shortcuts = (spec.shortcut,) if "conv" in spec.shortcut else ("pad-both", "pad")
        choices = [(shortcut, stride) for stride in (1, 2) for shortcut in shortcuts]
    elif spec.arch == "inception":
        choices = [("padded", 1), ("unpadded", 1)]
    elif spec.arch == "preresnet":
        # The most used code in PyTorch has (input, 2), the authors' own (preactivation, 1).
        choices = [("input", 2), ("preactivation", 1), ("preactivation", 2), ("input", 1)]
    else:
        choices = [("preactivation", 1), ("input", 1), ("input", 2), ("preactivation", 2)]
        if spec.conv_bias:
            # The WRN code that leaves the convolutions' biases on also strides in the second.
            choices = [("input", 2), ("preactivation", 1), ("input", 1), ("preactivation", 2)]
    return [spec.with_(shortcut=shortcut, stride_conv=stride) for shortcut, stride in choices]


def describe(tensors: Mapping[str, Tensor]) -> str:
    """What stands out in a set of weights, in a few words."""
    convs = [value for value in tensors.values() if value.dim() == 4]
    if not convs:
        matrices = sum(value.dim() == 2 for value in tensors.values())
        return f"no convolution with 4-D weights, {matrices} matrices, {len(tensors)} tensors"
    facts = []
    stem = min(convs, key=lambda value: value.shape[1] if value.shape[1] > 1 else 1 << 30)
    facts.append(f"{stem.shape[2]}x{stem.shape[3]} stem with {stem.shape[0]} filters")
    kernels = Counter(f"{value.shape[2]}x{value.shape[3]}" for value in convs)
    shapes = [tuple(value.shape) for value in convs]
    if any(shape[1] == 1 and shape[0] > 1 for shape in shapes[1:]):
        facts.append("depthwise convolutions")
    if _has_bottlenecks(shapes):
        facts.append("bottleneck blocks (1x1, 3x3, 1x1)")
    count = ", ".join(f"{number} of {kernel}" for kernel, number in kernels.most_common(4))
    facts.append(f"{len(convs)} convolutions ({count})")
    widths = sorted({shape[0] for shape in shapes if shape[2] == 3})
    facts.append("3x3 widths " + ", ".join(map(str, widths[:8])))
    linears = [value for value in tensors.values() if value.dim() == 2]
    if not linears:
        facts.append("no linear layer")
    elif len(linears) > 1:
        facts.append(f"{len(linears)} linear layers")
    else:
        facts.append(f"{linears[0].shape[0]} classes")
    if not any(value.dim() == 1 and value.numel() > 1 for value in tensors.values()):
        facts.append("no batch normalisation")
    return ", ".join(facts)


def _has_bottlenecks(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Whether 1x1 convolutions widen again what a 3x3 convolution gave, as often as there are."""
    spatial = [shape for shape in shapes[1:] if shape[2] == 3]
    widening = [s for s in shapes if s[2] == 1 and s[0] >= 2 * s[1]]
    narrowing = [s for s in shapes if s[2] == 1 and s[0] < s[1]]
    return bool(spatial) and len(widening) >= len(spatial) and bool(narrowing)
