from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from compress.errors import ExportError, ModelFileError, PrecisionLost, UnknownName, UsageError
from compress.exporting.fidelity import Proof
from compress.exporting.parity import predictor_of
from compress.exporting.quantize import (
    METHODS,
    Quantization,
    batch_norms_as_convolutions,
    int8_from_onnx,
)
from compress.files import sha256_of
from compress.profiling.kernels import kernels_of, share
from compress.results import Artifact, Fidelity
from compress.tasks.classification import LOGITS
from compress.tasks.task import Pair
from tests.exporting import networks
from tests.profiling import tiny


@pytest.fixture(scope="module")
def int8(
    floats: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Artifact, Fidelity]]:
    folder = tmp_path_factory.mktemp("int8")
    return networks.Made(lambda name: quantise(floats[name], folder / f"{name}.onnx"))


def quantise(
    source: Path, path: Path, options: Quantization | None = None
) -> tuple[Artifact, Fidelity]:
    return int8_from_onnx(
        source,
        path,
        calibration=networks.images(48),
        proof=Proof(networks.images(64, seed=1)),
        options=options,
    )


def run_by_onnxruntime(path: Path) -> Counter[str]:
    """Operations of the graph that ONNX Runtime makes of a file."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath).graph
    return Counter(node.op_type for node in graph.node)


@pytest.mark.parametrize("name", networks.FAMILIES)
def test_every_convolution_and_addition_runs_in_int8(
    name: str, floats: dict[str, Path], int8: dict[str, tuple[Artifact, Fidelity]]
) -> None:
    artifact, fidelity = int8[name]
    assert 0 < fidelity.relative_error < 0.06
    assert fidelity.top1_agreement > 0.9
    kernels = kernels_of(artifact.path, "onnxruntime")
    assert {kernel.precision for kernel in kernels} == {"int8"}
    run = run_by_onnxruntime(artifact.path)
    additions = [node for node in onnx.load(floats[name]).graph.node if node.op_type == "Add"]
    assert run["QLinearAdd"] == len(additions)
    assert run["BatchNormalization"] == run["Conv"] == run["Add"] == 0
    # At the entry and before the mean, and beside a shortcut's padding, which has no int8 kernel.
    assert run["Transpose"] == 2 or (name == "resnet-8" and run["Transpose"] <= 4)
    # ReLU is the lower end of a range.
    assert run["Relu"] == 0


@pytest.mark.parametrize("name", networks.FAMILIES)
def test_openvino_runs_it_in_int8(name: str, int8: dict[str, tuple[Artifact, Fidelity]]) -> None:
    kernels = kernels_of(int8[name][0].path, "openvino")
    # It takes two 1x1 convolutions of stride 2 that read the same map for a pooling in float.
    float_ones = 4 if name.startswith("preresnet") else 0
    assert sum(kernel.precision != "int8" for kernel in kernels) == float_ones
    assert share(kernels) == 1 - float_ones / sum(each.kind == "convolution" for each in kernels)


def test_what_a_tool_makes_of_batch_norms_on_its_own_stays_in_float(
    floats: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the depthwise convolutions are for."""
    monkeypatch.setattr(
        "compress.exporting.quantize.batch_norms_as_convolutions", lambda model: None
    )
    quantise(floats["wrn-10-1"], tmp_path / "int8.onnx")
    run = run_by_onnxruntime(tmp_path / "int8.onnx")
    # Of the three additions' outputs, and of a convolution's that is a shortcut as well.
    assert run["BatchNormalization"] == 4
    assert run["Transpose"] > 2


