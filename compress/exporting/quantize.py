"""Static int8: weights symmetric and per channel, activations calibrated on images, QDQ form.

``onnxruntime.quantization`` calibrates and writes the file. What is done here is to give it a graph
in which nothing stays in float that need not: a batch normalisation behind an addition, as
pre-activation networks have it, becomes a depthwise 1x1 convolution, which is the same function
and has an int8 kernel. Left as it is, ONNX Runtime and OpenVINO compute it in float with
conversions, and ONNX Runtime with transposes, around it (``compress.profiling.kernels`` shows
what a runtime makes of a file).

Biases stay float32 in the file. ONNX Runtime quantises them when it loads it, to the same numbers
as if they had been in the file; OpenVINO adds them in float; TensorRT takes no others.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    create_calibrator,
    quant_pre_process,
)
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from compress import defaults
from compress.errors import ExportError, PrecisionLost, UnknownName, UsageError
from compress.exporting.artifact import read_artifact
from compress.exporting.conversion import (
    advice_for,
    float_model,
    guarded,
    in_opset,
    quiet,
    tidy,
    write_converted,
)
from compress.exporting.fidelity import Proof, answers_to, compare, judgement
from compress.exporting.graphs import (
    called,
    listed,
    normalise,
    pass_by_identity,
    products,
    sort_nodes,
)
from compress.exporting.parity import Array, check_batch, predictor_of
from compress.files import atomic_path
from compress.onnx_file import fixed_batch, image_input, without_weight_inputs
from compress.results import Artifact, Fidelity
from compress.scratch import scratch_folder

# Method -> what ONNX Runtime's calibrator is told. Its own default of 128 bins gives the entropy
# method one threshold to choose from, which is the largest value: min-max under another name.
METHODS: dict[str, tuple[CalibrationMethod, dict[str, Any]]] = {
    "minmax": (CalibrationMethod.MinMax, {}),
    "percentile": (CalibrationMethod.Percentile, {"percentile": 99.99}),
    "entropy": (CalibrationMethod.Entropy, {"num_bins": 1024, "num_quantized_bins": 128}),
}
# uint8 with a zero point is what ONNX Runtime has kernels for on x86, and lets a ReLU be the lower
# end of the range. TensorRT takes int8 without a zero point alone.
ACTIVATIONS = ("uint8", "int8")
FLOAT_LAYERS = ("first", "last")

# Training images that ranges are measured on.
CALIBRATION_IMAGES = defaults.CALIBRATION_IMAGES
# Images that the calibrator sees at once: it keeps all their activations.
CALIBRATION_BATCH = 16
LINEAR = ("Gemm", "MatMul")
TOOL = "onnxruntime.quantization"
# The first in which ONNX quantises per channel.
OPSET = 13


@dataclass(frozen=True)
class Quantization:
    """How to quantise.

    Attributes:
        method: one of METHODS: how the range of an activation follows from its values.
        activations: one of ACTIVATIONS.
        float_layers: any of FLOAT_LAYERS: "first" is the convolution of the images, "last" what
            gives the logits.
    """

    method: str = "minmax"
    activations: str = "uint8"
    float_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for kind, known, names in (
            ("calibration method", tuple(METHODS), (self.method,)),
            ("type of activations", ACTIVATIONS, (self.activations,)),
            ("layer to keep in float", FLOAT_LAYERS, self.float_layers),
        ):
            for name in names:
                if name not in known:
                    raise UnknownName(kind, name, known)

    @property
    def for_tensorrt(self) -> bool:
        """Whether TensorRT accepts the file."""
        return self.activations == "int8"

    def to_dict(self) -> dict[str, str]:
        """Texts, for the file's metadata."""
        return {
            "method": self.method,
            "activations": self.activations,
            "float_layers": " ".join(self.float_layers),
        }


def int8_from_onnx(
    source: Path,
    path: Path,
    *,
    calibration: Array,
    proof: Proof,
    options: Quantization | None = None,
) -> tuple[Artifact, Fidelity]:
    """Writes a float32 ONNX file as an int8 one and measures how far it is from it.

    Args:
        source: the float32 file.
        path: the int8 file.
        calibration: training images float32 [n, c, h, w], as the network takes them; the ranges of
            activations are what they are on these.
        proof: what both are run on; its judge may refuse the file.
        options: how to quantise.

    Returns:
        the file and its fidelity, which its metadata have, too.

    Raises:
        ModelFileError: the float file cannot be loaded, or takes other images.
        UsageError: it is not float32, or there are no calibration images.
        ExportError: it cannot be quantised.
        PrecisionLost: the judge refuses; no file is left.
    """
    calibrated = calibrate(source, calibration, options or Quantization())
    return int8_from_calibrated(calibrated, source, path, proof=proof)


