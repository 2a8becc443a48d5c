"""What a candidate costs before it is built: parameters, MACs, layers, the size of its file.

Worked out from the definition of the networks, so that sixty candidates take no time and need
no torch. Tests hold them against the networks and files themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from compress.spec import ModelSpec

# Names, shapes and attributes of a graph, in bytes: once, and for each layer with weights. The
# size of a file is known within this and the length of its metadata before it is exported.
FILE_BYTES = 2_000
LAYER_BYTES = 420


@dataclass(frozen=True)
class Costs:
    """Of one network.

    Attributes:
        params: trainable parameters.
        macs: multiply-accumulates of convolutions and matrix products, for one image.
        layers: convolutions and the linear layer, one behind the other or side by side.
        file_bytes: of the ONNX file, within 1%.
    """

    params: int
    macs: int
    layers: int
    file_bytes: int


@dataclass(frozen=True)
class _Convolution:
    kernel: int
    inputs: int
    outputs: int
    pixels: int
    folded: bool  # a batch normalisation follows, which the exporter merges into the weights


def costs_of(spec: ModelSpec) -> Costs:
    """Counts a network's parameters, MACs and the bytes of its file."""
    convolutions = list(_convolutions(spec))
    channels = spec.classifier_inputs
    linear = channels * spec.num_classes + spec.num_classes
    weights = sum(c.kernel**2 * c.inputs * c.outputs for c in convolutions)
    biases = sum(c.outputs for c in convolutions) if spec.conv_bias else 0
    merged = sum(c.outputs for c in convolutions if c.folded)
    alone = sum(_unmerged_normalisations(spec))
    # An Inception's batch norms learn a shift and no scale.
    learned = 1 if spec.arch == "inception" else 2
    in_file = sum(c.outputs for c in convolutions if c.folded or spec.conv_bias)
    layers = len(convolutions) + 1
    return Costs(
        params=weights + biases + learned * (merged + alone) + linear,
        macs=sum(c.kernel**2 * c.inputs * c.outputs * c.pixels for c in convolutions)
        + channels * spec.num_classes,
        layers=layers,
        file_bytes=4 * (weights + in_file + 4 * alone + linear) + FILE_BYTES + LAYER_BYTES * layers,
    )


def _convolutions(spec: ModelSpec) -> Iterator[_Convolution]:
    if spec.arch == "inception":
        return _of_inception(spec)
    return _of_bottlenecks(spec) if spec.arch == "preresnet" else _of_basic_blocks(spec)


def _of_basic_blocks(spec: ModelSpec) -> Iterator[_Convolution]:
    resnet = spec.arch == "resnet"
    planes, height, width = spec.input_shape
    channels = spec.stem_channels
    yield _Convolution(3, planes, channels, height * width, folded=resnet)
    for stage, outputs in enumerate(spec.stage_channels):
        for block in range(spec.blocks_per_stage):
            before = height * width
            if stage and not block:
                height, width = (height + 1) // 2, (width + 1) // 2
            after = height * width
            first = after if spec.stride_conv == 1 else before
            yield _Convolution(3, channels, outputs, first, folded=True)
            yield _Convolution(3, outputs, outputs, after, folded=resnet)
            changes = not block and (stage or channels != outputs or spec.first_shortcut)
            if (changes and (not resnet or spec.shortcut == "conv")) or (
                spec.shortcut == "conv-all"
            ):
                yield _Convolution(1, channels, outputs, after, folded=resnet)
            channels = outputs


def _of_bottlenecks(spec: ModelSpec) -> Iterator[_Convolution]:
    planes, height, width = spec.input_shape
    channels = spec.stem_channels
    yield _Convolution(3, planes, channels, height * width, folded=False)
    for stage, outputs in enumerate(spec.stage_channels):
        middle = outputs // 4
        for block in range(spec.blocks_per_stage):
            before = height * width
            if stage and not block:
                height, width = (height + 1) // 2, (width + 1) // 2
            after = height * width
            first = after if spec.stride_conv == 1 else before
            yield _Convolution(1, channels, middle, first, folded=True)
            yield _Convolution(3, middle, middle, after, folded=True)
            yield _Convolution(1, middle, outputs, after, folded=False)
            if not block and (stage or channels != outputs or spec.first_shortcut):
                yield _Convolution(1, channels, outputs, after, folded=False)
            channels = outputs


def _of_inception(spec: ModelSpec) -> Iterator[_Convolution]:
    planes, height, width = spec.input_shape
    channels = spec.stem_channels
    yield _Convolution(3, planes, channels, height * width, folded=True)
    before = (0, *spec.inception_downsampling)
    for filters, modules in zip(before, spec.inception_modules, strict=True):
        if filters:
            # A 3x3 window every second pixel, of a map with a border of one pixel or of none.
            border = 1 if spec.shortcut == "padded" else -1
            height, width = (height + border) // 2, (width + border) // 2
            yield _Convolution(3, channels, filters, height * width, folded=True)
            channels += filters
        for point, spatial in modules:
            yield _Convolution(1, channels, point, height * width, folded=True)
            yield _Convolution(3, channels, spatial, height * width, folded=True)
            channels = point + spatial


def _unmerged_normalisations(spec: ModelSpec) -> Iterator[int]:
    """Channels of the batch normalisations that do not follow a convolution alone."""
    if spec.arch in ("resnet", "inception"):
        return
    channels = spec.stem_channels
    for outputs in spec.stage_channels:
        for _ in range(spec.blocks_per_stage):
            yield channels
            channels = outputs
    yield channels
