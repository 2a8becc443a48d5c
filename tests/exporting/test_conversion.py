"""Graphs of every form, converted for real, and the errors of the tools that do it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from compress.errors import CompressError, ExportError, ModelFileError, UsageError
from compress.exporting.artifact import read_artifact
from compress.exporting.conversion import (
    float_model,
    guarded,
    whole_model,
)
from compress.exporting.fidelity import Proof
from compress.exporting.graphs import products
from compress.exporting.half import bf16_from_onnx, fp16_from_onnx, predictor_of_any
from compress.exporting.parity import check_batch, predictor_of
from compress.exporting.precision import reduced_for_timing
from compress.exporting.quantize import Quantization, calibrate, int8_from_onnx
from compress.onnx_file import image_input, without_weight_inputs
from compress.results import Artifact
from compress.tasks.classification import LOGITS
from compress.tasks.rows import relative_error
from tests.exporting import graphs

# Not in int8: what lies within an If or a Loop.
BRANCHES = {"Conv 'then.conv'", "Conv 'else.conv'"}
IN_FLOAT = {"If": BRANCHES, "If, the other way": BRANCHES, "Loop": {"Conv 'step'"}}


def converted(source: Path, path: Path, precision: str) -> Artifact:
    proof = Proof(graphs.images(40))
    if precision == "int8":
        made = int8_from_onnx(source, path, calibration=graphs.images(64), proof=proof)
    elif precision == "fp16":
        made = fp16_from_onnx(source, path, proof=proof)
    else:
        made = bf16_from_onnx(source, path, proof=proof)
    return made[0]


def weight_kinds(path: Path) -> set[int]:
    return {tensor.data_type for _, weights in products(onnx.load(path)) for tensor in weights}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("kind", graphs.KINDS)
def test_weights_have_the_type_that_is_claimed(kind: str, precision: str, tmp_path: Path) -> None:
    source, path = graphs.saved(kind, tmp_path), tmp_path / "half.onnx"
    artifact = converted(source, path, precision)
    assert artifact.precision == precision
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    wanted = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.BFLOAT16
    assert TensorProto.FLOAT not in {tensor.data_type for tensor in model.graph.initializer}
    assert weight_kinds(path) - {TensorProto.INT64} == {wanted}
    assert path.stat().st_size < 0.6 * source.stat().st_size
    assert [entry.name for entry in model.graph.input] == ["images"]
    images = graphs.images(6)
    # ONNX Runtime has fp16 on a CPU, and no convolutions in bf16.
    predict = predictor_of(path) if precision == "fp16" else predictor_of_any(path)
    error = relative_error(predictor_of(source)(images)[LOGITS], predict(images)[LOGITS])
    assert error < (0.005 if precision == "fp16" else 0.05)


@pytest.mark.parametrize("kind", graphs.KINDS)
def test_int8_is_in_int8_or_says_what_is_not(kind: str, tmp_path: Path) -> None:
    source, path = graphs.saved(kind, tmp_path), tmp_path / "int8.onnx"
    artifact = converted(source, path, "int8")
    told = artifact.conversion.get("in_float", "")
    assert set(filter(None, told.split(", "))) == IN_FLOAT.get(kind, set())
    found = list(products(onnx.load(path)))
    narrow = [any(each.data_type == TensorProto.INT8 for each in weights) for _, weights in found]
    assert (sum(narrow), len(narrow)) == (3, 3 + len(IN_FLOAT.get(kind, ())))
    images = graphs.images(6)
    assert (
        relative_error(predictor_of(source)(images)[LOGITS], predictor_of(path)(images)[LOGITS])
        < 0.15
    )
    assert [entry.name for entry in onnx.load(path).graph.input] == ["images"]


@pytest.mark.parametrize("kind", ["weights first", "opset 7"])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_files_that_are_only_timed_are_the_same(kind: str, precision: str, tmp_path: Path) -> None:
    source, path = graphs.saved(kind, tmp_path), tmp_path / "timed.onnx"
    reduced_for_timing(source, path, precision, shape=graphs.SHAPE)
    kinds = weight_kinds(path)
    assert (TensorProto.FLOAT16 if precision == "fp16" else TensorProto.INT8) in kinds
    assert (TensorProto.FLOAT in kinds) == (precision == "int8")  # the scales


def test_the_first_layer_in_float_is_the_one_of_the_images(tmp_path: Path) -> None:
    source = graphs.saved("weights first", tmp_path)
    options = Quantization(float_layers=("first", "last"))
    assert calibrate(source, graphs.images(4), options).excluded == ["first", "last"]
    path = tmp_path / "int8.onnx"
    artifact, _ = int8_from_onnx(
        source,
        path,
        calibration=graphs.images(8),
        proof=Proof(graphs.images(8)),
        options=options,
    )
    # It was asked for, so nothing is to be told.
    assert "in_float" not in artifact.conversion


def not_converted(model: onnx.ModelProto, **_: object) -> onnx.ModelProto:
    return model


@pytest.mark.parametrize("convert", [fp16_from_onnx, bf16_from_onnx])
def test_a_file_whose_weights_stayed_float32_is_refused(
    convert: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.exporting.half.convert_float_to_float16", not_converted)
    source = graphs.saved("usual", tmp_path)
    precision = "fp16" if convert is fp16_from_onnx else "bf16"
    message = (
        rf"cannot be converted to {precision}: 7,584 of the 7,584 weights of its convolutions and "
        rf"products would not be {precision} \('first\.weight', 'wide\.weight', 'last\.weight'\)\."
    )
    with pytest.raises(ExportError, match=message):
        convert(source, tmp_path / "half.onnx", proof=Proof(graphs.images(2)))
    assert [each.name for each in tmp_path.iterdir()] == [source.name]


def test_an_int8_file_without_int8_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.exporting.quantize._operations", lambda: ["MaxPool"])
    source = graphs.saved("usual", tmp_path)
    message = r"leaves all its .* in float, Conv 'first', Conv 'wide', Gemm 'last'\. Export it"
    with pytest.raises(ExportError, match=message):
        converted(source, tmp_path / "int8.onnx", "int8")
    assert [each.name for each in tmp_path.iterdir()] == [source.name]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_what_a_tool_cannot_convert_is_named(precision: str, tmp_path: Path) -> None:
    onnx.save(graphs.branches_with_max(), tmp_path / "f.onnx")
    message = (
        rf"f\.onnx cannot be converted to {precision}: \S+ says: .* It has If 'choice', which "
        r"tools support poorly: export it without"
    )
    with pytest.raises(ExportError, match=message):
        converted(tmp_path / "f.onnx", tmp_path / "g.onnx", precision)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
@pytest.mark.parametrize("rows", [[1, graphs.WIDE], [1, -1]])
def test_a_batch_that_is_fixed_inside_is_told(
    precision: str, rows: list[int], tmp_path: Path
) -> None:
    model = graphs.fixed_reshape()
    model.graph.initializer[-1].CopyFrom(onnx.numpy_helper.from_array(np.array(rows), "to"))
    onnx.save(model, tmp_path / "f.onnx")
    message = (
        r"f\.onnx claims to take any number of images, but takes only one: .* It has Reshape "
        r"'flatten' to a fixed number of rows\. Export it again with a free batch size"
    )
    with pytest.raises(ModelFileError, match=message):
        converted(tmp_path / "f.onnx", tmp_path / "g.onnx", precision)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_a_batch_that_is_fixed_throughout_is_converted(precision: str, tmp_path: Path) -> None:
    onnx.save(graphs.fixed_reshape(batch=1), tmp_path / "f.onnx")
    artifact = converted(tmp_path / "f.onnx", tmp_path / "g.onnx", precision)
    assert artifact.precision == precision
    assert image_input(onnx.load(artifact.path)).type.tensor_type.shape.dim[0].dim_value == 1


def test_answers_that_are_not_one_an_image_are_told(tmp_path: Path) -> None:
    path = tmp_path / "f.onnx"
    onnx.save(graphs.usual(), path)
    check_batch(path, predictor_of(path), graphs.images(1))
    with pytest.raises(ModelFileError, match=r"takes only one: of two it gives 1\. Export"):
        check_batch(path, lambda images: {LOGITS: images[:1, 0, 0]}, graphs.images(1))
    with pytest.raises(ModelFileError, match=r"takes only one: of two it gives 1\. Export"):
        check_batch(path, lambda images: {LOGITS: images.sum()}, graphs.images(1))


@pytest.mark.parametrize("kind", ["kept as inputs", "weights first", "opset 7", "usual"])
def test_the_image_is_what_is_no_weight(kind: str) -> None:
    model = graphs.KINDS[kind]()
    assert image_input(model).name == "images"
    without_weight_inputs(model)
    assert [entry.name for entry in model.graph.input] == ["images"]
    assert model.ir_version >= 4
    onnx.checker.check_model(model, full_check=True)


def test_other_inputs_are_told() -> None:
    with pytest.raises(ModelFileError, match=r"has 2 inputs \('images', 'mask'\), but an image"):
        image_input(graphs.two_inputs())
    model = graphs.usual()
    del model.graph.input[:]
    with pytest.raises(ModelFileError, match=r"has 0 inputs \(none\), but an image"):
        image_input(model)


def test_a_whole_file_has_no_weights_among_its_inputs(tmp_path: Path) -> None:
    model = onnx.load_from_string(whole_model(graphs.saved("weights first", tmp_path)))
    assert [entry.name for entry in model.graph.input] == ["images"]


def test_a_file_without_weights_is_the_same_in_fewer_bits(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["logits"]),
    ]
    names = [tensor.name for tensor in graphs.weights()]
    onnx.save(graphs.model(nodes, classes=3, without=names), tmp_path / "f.onnx")
    with pytest.raises(UsageError, match="holds no weights, so it is the same in fp16"):
        float_model(tmp_path / "f.onnx", "fp16")


def test_the_precision_is_that_of_the_weights_wherever_they_are(tmp_path: Path) -> None:
    path = graphs.saved("Constant nodes", tmp_path)
    assert read_artifact(path).precision == "fp32"


@pytest.mark.parametrize(
    "error",
    [
        AssertionError(),
        AttributeError("no such thing\nin detail"),
        onnx.shape_inference.InferenceError("no such thing."),
        onnx.checker.ValidationError("no such thing"),
        RecursionError("no such thing"),
        StopIteration("no such thing"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_of_a_tool_becomes_one_of_ours(error: Exception) -> None:
    said = "no such thing" if str(error) else "AssertionError"
    with (
        pytest.raises(
            ExportError, match=rf"^f\.onnx cannot be read: onnx says: {said}\. Do not\.$"
        ),
        guarded("f.onnx cannot be read", "onnx", "Do not."),
    ):
        raise error


def test_what_is_no_error_of_a_tool_passes() -> None:
    for error in (UsageError("as it is"), KeyboardInterrupt(), SystemExit(3)):
        with pytest.raises(type(error)) as caught, guarded("f.onnx cannot be read", "onnx"):
            raise error
        assert caught.value is error
    with (
        pytest.raises(ModelFileError, match="cannot be read: there is not enough memory"),
        guarded("f.onnx cannot be read", "onnx", kind=ModelFileError),
    ):
        raise MemoryError
    assert issubclass(ModelFileError, CompressError)
