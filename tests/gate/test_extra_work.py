from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from compress.errors import Inconclusive, ModelFileError
from compress.gate import extra_work
from compress.gate.extra_work import PREFIX, rows_for, slow_down, with_extra_work
from compress.gate.measuring import Rounds, Settings, Trial, measure
from tests.gate.small import SIZE, classifier, rounds


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier(tmp_path_factory.mktemp("model") / "model.onnx", layers=4)


def answers(path: Path, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {session.get_inputs()[0].name: pixels})[0]
    return found


def test_the_answers_stay_what_they_are(model: Path, tmp_path: Path) -> None:
    slower = tmp_path / "slower.onnx"
    onnx.save(with_extra_work(onnx.load(model), 16), slower)
    onnx.checker.check_model(slower)
    pixels = np.random.default_rng(0).standard_normal((5, 1, SIZE, SIZE), dtype=np.float32)
    assert np.array_equal(answers(slower, pixels), answers(model, pixels))


def test_the_runtime_leaves_no_product_out(model: Path, tmp_path: Path) -> None:
    onnx.save(with_extra_work(onnx.load(model), 16), tmp_path / "slower.onnx")
    kept = []
    for path in (model, tmp_path / "slower.onnx"):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        graph = onnx.load(tmp_path / "optimised.onnx").graph
        kept.append(Counter(node.op_type for node in graph.node if "MatMul" in node.op_type))
    assert kept[1]["MatMul"] == kept[0]["MatMul"] + extra_work.PRODUCTS


def test_the_model_that_was_given_stays(model: Path) -> None:
    before = onnx.load(model)
    after = onnx.load(model)
    with_extra_work(after, 4)
    assert after == before


def test_integer_images_can_be_worked_on_too(tmp_path: Path) -> None:
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("Cast", ["images"], ["logits"], to=TensorProto.FLOAT16)],
        "bytes",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT16, None)],
    )
    tiny = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(with_extra_work(tiny, 2), tmp_path / "slower.onnx")
    found = answers(tmp_path / "slower.onnx", np.array([[1, 2, 3, 4]], dtype=np.uint8))
    assert found.dtype == np.float16
    assert found.tolist() == [[1, 2, 3, 4]]


def test_what_has_no_input_cannot_be_slowed_down() -> None:
    with pytest.raises(ModelFileError, match="has 0 inputs"):
        with_extra_work(onnx.ModelProto(), 4)


def test_more_rows_take_longer_for_real(model: Path, tmp_path: Path) -> None:
    slower = tmp_path / "slower.onnx"
    onnx.save(with_extra_work(onnx.load(model), 20_000), slower)
    assert measure(Trial(slower, model, rounds=6)).ratio().low > 1.5


def scripted(monkeypatch: pytest.MonkeyPatch, start: float, slope: float) -> list[int]:
    """Measuring finds start + slope * rows; gives the rows that were tried."""
    tried: list[int] = []

    def found(trial: Trial) -> Rounds:
        graph = onnx.load(trial.candidate).graph
        first = next(each for each in graph.initializer if each.name == f"{PREFIX}start")
        tried.append(first.dims[0])
        return rounds(start + slope * first.dims[0])

    monkeypatch.setattr(extra_work, "measure", found)
    return tried


def test_the_amount_is_found_by_measuring(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = scripted(monkeypatch, 0.02, 0.002)
    found = slow_down(model, 0.05, tmp_path / "s.onnx", settings=Settings())
    assert found.rows == 15
    assert found.ratio.value == pytest.approx(1.05)
    assert len(tried) == 3
    assert onnx.load(found.path).graph.initializer


def test_rounds_of_several_processes_make_a_measurement(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = scripted(monkeypatch, 0.02, 0.002)
    found = slow_down(model, 0.05, tmp_path / "s.onnx", settings=Settings(), processes=4)
    assert found.ratio.value == pytest.approx(1.05)
    assert len(tried) == 12
    assert tried[-4:] == [15] * 4


def test_an_amount_that_cannot_be_found_is_told(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, 0.2, 0.0)
    with pytest.raises(Inconclusive, match="a quieter machine, or a larger model"):
        slow_down(model, 0.05, tmp_path / "s.onnx", settings=Settings())


def test_guesses_stay_in_bounds() -> None:
    assert rows_for(0.05, [(64, -0.01)]) == 512
    assert rows_for(0.05, [(64, 5.0)]) == 8
    assert rows_for(0.05, [(1, 5.0)]) == 1
    assert rows_for(0.05, [(100, 0.1), (50, 0.06)]) == 38
