from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from compress.errors import ExportError, ModelFileError, PrecisionLost, UsageError
from compress.exporting.fidelity import Proof
from compress.exporting.half import BF16, FP16, bf16_from_onnx, fp16_from_onnx, rounded
from compress.exporting.parity import predictor_of, values_of
from compress.files import sha256_of
from compress.results import Artifact, Fidelity
from compress.tasks.classification import LOGITS
from tests.exporting import networks
from tests.profiling import tiny

CONVERTERS = {"fp16": fp16_from_onnx, "bf16": bf16_from_onnx}
STEP = {"fp16": 2**-11, "bf16": 2**-8}
Convert = Callable[[str, str], tuple[Artifact, Fidelity]]


@pytest.fixture(scope="module")
def half(floats: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Convert:
    folder = tmp_path_factory.mktemp("half")
    made: dict[str, tuple[Artifact, Fidelity]] = {}

    def convert(name: str, precision: str) -> tuple[Artifact, Fidelity]:
        path = folder / f"{name}-{precision}.onnx"
        if path.name not in made:
            proof = Proof(networks.images(64))
            made[path.name] = CONVERTERS[precision](floats[name], path, proof=proof)
        return made[path.name]

    return convert


@pytest.mark.parametrize("precision", CONVERTERS)
@pytest.mark.parametrize("name", networks.FAMILIES)
def test_every_family_is_half_as_large_and_nearly_the_same(
    name: str, precision: str, floats: dict[str, Path], half: Convert
) -> None:
    artifact, fidelity = half(name, precision)
    graph = onnx.load(artifact.path).graph
    kinds = Counter(tensor.data_type for tensor in graph.initializer)
    assert kinds[TensorProto.FLOAT] == 0
    assert 0 < fidelity.relative_error < 8 * STEP[precision]
    assert fidelity.top1_agreement > 0.9
    assert fidelity.method == "rounded"
    (given,), (result,) = graph.input, graph.output
    assert given.type.tensor_type.elem_type == TensorProto.FLOAT
    assert result.type.tensor_type.elem_type == TensorProto.FLOAT
    weights = sum(numpy_helper.to_array(tensor).nbytes for tensor in graph.initializer)
    assert artifact.size_bytes - weights < floats[name].stat().st_size - 2 * weights + 8000


def test_the_fp16_file_is_run_by_onnxruntime(floats: dict[str, Path], half: Convert) -> None:
    images = networks.images(8)
    found = predictor_of(half("wrn-10-1", "fp16")[0].path)(images)[LOGITS]
    np.testing.assert_allclose(found, predictor_of(floats["wrn-10-1"])(images)[LOGITS], atol=0.01)
    assert found.dtype == np.float32


@pytest.mark.parametrize("precision", CONVERTERS)
def test_rounding_is_what_a_16_bit_runtime_computes(precision: str, tmp_path: Path) -> None:
    """ONNX's reference implementation, which really computes in 16 bits."""
    source = tiny.convolution(tmp_path / "tiny.onnx")
    images = np.random.default_rng(0).standard_normal((4, 3, 8, 8), dtype=np.float32)
    path = tmp_path / "half.onnx"
    CONVERTERS[precision](source, path, proof=Proof(images))
    truth = np.asarray(
        next(iter(ReferenceEvaluator(onnx.load(path)).run(None, {"images": images})))
    )
    graph = rounded(onnx.load(path), FP16 if precision == "fp16" else BF16)
    found = values_of(graph, ["logits"])(images)["logits"]
    exact = predictor_of(source)(images)[LOGITS]
    error = np.abs(exact - truth).max()
    assert error > 0
    # The reference adds up in 16 bits, too.
    assert np.abs(found - truth).max() < 1.5 * error
    assert 0.2 * error < np.abs(found - exact).max() < 1.5 * error


def test_a_bf16_file_has_weights_rounded_once(floats: dict[str, Path], half: Convert) -> None:
    exact = {
        t.name: numpy_helper.to_array(t) for t in onnx.load(floats["wrn-10-1"]).graph.initializer
    }
    model = onnx.load(half("wrn-10-1", "bf16")[0].path)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16:
            expected = exact[tensor.name].astype(BF16.dtype).astype(np.float32)
            found = numpy_helper.to_array(tensor).astype(np.float32)
            np.testing.assert_array_equal(found, expected)
    assert model.opset_import[0].version == 22


def test_the_metadata_tell_how_it_was_made(floats: dict[str, Path], half: Convert) -> None:
    artifact, fidelity = half("wrn-10-1", "bf16")
    assert artifact.precision == "bf16"
    assert artifact.fidelity == fidelity
    assert artifact.conversion["tool"].startswith("onnxruntime.transformers.float16")
    assert artifact.source["float_sha256"] == sha256_of(floats["wrn-10-1"])
    assert artifact.toolchain["opset"] == "22"
    assert artifact.spec is not None


def changed(source: Path, path: Path, changes: dict[str, float]) -> Path:
    """A file with some weights multiplied."""
    model = onnx.load(source)
    for tensor in model.graph.initializer:
        if tensor.name in changes:
            value = np.multiply(numpy_helper.to_array(tensor), np.float32(changes[tensor.name]))
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    onnx.save(model, path)
    return path


def test_an_overflow_is_named_with_its_layer(floats: dict[str, Path], tmp_path: Path) -> None:
    """The second convolution of the second stage gives what fp16 cannot hold, and bf16 can."""
    name = "stages.1.0.conv2.weight"
    source = changed(floats["wrn-10-1"], tmp_path / "loud.onnx", {name: 1e5})
    proof = Proof(networks.images(16))
    message = (
        r"loud\.onnx is not good enough in fp16\. The logits of image 0 are not finite\. It begins "
        r"at layer 'stages\.1\.0\.conv2', which gives values up to \d\.\d+e\+05, but fp16 "
        r"holds at most 65504\."
    )
    with pytest.raises(PrecisionLost, match=message):
        fp16_from_onnx(source, tmp_path / "f.onnx", proof=proof)
    assert [each.name for each in tmp_path.iterdir()] == ["loud.onnx"]
    bf16_from_onnx(source, tmp_path / "f.onnx", proof=proof)


def test_a_loss_of_accuracy_is_named_with_its_layer(tmp_path: Path) -> None:
    """Weights below the least that fp16 has become that; later ones would have enlarged them."""
    rng = np.random.default_rng(0)
    weights = {
        "first.weight": rng.standard_normal((4, 3, 1, 1)),
        "quiet.weight": 1e-9 * rng.standard_normal((4, 4, 1, 1)),
        "loud.weight": 1e4 * rng.standard_normal((4, 4, 1, 1)),
        "linear.weight": 1e4 * rng.standard_normal((4, 5)),
        "axes": np.array([2, 3]),
    }
    nodes = [
        onnx.helper.make_node("Conv", ["images", "first.weight"], ["a"], "n1"),
        onnx.helper.make_node("Conv", ["a", "quiet.weight"], ["b"], "n2"),
        onnx.helper.make_node("Conv", ["b", "loud.weight"], ["c"], "n3"),
        onnx.helper.make_node("ReduceMean", ["c", "axes"], ["d"], "n4", keepdims=0),
        onnx.helper.make_node("MatMul", ["d", "linear.weight"], ["logits"], "n5"),
    ]
    source = tiny.save(
        tmp_path / "quiet.onnx",
        nodes,
        {k: v.astype(np.float32) if k != "axes" else v for k, v in weights.items()},
        [("images", ("batch", 3, 4, 4))],
    )
    images = rng.standard_normal((8, 3, 4, 4)).astype(np.float32)
    message = r"off by \d+% of their own spread\. It begins at layer 'quiet', whose result is"
    with pytest.raises(PrecisionLost, match=message):
        fp16_from_onnx(source, tmp_path / "f.onnx", proof=Proof(images))
    bf16_from_onnx(source, tmp_path / "f.onnx", proof=Proof(images))


def test_weights_that_fp16_cannot_hold_are_named(floats: dict[str, Path], tmp_path: Path) -> None:
    names = ["conv.weight", "linear.weight"]
    source = changed(floats["wrn-10-1"], tmp_path / "f.onnx", dict.fromkeys(names, 1e7))
    with pytest.raises(PrecisionLost, match=r"'conv\.weight' has .*; 'linear\.weight' has"):
        fp16_from_onnx(source, tmp_path / "g.onnx", proof=Proof(networks.images(4)))


def test_the_judge_may_refuse(floats: dict[str, Path], tmp_path: Path) -> None:
    images = networks.images(4)
    proof = Proof(images, torch.zeros(4, dtype=torch.int64), lambda pair: "Too bad.")
    with pytest.raises(PrecisionLost, match=r"in bf16\. Too bad\. It begins at layer"):
        bf16_from_onnx(floats["wrn-10-1"], tmp_path / "f.onnx", proof=proof)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_converted_is_refused(
    floats: dict[str, Path], half: Convert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = Proof(networks.images(2))
    with pytest.raises(UsageError, match=r"is already fp16, but bf16 is made from a float32 file"):
        bf16_from_onnx(half("wrn-10-1", "fp16")[0].path, tmp_path / "f.onnx", proof=proof)
    with pytest.raises(ModelFileError, match="There is no file"):
        fp16_from_onnx(tmp_path / "absent.onnx", tmp_path / "f.onnx", proof=proof)

    def broken(*_: object, **__: object) -> None:
        raise ValueError("what the tool says\nand its details")

    monkeypatch.setattr("compress.exporting.half.convert_float_to_float16", broken)
    with pytest.raises(
        ExportError, match=r"converted to fp16: .*float16 says: what the tool says\. Ex"
    ):
        fp16_from_onnx(floats["wrn-10-1"], tmp_path / "f.onnx", proof=proof)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("precision", CONVERTERS)
def test_it_says_nothing_and_equal_files_give_equal_bytes(
    precision: str,
    floats: dict[str, Path],
    half: Convert,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    sha256 = half("resnet-8", precision)[0].sha256
    capfd.readouterr()
    path = tmp_path / "again.onnx"
    again, _ = CONVERTERS[precision](floats["resnet-8"], path, proof=Proof(networks.images(64)))
    assert again.sha256 == sha256
    assert capfd.readouterr() == ("", "")


def scaled_up_and_down(source: Path, path: Path) -> None:
    """The same function, with constants that fp16 cannot hold; each takes two images at once."""
    model = onnx.load(source)
    graph = model.graph
    del graph.value_info[:]
    last = graph.node[-1]
    logits = last.output[0]
    last.output[0] = "small"
    for name, value in (("many", 2.0**20), ("few", 2.0**-20)):
        tensor = numpy_helper.from_array(np.array(value, np.float32))
        graph.node.append(onnx.helper.make_node("Constant", [], [name], value=tensor))
    graph.node.append(onnx.helper.make_node("Mul", ["small", "many"], ["large"]))
    graph.node.append(onnx.helper.make_node("Mul", ["large", "few"], [logits]))
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.shape.dim[0].Clear()
        value.type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, path)


def test_constants_are_rounded_as_weights_are(floats: dict[str, Path], tmp_path: Path) -> None:
    source, path = tmp_path / "scaled.onnx", tmp_path / "f.onnx"
    scaled_up_and_down(floats["wrn-10-1"], source)
    proof = Proof(networks.images(33))
    _, fidelity = bf16_from_onnx(source, path, proof=proof)
    assert fidelity.images == 33
    assert fidelity.relative_error < 8 * STEP["bf16"]
    with pytest.raises(PrecisionLost, match=r"'many' has 1.05e\+06"):
        fp16_from_onnx(source, tmp_path / "g.onnx", proof=proof)