def int8_from_calibrated(
    calibrated: Calibrated,
    source: Path,
    path: Path,
    *,
    proof: Proof,
    conversion: Mapping[str, str] | None = None,
) -> tuple[Artifact, Fidelity]:
    """Writes what was calibrated as an int8 file and measures how far it is from ``source``.

    Args:
        calibrated: the graph, whose weights may have been trained since.
        source: the float32 file that it was made of.
        path: the int8 file.
        proof: what both are run on; its judge may refuse the file.
        conversion: what else the metadata are to say of how it was made.

    Raises:
        CompressError: as ``int8_from_onnx`` does.
    """
    floats = float_model(source, "int8")
    predict = predictor_of(source, proof.task, threads=torch.get_num_threads())
    expected = answers_to(predict, proof.images)
    model = calibrated.quantised()
    told = {
        "tool": f"{TOOL} {onnxruntime.__version__}",
        "weights": "int8, symmetric, per channel",
        "calibration_images": str(calibrated.images),
        **calibrated.options.to_dict(),
        **(conversion or {}),
    }
    left = in_float(model, calibrated.excluded)
    if left:
        told["in_float"] = listed(left)
    with atomic_path(path) as temporary:
        with guarded(f"{source.name} cannot be run in int8", "ONNX Runtime", advice_for(model)):
            onnx.save(model, temporary, format="protobuf")
            predict = predictor_of(temporary, proof.task, threads=torch.get_num_threads())
            found = answers_to(predict, proof.images)
        fidelity = compare(expected, found, proof)
        reason = judgement(expected, found, proof) if proof.targets is not None else ""
        if reason:
            raise PrecisionLost(f"{source.name} is not good enough in int8. {reason}")
        write_converted(
            model,
            temporary,
            floats,
            precision="int8",
            source=source,
            conversion=told,
            fidelity=fidelity,
        )
    return read_artifact(path), fidelity


