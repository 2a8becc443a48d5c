"""What a candidate costs before it is built: parameters, MACs, layers, the size of its file.

Worked out from the definition of the networks, so that sixty candidates take no time. Tests hold
them against the networks and files themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

from compress.models.registry import architecture
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


def costs_of(spec: ModelSpec) -> Costs:
    """Counts a network's parameters, MACs and the bytes of its file."""
    network = architecture(spec).layers(spec.input_shape)
    convolutions, bias = network.convolutions, network.conv_bias
    linear = (network.classifier_inputs + 1) * spec.num_classes
    weights = sum(c.kernel**2 * c.inputs * c.outputs for c in convolutions)
    biases = sum(c.outputs for c in convolutions) if bias else 0
    merged = sum(c.outputs for c in convolutions if c.folded)
    alone = sum(network.norms)
    in_file = sum(c.outputs for c in convolutions if c.folded or bias)
    layers = len(convolutions) + 1
    return Costs(
        params=weights + biases + network.norm_parameters * (merged + alone) + linear,
        macs=sum(c.kernel**2 * c.inputs * c.outputs * c.pixels for c in convolutions)
        + network.classifier_inputs * spec.num_classes,
        layers=layers,
        file_bytes=4 * (weights + in_file + 4 * alone + linear) + FILE_BYTES + LAYER_BYTES * layers,
    )