@pytest.mark.parametrize("name", ["wrn-10-1", "preresnet-11"])
def test_batch_norms_as_convolutions_are_the_same_function(
    name: str, floats: dict[str, Path], tmp_path: Path
) -> None:
    model = onnx.load(floats[name])
    batch_norms_as_convolutions(model)
    onnx.checker.check_model(model, full_check=True)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    used = {each for node in model.graph.node for each in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used
    onnx.save(model, tmp_path / "changed.onnx")
    images = networks.images(8)
    before, after = predictor_of(floats[name])(images), predictor_of(tmp_path / "changed.onnx")
    np.testing.assert_allclose(after(images)[LOGITS], before[LOGITS], atol=1e-5)


def test_the_file_is_whole_small_and_takes_any_batch(
    floats: dict[str, Path], int8: dict[str, tuple[Artifact, Fidelity]]
) -> None:
    path = int8["wrn-10-1"][0].path
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert path.stat().st_size < 0.5 * floats["wrn-10-1"].stat().st_size
    predict = predictor_of(path)
    images = networks.images(7)
    together = predict(images)[LOGITS]
    one_by_one = np.concatenate([predict(image[None])[LOGITS] for image in images])
    np.testing.assert_allclose(together, one_by_one, atol=1e-6)
    # Logits are not in 256 steps: their differences are not multiples of one.
    gaps = np.diff(np.unique(predict(networks.images(64))[LOGITS]))
    assert gaps.min() < 1e-3 * gaps.max()


def test_the_metadata_tell_how_it_was_made(
    floats: dict[str, Path], int8: dict[str, tuple[Artifact, Fidelity]]
) -> None:
    artifact, fidelity = int8["wrn-10-1"]
    assert artifact.precision == "int8"
    assert artifact.conversion["method"] == "minmax"
    assert artifact.conversion["calibration_images"] == "48"
    assert artifact.conversion["activations"] == "uint8"
    assert artifact.fidelity == fidelity
    assert fidelity.images == 64
    assert fidelity.pair is None
    assert artifact.source["run"] == "runs/x"
    assert artifact.source["float_sha256"] == sha256_of(floats["wrn-10-1"])
    assert artifact.spec is not None
    assert artifact.spec.name == "wrn-10-1"
    assert artifact.classes[0] == "class 0"


def test_equal_files_and_images_give_equal_bytes(
    floats: dict[str, Path], int8: dict[str, tuple[Artifact, Fidelity]], tmp_path: Path
) -> None:
    again, _ = quantise(floats["resnet-8"], tmp_path / "again.onnx")
    assert again.sha256 == int8["resnet-8"][0].sha256


def test_it_says_nothing(
    floats: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    quantise(floats["resnet-8"], tmp_path / "f.onnx", Quantization(method="percentile"))
    assert capfd.readouterr() == ("", "")
    assert [each.name for each in tmp_path.iterdir()] == ["f.onnx"]


def test_for_tensorrt_nothing_has_a_zero_point_and_biases_are_floats(
    floats: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "f.onnx"
    artifact, fidelity = quantise(floats["wrn-10-1"], path, Quantization(activations="int8"))
    assert fidelity.relative_error < 0.06
    assert artifact.conversion["activations"] == "int8"
    graph = onnx.load(path).graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    quantisers = [n for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert quantisers
    for node in quantisers:
        zero_point = values[node.input[2]]
        assert zero_point.dtype == np.int8
        assert not zero_point.any()


def test_first_and_last_layer_can_stay_in_float(floats: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "f.onnx"
    options = Quantization(float_layers=("first", "last"))
    artifact, _ = quantise(floats["resnet-8"], path, options)
    assert artifact.conversion["float_layers"] == "first last"
    kernels = kernels_of(path)
    assert [kernel.precision for kernel in kernels] == ["fp32", *["int8"] * 6, "fp32"]
    assert kernels[-1].kind == "product"


def test_the_method_decides_what_an_outlier_does(tmp_path: Path) -> None:
    """One value of 98,304 is a hundred times as large as the others."""
    source = tiny.convolution(tmp_path / "tiny.onnx")
    calibration = np.random.default_rng(0).standard_normal((512, 3, 8, 8), dtype=np.float32)
    calibration[5, 0, 3, 3] = 400.0
    scales = {}
    for method in METHODS:
        path = tmp_path / f"{method}.onnx"
        int8_from_onnx(
            source,
            path,
            calibration=calibration,
            proof=Proof(calibration[:4]),
            options=Quantization(method=method),
        )
        graph = onnx.load(path).graph
        values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        scales[method] = float(values["images_scale"])
    assert scales["minmax"] > 400 / 255
    assert scales["percentile"] < 0.1
    assert scales["entropy"] < 0.9 * scales["minmax"]


def test_accuracy_is_counted_by_image(floats: dict[str, Path], tmp_path: Path) -> None:
    images = networks.images(200, seed=2)
    logits = predictor_of(floats["wrn-10-1"])(images)[LOGITS]
    labels = torch.from_numpy(logits.argmax(axis=1))
    labels[:20] = (labels[:20] + 1) % networks.CLASSES
    told: list[Pair] = []

    def judge(pair: Pair) -> str:
        told.append(pair)
        return ""

    _, fidelity = int8_from_onnx(
        floats["wrn-10-1"],
        tmp_path / "f.onnx",
        calibration=networks.images(48),
        proof=Proof(images, labels, judge),
    )
    assert fidelity.float_score == 0.9
    counts = fidelity.pair
    assert counts is not None
    assert counts["lost"] > 0
    assert counts["right"] == 180 - counts["lost"] + counts["won"]
    assert fidelity.score == counts["right"] / 200
    assert [pair.to_dict() for pair in told] == [counts]


def test_what_loses_too_much_is_refused(floats: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "f.onnx"
    path.write_text("what was there before")
    images = networks.images(20)
    with pytest.raises(PrecisionLost, match=r"wrn-10-1\.onnx is not good enough in int8\. Too bad"):
        int8_from_onnx(
            floats["wrn-10-1"],
            path,
            calibration=images,
            proof=Proof(images, torch.zeros(20, dtype=torch.int64), lambda pair: "Too bad."),
        )
    assert path.read_text() == "what was there before"
    assert [each.name for each in tmp_path.iterdir()] == ["f.onnx"]


def test_what_cannot_be_quantised_is_refused(
    floats: dict[str, Path], int8: dict[str, tuple[Artifact, Fidelity]], tmp_path: Path
) -> None:
    path = tmp_path / "f.onnx"
    images = networks.images(4)
    with pytest.raises(UsageError, match="is already int8"):
        quantise(int8["wrn-10-1"][0].path, path)
    with pytest.raises(UsageError, match="no images for calibration"):
        int8_from_onnx(floats["wrn-10-1"], path, calibration=images[:0], proof=Proof(images))
    with pytest.raises(ModelFileError, match=r"takes \[batch, 3, 16, 16\]"):
        int8_from_onnx(floats["wrn-10-1"], path, calibration=images[:, :, :8], proof=Proof(images))
    with pytest.raises(ModelFileError, match="There is no file"):
        quantise(tmp_path / "absent.onnx", path)
    with pytest.raises(UnknownName, match="Did you mean 'entropy'"):
        Quantization(method="entropie")
    with pytest.raises(UnknownName, match="type of activations"):
        Quantization(activations="int4")
    assert not path.exists()


def test_a_tool_that_fails_is_an_error_with_its_reason(
    floats: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("what the tool says\nand its details")

    monkeypatch.setattr("compress.exporting.quantize.create_calibrator", broken)
    with pytest.raises(
        ExportError, match=r"cannot be quantised: .*quantization says: what the tool says\. Ex"
    ):
        quantise(floats["wrn-10-1"], tmp_path / "f.onnx")


def with_weights_beside_it(source: Path, path: Path) -> None:
    onnx.save(
        onnx.load(source), path, save_as_external_data=True, location="w.data", size_threshold=1024
    )


def with_batches_of_two(source: Path, path: Path) -> None:
    model = onnx.load(source)
    del model.graph.value_info[:]
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].Clear()
        value.type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, path)


def of_opset_9(source: Path, path: Path) -> None:
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1]),
        onnx.helper.make_node("Relu", ["y"], ["z"]),
        onnx.helper.make_node("GlobalAveragePool", ["z"], ["p"]),
        onnx.helper.make_node("Flatten", ["p"], ["q"]),
    ]
    weights = np.random.default_rng(0).standard_normal((5, 3, 3, 3)).astype(np.float32)
    kind = onnx.TensorProto.FLOAT
    images = onnx.helper.make_tensor_value_info("x", kind, ["n", *networks.SHAPE])
    logits = onnx.helper.make_tensor_value_info("q", kind, ["n", 5])
    graph = onnx.helper.make_graph(
        nodes, "g", [images], [logits], [numpy_helper.from_array(weights, "w")]
    )
    opset = onnx.helper.make_opsetid("", 9)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=4), path)


@pytest.mark.parametrize("made", [with_weights_beside_it, with_batches_of_two, of_opset_9])
def test_files_as_other_tools_write_them(
    made: Callable[[Path, Path], None], floats: dict[str, Path], tmp_path: Path
) -> None:
    """The last batches of 48 images for the ranges and 63 for the proof may be incomplete."""
    made(floats["wrn-10-1"], tmp_path / "given.onnx")
    artifact, fidelity = int8_from_onnx(
        tmp_path / "given.onnx",
        tmp_path / "int8" / "f.onnx",
        calibration=networks.images(47),
        proof=Proof(networks.images(63, seed=1)),
    )
    assert fidelity.images == 63
    assert fidelity.top1_agreement > 0.9
    assert [each.name for each in artifact.path.parent.iterdir()] == ["f.onnx"]