@dataclass(frozen=True)
class Calibrated:
    """A float graph and the ranges of its activations.

    Attributes:
        name: of the file that it was made of.
        floats: the graph, its batch normalisations folded or convolutions.
        ranges: of its activations, as ONNX Runtime's calibrator found them.
        images: that they were found on.
        options: how to quantise.
    """

    name: str
    floats: onnx.ModelProto
    ranges: Any
    images: int
    options: Quantization

    def quantised(self) -> onnx.ModelProto:
        """The QDQ graph.

        Raises:
            ExportError: a tool cannot do it, or no convolution or product is quantised.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self.floats)
        options = self.options
        failure, advice = f"{self.name} cannot be quantised", advice_for(model)
        with guarded(failure, TOOL, advice), quiet():
            quantizer = QDQQuantizer(
                model,
                per_channel=True,
                reduce_range=False,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QInt8 if options.for_tensorrt else QuantType.QUInt8,
                # The quantiser changes them.
                tensors_range=copy.deepcopy(self.ranges),
                nodes_to_quantize=[],
                nodes_to_exclude=self.excluded,
                op_types_to_quantize=_operations(),
                extra_options={
                    "ActivationSymmetric": options.for_tensorrt,
                    "WeightSymmetric": True,
                    "QuantizeBias": False,
                    # Logits in 256 steps would make ties that the network does not have.
                    "OpTypesToExcludeOutputQuantization": list(LINEAR),
                },
            )
            quantizer.quantize_model()
            made: onnx.ModelProto = quantizer.model.model
            sort_nodes(made)
            without_weight_inputs(made)
            tidy(made)
        left = in_float(made, self.excluded)
        if not left and not any(products(made)):
            raise ExportError(f"{failure}: it has no convolution or product by weights.")
        if not self.excluded and len(left) == sum(1 for _ in products(made)):
            raise ExportError(
                f"{failure}: {TOOL} leaves all its convolutions and products in float, "
                f"{listed(left)}. {advice}"
            )
        return made

    @property
    def excluded(self) -> list[str]:
        """Names of the nodes that stay in float, as is asked for."""
        excluded, graph = [], self.floats.graph
        if "first" in self.options.float_layers:
            images = image_input(self.floats).name
            excluded += [node.name for node in graph.node if images in node.input]
        if "last" in self.options.float_layers:
            last = [node.name for node in graph.node if node.op_type in (*LINEAR, "Conv")]
            excluded += last[-1:]
        return excluded


def calibrate(source: Path, calibration: Array, options: Quantization) -> Calibrated:
    """Folds a float32 file's batch normalisations and measures its activations.

    Raises:
        ModelFileError: the file cannot be loaded, or takes other images.
        UsageError: it is not float32, or there are no images.
        ExportError: a tool cannot do it.
    """
    if len(calibration) == 0:
        raise UsageError("There are no images for calibration.")
    float_model(source, "int8")
    predict = predictor_of(source, threads=torch.get_num_threads())
    check_batch(source, predict, calibration[:1])
    predict(calibration[:1])
    return _calibrated(source, calibration, options)


def quantised(source: Path, calibration: Array, options: Quantization) -> onnx.ModelProto:
    """The QDQ graph of a float32 file.

    Raises:
        ExportError: a tool cannot do it.
    """
    return _calibrated(source, calibration, options).quantised()


def _calibrated(source: Path, calibration: Array, options: Quantization) -> Calibrated:
    model = float_model(source, "int8")
    failure, advice = f"{source.name} cannot be quantised", advice_for(model)
    with (
        scratch_folder("int8") as folder,
        guarded(failure, TOOL, advice),
        quiet(),
    ):
        prepared, augmented = folder / "prepared.onnx", folder / "augmented.onnx"
        onnx.save(in_opset(model, OPSET), prepared)
        # Folds batch normalisation behind a convolution, and infers shapes.
        quant_pre_process(prepared, prepared, skip_symbolic_shape=True)
        model = onnx.load(prepared)
        without_weight_inputs(model)
        normalise(model)
        batch_norms_as_convolutions(model)
        for number, node in enumerate(model.graph.node):
            node.name = node.name or f"{node.op_type}_{number}"
        pass_by_identity(model)
        onnx.save(model, prepared)
        method, told = METHODS[options.method]
        calibrator = create_calibrator(
            prepared, _operations(), augmented, method, extra_options=told
        )
        fixed = fixed_batch(model)
        size = fixed or CALIBRATION_BATCH
        for start in range(0, len(calibration), size):
            images = calibration[start : start + size]
            if fixed:
                images = np.resize(images, (fixed, *images.shape[1:]))
            calibrator.collect_data(_Reader(image_input(model).name, images))
        return Calibrated(source.name, model, calibrator.compute_data(), len(calibration), options)


def in_float(model: onnx.ModelProto, excluded: Collection[str] = ()) -> list[str]:
    """The convolutions and products of a QDQ graph whose weights are not int8.

    Args:
        model: the graph.
        excluded: names of those that are not to be.
    """
    return [
        called(node)
        for node, weights in products(model)
        if node.name not in excluded
        and all(tensor.data_type != TensorProto.INT8 for tensor in weights)
    ]


def batch_norms_as_convolutions(model: onnx.ModelProto) -> None:
    """Replaces every batch normalisation [b, c, h, w] by a depthwise 1x1 convolution, in place.

    gamma (x - mean) / sqrt(variance + epsilon) + beta is a weight and a bias for each channel. The
    shapes of activations have to be in the model.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in graph.value_info}
    for place, node in enumerate(graph.node):
        if (
            node.op_type != "BatchNormalization"
            or not weights.keys() >= set(node.input[1:])
            or ranks.get(node.input[0]) != 4
        ):
            continue
        gamma, beta, mean, variance = (
            numpy_helper.to_array(weights[name]).astype(np.float64) for name in node.input[1:]
        )
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        scale = gamma / np.sqrt(variance + epsilon)
        names = [f"{node.output[0]}.{role}" for role in ("scale", "shift")]
        values = (scale.reshape(-1, 1, 1, 1), beta - mean * scale)
        graph.initializer.extend(
            numpy_helper.from_array(value.astype(np.float32), name)
            for value, name in zip(values, names, strict=True)
        )
        graph.node[place].CopyFrom(
            helper.make_node(
                "Conv",
                [node.input[0], *names],
                [node.output[0]],
                name=node.name,
                group=len(scale),
                kernel_shape=[1, 1],
            )
        )
    tidy(model)


class _Reader:
    """One batch of images, as ONNX Runtime's calibrators ask for it."""

    def __init__(self, name: str, images: Array) -> None:
        self._batches: Iterator[dict[str, Array]] = iter([{name: images}])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._batches, None)


def _operations() -> list[str]:
    """Kinds of operations that ONNX Runtime's quantiser knows."""
    return sorted(QLinearOpsRegistry.keys() | QDQRegistry.keys())
