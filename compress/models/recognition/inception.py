"""The small Inception.

convolutions    kernel, channels read and filters are those of one place each, so that shapes
                alone say where each belongs, whatever it is called
batch norms     the one that shares a prefix with a convolution follows it; under prefixes with
                several of each, those of one size go by their order
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from compress.errors import UsageError
from compress.models.recognition.layers import Conv, Norm, Tokens, Unfit, Weights
from compress.models.recognition.order import Choices, PartT, in_order
from compress.models.recognition.reading import Reading, find_classifier
from compress.models.recognition.statement import Statement
from compress.spec import INCEPTION_DEPTH, ModelSpec

Shape = tuple[int, int, int]  # kernel, channels that are read, filters


def read(weights: Weights, choices: Choices, stated: Statement | None) -> Reading:
    """A whole small Inception.

    Raises:
        Unfit: the layers do not make one.
    """
    # An image has fewer channels than any map.
    stem = min((c for c in weights.convs if _shape(c)[0] == 3), key=lambda conv: conv.inputs)
    spec = _spec(weights, stem, stated)
    convs = _place(weights, _shapes(spec), choices)
    placed = {conv.name for conv in convs.values()}
    loose = tuple(conv for conv in weights.convs if conv.name not in placed)
    norm_of = _norms_behind(weights, list(convs.values()), choices)
    reading = Reading(
        weights=weights,
        arch="inception",
        depth=INCEPTION_DEPTH,
        widths=spec.stage_channels,
        convs=convs,
        norms={_norm_name(name): norm_of[conv.name] for name, conv in convs.items()},
        classifier=find_classifier(weights, loose, spec.stage_channels[-1]),
        shortcut="padded",
    )
    return reading.complete(choices)


def _shape(conv: Conv) -> Shape:
    return conv.weight.shape[2], conv.inputs, conv.outputs


def _norm_name(conv: str) -> str:
    """'conv' -> 'bn', 'stages.0.0.point.conv' -> 'stages.0.0.point.bn'."""
    return conv.removesuffix("conv") + "bn"


def _shapes(spec: ModelSpec) -> dict[str, Shape]:
    """Our names of an Inception's convolutions -> their shapes."""
    channels = spec.stem_channels
    shapes = {"conv": (3, spec.input_shape[0], channels)}
    before = (0, *spec.inception_downsampling)
    for stage, (filters, modules) in enumerate(zip(before, spec.inception_modules, strict=True)):
        layer = 0
        if filters:
            shapes[f"stages.{stage}.0.spatial.conv"] = (3, channels, filters)
            channels += filters
            layer = 1
        for index, (point, spatial) in enumerate(modules, layer):
            shapes[f"stages.{stage}.{index}.point.conv"] = (1, channels, point)
            shapes[f"stages.{stage}.{index}.spatial.conv"] = (3, channels, spatial)
            channels = point + spatial
    return shapes


def _spec(weights: Weights, stem: Conv, stated: Statement | None) -> ModelSpec:
    """The Inception of the width with which no convolution is missing.

    Raises:
        Unfit: something is missing at every width.
    """
    widths = [
        stem.outputs / 96,
        max(conv.outputs for conv in weights.convs if _shape(conv)[0] == 3) / 160,
    ]
    if stated is not None and stated.spec.arch == "inception":
        widths.insert(0, stated.spec.width)
    there = Counter(map(_shape, weights.convs))
    missing: list[str] = []
    for width in widths:
        try:
            spec = ModelSpec(
                "inception",
                INCEPTION_DEPTH,
                width,
                input_shape=(stem.inputs, 32, 32),
                stem_channels=stem.outputs,
            )
        except UsageError:  # not one filter would be left
            continue
        lacking = Counter(_shapes(spec).values()) - there
        if not lacking:
            return spec
        kernel, inputs, outputs = next(iter(lacking))
        missing.append(
            f"a {kernel}x{kernel} convolution of {inputs} channels with {outputs} filters, which "
            f"{spec.name} has"
        )
    raise Unfit(f"it lacks {missing[0]}" if missing else "it is too narrow for an inception")


def _place(weights: Weights, shapes: Mapping[str, Shape], choices: Choices) -> dict[str, Conv]:
    """Our names -> the convolutions of those shapes; where two have one shape, by their order."""
    placed: dict[str, Conv] = {}
    for shape in dict.fromkeys(shapes.values()):
        names = [name for name, wanted in shapes.items() if wanted == shape]
        alike = [conv for conv in weights.convs if _shape(conv) == shape]
        ordered = in_order(
            alike, f"convolutions of shape {shape}", ordered=weights.ordered, choices=choices
        )
        placed.update(zip(names, ordered, strict=False))
    return {name: placed[name] for name in shapes}


def _norms_behind(weights: Weights, convs: Sequence[Conv], choices: Choices) -> dict[str, Norm]:
    """Names of convolutions -> the batch norms that follow them.

    From the longest prefixes to none: where as many convolutions as norms, of the same sizes, are
    left under a prefix, they belong to each other.

    Raises:
        Unfit: a convolution has none.
    """
    found: dict[str, Norm] = {}
    convs_left, norms_left = list(convs), list(weights.norms)
    longest = max(len(part.tokens) for part in [*convs_left, *norms_left])
    for length in range(longest, -1, -1):
        norms_under = _by_prefix(norms_left, length)
        for prefix, some in _by_prefix(convs_left, length).items():
            norms = norms_under.get(prefix, [])
            if Counter(c.outputs for c in some) != Counter(n.size for n in norms):
                continue
            for size in dict.fromkeys(conv.outputs for conv in some):
                pairs = zip(
                    in_order(
                        [conv for conv in some if conv.outputs == size],
                        f"convolutions of {size} filters",
                        ordered=weights.ordered,
                        choices=choices,
                    ),
                    in_order(
                        [norm for norm in norms if norm.size == size],
                        f"batch norms of {size} channels",
                        ordered=weights.ordered,
                        choices=choices,
                    ),
                    strict=True,
                )
                found.update((conv.name, norm) for conv, norm in pairs)
        convs_left = [conv for conv in convs_left if conv.name not in found]
        taken = {norm.weight for norm in found.values()}
        norms_left = [norm for norm in norms_left if norm.weight not in taken]
    if convs_left:
        raise Unfit(
            f"which batch norm follows '{convs_left[0].name}' ({convs_left[0].outputs} filters) "
            f"is unclear; there are {len(weights.norms)} for {len(convs)} convolutions"
        )
    return found


def _by_prefix(parts: Sequence[PartT], length: int) -> dict[Tokens, list[PartT]]:
    """Parts by the first so many words of their names."""
    found: dict[Tokens, list[PartT]] = {}
    for part in parts:
        if len(part.tokens) >= length:
            found.setdefault(part.tokens[:length], []).append(part)
    return found
