from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.errors import ModelFileError
from compress.exporting import predictor_of, read_artifact
from compress.models.registry import spec_of
from compress.results import Fidelity
from compress.spec import Normalization
from tests.schema.broken import answers, broken_json


def foreign(**metadata: str) -> onnx.ModelProto:
    """A file that was made elsewhere: one matrix product."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.ones((3, 2), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    helper.set_model_props(model, {f"compress.{key}": value for key, value in metadata.items()})
    return model


def test_a_file_of_others_has_no_metadata(tmp_path: Path) -> None:
    onnx.save(foreign(), tmp_path / "model.onnx")
    artifact = read_artifact(tmp_path / "model.onnx")
    assert artifact.spec is None
    assert artifact.normalization is None
    assert artifact.classes == ()
    assert artifact.toolchain == artifact.source == {}
    assert artifact.precision == "fp32"


def test_weights_in_other_files_count(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(foreign(), path, save_as_external_data=True, location="model.data", size_threshold=0)
    whole = path.stat().st_size + (tmp_path / "model.data").stat().st_size
    assert read_artifact(path).size_bytes == whole
    (tmp_path / "model.data").unlink()
    with pytest.raises(
        ModelFileError, match=r"keeps weights in model.data, which is missing or too short"
    ):
        read_artifact(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"this is a text file\n" * 9, "is not an ONNX file"),
        (foreign().SerializeToString()[:-20], "is not an ONNX file, or is incomplete"),
        (onnx.ModelProto().SerializeToString() or b"\x08\x0a", "its 2 bytes have no graph"),
    ],
    ids=["empty", "text", "truncated", "no graph"],
)
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        read_artifact(tmp_path / "model.onnx")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="There is no file"):
        read_artifact(tmp_path / "model.onnx")
    with pytest.raises(ModelFileError, match="is a folder"):
        read_artifact(tmp_path)


@pytest.mark.parametrize(
    "metadata",
    [
        {"spec": "{"},
        {"spec": "[1, 2]"},
        {"spec": '{"arch": "wrn"}'},
        {"normalization": '{"mean": [0.5]}'},
        {"normalization": '{"mean": [0.5], "std": [0.0]}'},
        {"classes": '"cat"'},
        {"source": "3"},
    ],
    ids=str,
)
def test_damaged_metadata_is_told(tmp_path: Path, metadata: dict[str, str]) -> None:
    onnx.save(foreign(**metadata), tmp_path / "model.onnx")
    with pytest.raises(ModelFileError, match="is damaged"):
        read_artifact(tmp_path / "model.onnx")


def test_a_file_that_the_runtime_cannot_load_is_told(tmp_path: Path) -> None:
    model = foreign()
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ModelFileError, match=r"ONNX Runtime cannot load model\.onnx"):
        predictor_of(tmp_path / "model.onnx")


METADATA: dict[str, Any] = {
    "spec": spec_of("wrn-10-1", num_classes=2, input_shape=(3, 8, 8)).to_dict(),
    "normalization": Normalization((0.5,), (0.25,)).to_dict(),
    "classes": ["cat", "dog"],
    "source": {"run": "here"},
    "toolchain": {"torch": "2"},
    "conversion": {"method": "rounding"},
    "fidelity": Fidelity(100, 0.98, 0.5, 0.01, score=0.97, float_score=0.98).to_dict(),
}


@pytest.mark.parametrize("key", METADATA)
def test_whatever_the_metadata_hold_is_read_or_told_by_its_name(tmp_path: Path, key: str) -> None:
    path = tmp_path / "model.onnx"

    def read(text: str) -> None:
        onnx.save(foreign(**{key: text}), path)
        read_artifact(path)

    counts = answers(broken_json(METADATA[key]), read, ModelFileError)
    assert counts["refused"] > 10


def test_a_precision_that_there_is_not_is_told(tmp_path: Path) -> None:
    onnx.save(foreign(precision="x" * 100_000), tmp_path / "model.onnx")
    with pytest.raises(ModelFileError, match=r"'compress.precision' of .* is damaged: it is 'xx"):
        read_artifact(tmp_path / "model.onnx")
