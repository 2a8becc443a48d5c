"""Which network a set of weights is, read from shapes and from how their names group and number.

No layer is looked up by its name. A name counts for three things: what lies under one prefix
belongs together, numbers give an order, and alike things in all blocks are called alike.

    recognition/layers.py   weights by name -> convolutions, batch norms, the classifier
    recognition/order.py    alike parts -> forward order, by what names, numbers and the file say
    recognition/blocks.py   residual blocks -> stages
    recognition/basic.py    networks of basic blocks
    recognition/reading.py  a whole network, every layer under our own name
    families/               each says which weights are its networks'
    statement.py            what the user says of the network
    hypothesis.py           one reading, and the network with its weights

What the shapes do not show (where option A pads, what a pre-activation shortcut reads, which
convolution has the stride, whether an Inception pads) comes back as several hypotheses, the most
common first; only images tell them apart.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

from torch import Tensor

from compress.errors import CheckpointError, UsageError
from compress.models.hypothesis import Hypothesis, check_state
from compress.models.recognition.layers import Unfit, Weights
from compress.models.recognition.order import Choices
from compress.models.recognition.reading import Reading
from compress.models.registry import FAMILIES, architecture, make_spec
from compress.models.statement import Statement

# More readings of one file than this are not worth trying on images.
LARGEST_NUMBER_OF_READINGS = 8


def recognise(
    tensors: Mapping[str, Tensor],
    *,
    ordered: bool,
    arch: str | None = None,
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
    stated = None if arch is None else Statement.parse(arch)
    try:
        readings = _readings(Weights.parse(tensors, ordered=ordered), stated)
        hypotheses = [
            each for reading in readings for each in _hypotheses(reading, image_size, stated)
        ]
    except (Unfit, UsageError) as unfit:
        reason = str(unfit).rstrip(".")
        layouts = "; ".join(family.layout for family in FAMILIES.values())
        raise CheckpointError(
            f"These weights are not of a known network: {reason}. The file has "
            f"{describe(tensors)}. The known networks are {layouts}."
        ) from None
    if stated is None:
        return hypotheses
    admitted = [found for found in hypotheses if stated.admits(found.spec)]
    if not admitted:
        raise stated.disagreement("These weights are", [found.spec for found in hypotheses])
    return admitted


def _hypotheses(
    reading: Reading, image_size: tuple[int, int], stated: Statement | None
) -> list[Hypothesis]:
    """All networks whose weights have these shapes, the most common first.

    Raises:
        Unfit, UsageError: there is none.
    """
    state, notes = reading.state()
    family = FAMILIES[reading.family]
    own = None if stated is None else stated.architecture
    shape = (reading.convs["conv"].inputs, *image_size)
    found = []
    for parameters in family.readings(reading, image_size, own):
        spec = make_spec(
            reading.family, parameters, num_classes=reading.num_classes, input_shape=shape
        )
        check_state(spec, state)
        doubt = architecture(spec).doubt(shape, () if stated is None else stated.fields)
        found.append(Hypothesis(spec, state, reading.normalization, notes, doubt))
    return found


def _readings(weights: Weights, stated: Statement | None) -> list[Reading]:
    """Every whole network that the layers make, the most plain first."""
    families = list(FAMILIES.values())
    # Where none claims them, it is the networks of basic blocks that say what is missing.
    read = next((family for family in families if family.claims(weights)), families[0]).read
    own = None if stated is None else stated.architecture
    choices = Choices()
    readings = []
    unfit = None
    try:
        readings.append(read(weights, choices, own))
    except Unfit as error:
        unfit = error
    names = list(choices.met)
    options = itertools.product(*(range(choices.met[name]) for name in names))
    for option in itertools.islice(options, 1, LARGEST_NUMBER_OF_READINGS):
        try:
            other = read(weights, Choices(dict(zip(names, option, strict=True))), own)
        except Unfit:
            continue
        readings.append(other)
    if not readings and unfit is not None:
        raise unfit
    return readings


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
