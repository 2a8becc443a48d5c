from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_static

from compress.errors import ModelFileError, UsageError
from compress.exporting import read_artifact
from compress.exporting.conversion import float_model
from compress.onnx_file import external_files, input_of, is_onnx, precision_of_file, read_model
from compress.profiling.registry import runtime_named
from compress.profiling.runtime import Subject
from tests.profiling import tiny

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


def nested(depth: int) -> onnx.ModelProto:
    """An If in a branch of an If, and so on."""

    def branch(level: int) -> onnx.GraphProto:
        output = helper.make_tensor_value_info(f"y{level}", TensorProto.FLOAT, None)
        if level == depth:
            node = helper.make_node("Identity", ["images"], [f"y{level}"])
        else:
            inner = branch(level + 1)
            node = helper.make_node(
                "If", ["yes"], [f"y{level}"], then_branch=inner, else_branch=branch(depth)
            )
        return helper.make_graph([node], f"level {level}", [], [output])

    graph = branch(0)
    graph.input.append(helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 4]))
    graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def doubling(levels: int) -> onnx.ModelProto:
    """Functions of which each calls the next one twice."""
    functions = [
        helper.make_function(
            "ours",
            f"f{level}",
            ["x"],
            ["y"],
            [
                helper.make_node(
                    *((f"f{level + 1}",) if level < levels else ("Neg",)),
                    [source],
                    [result],
                    domain="ours" if level < levels else "",
                )
                for source, result in (("x", "m"), ("m", "y"))
            ],
            [helper.make_opsetid("", 20), helper.make_opsetid("ours", 1)],
        )
        for level in range(1, levels + 1)
    ]
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 4]) for n in ("x", "y")]
    node = helper.make_node("f1", ["x"], ["y"], domain="ours")
    return helper.make_model(
        helper.make_graph([node], "g", value[:1], value[1:]),
        functions=functions,
        opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("ours", 1)],
    )


def test_the_reader_and_the_metadata_agree_on_a_quantised_file(tmp_path: Path) -> None:
    constants: dict[str, np.ndarray] = {
        "matrix": np.ones((4, 2), dtype=np.float32),
        "scale": np.array(0.1, dtype=np.float32),
        "zero": np.array(0, dtype=np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["x"], "d"),
        helper.make_node("MatMul", ["x", "matrix"], ["logits"], "m"),
    ]
    path = tiny.save(tmp_path / "q.onnx", nodes, constants, [("images", ("n", 4))])
    assert precisions(path) == {"int8"}


def precisions(path: Path) -> set[str]:
    """What each part of the package takes a file's precision to be."""
    subject = Subject(path.name, path=path)
    found = {runtime_named(name).precision(subject) for name in ("onnxruntime", "openvino")}
    try:
        float_model(path, "fp16")
        found.add("fp32")
    except UsageError as error:
        said = re.search(r"is already (\w+)", str(error))
        found.add(said[1] if said else str(error))
    return found | {precision_of_file(path), read_artifact(path).precision}


@pytest.mark.parametrize("stated", [None, "fp32", "fp16", "int8"])
def test_a_file_has_one_precision_whatever_its_metadata_state(
    stated: str | None, tmp_path: Path
) -> None:
    floats = onnx.load(tiny.convolution(tmp_path / "floats.onnx"))
    quantised = quantise(tmp_path / "floats.onnx", tmp_path / "int8.onnx")
    for model, precision in ((floats, "fp32"), (quantised, "int8")):
        del model.metadata_props[:]
        if stated is not None:
            helper.set_model_props(model, {"compress.precision": stated})
        onnx.save(model, tmp_path / "m.onnx")
        assert precisions(tmp_path / "m.onnx") == {precision}


def test_a_file_that_quantises_in_a_branch_or_a_function_is_int8(tmp_path: Path) -> None:
    branched = nested(3)
    inner = branched.graph.node[0].attribute[1].g.node
    quantise_node = helper.make_node("QuantizeLinear", ["images", "yes"], ["q"])
    inner.append(quantise_node)
    called = doubling(2)
    called.functions[1].node.append(helper.make_node("QuantizeLinear", ["x", "y"], ["q"]))
    for model in (branched, called):
        onnx.save(model, tmp_path / "m.onnx")
        assert precision_of_file(tmp_path / "m.onnx") == "int8"


def quantise(source: Path, path: Path) -> onnx.ModelProto:
    """A file as onnxruntime's quantiser writes it, without this package."""
    batches = iter([{"images": np.zeros((1, 3, 8, 8), np.float32)}])
    quantize_static(source, path, SimpleNamespace(get_next=lambda: next(batches, None)))
    return onnx.load(path)


def test_a_file_without_weights_has_the_precision_of_its_images(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["images"], ["logits"])
    path = tiny.save(tmp_path / "m.onnx", [node], {}, [("images", ("n", 4))])
    assert precision_of_file(path) == read_artifact(path).precision == "fp32"


def test_initializers_that_are_inputs_too_are_no_inputs(tmp_path: Path) -> None:
    path = tiny.convolution(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.ir_version = 3
    images = model.graph.input.pop()
    for tensor in model.graph.initializer:
        value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(value)
    model.graph.input.append(images)
    onnx.save(model, path)
    assert input_of(path).name == "images"
    assert [each.name for each in read_model(path).graph.input] == ["images"]
    assert read_model(path).ir_version == 4


def test_files_beside_a_model_are_named(tmp_path: Path) -> None:
    model = onnx.load(tiny.convolution(tmp_path / "whole.onnx"))
    path = tmp_path / "split.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    assert external_files(read_model(path)) == ("w.bin",)


@pytest.mark.parametrize("name", ["m.onnx", "M.ONNX", "m.onnx.pb", "m.pb", "model"])
def test_bytes_decide_what_is_an_onnx_file(name: str, tmp_path: Path) -> None:
    path = tiny.convolution(tmp_path / name)
    assert is_onnx(path)
    assert input_of(path).name == "images"


@pytest.mark.parametrize(
    ("name", "content", "is_one"),
    [
        ("zip.onnx", b"PK\x03\x04" + bytes(60), False),
        ("pickle.onnx", b"\x80\x02}q\x00.", False),
        ("weights.onnx", (0x1208).to_bytes(8, "little") + b'{"a":{}}', False),
        ("w.safetensors", (0x0A3A).to_bytes(8, "little") + b'{"a":{}}', False),
        ("text.pt", b"nothing of the kind", False),
        ("empty.onnx", b"", True),
        ("pointer.onnx", LFS.encode(), True),
        ("pointer.pt", LFS.encode(), False),
    ],
)
def test_a_name_decides_only_where_bytes_do_not(
    name: str, content: bytes, is_one: bool, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    assert is_onnx(tmp_path / name) is is_one
    assert is_onnx(tmp_path / "absent.ONNX")
    assert not is_onnx(tmp_path / "absent.pt")


def huge_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 10**12


def huge_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 10**12


def negative_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = -3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (huge_input, "none can exceed"),
        (huge_weight, "the file holds"),
        (negative_weight, "negative"),
    ],
)
def test_dimensions_that_cannot_be_are_refused(
    change: Callable[[onnx.ModelProto], None], said: str, tmp_path: Path
) -> None:
    path = tiny.convolution(tmp_path / "m.onnx")
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match=said):
        read_model(path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("offset", "abc", "offset .* is 'abc'"),
        ("offset", "-4", "offset .* is '-4'"),
        ("offset", "1e3", "offset .* is '1e3'"),
        ("length", "9" * 30, "length .* is '999"),
        ("length", str(10**15), "missing or too short"),
        ("length", "1", "has the dimensions"),
        ("location", "../w.bin", "only files beside it"),
        ("location", "/dev/zero", "only files beside it"),
        ("location", "", "only files beside it"),
        ("location", "pipe", "missing or too short"),
        ("location", "pointer.bin", "git lfs pull"),
    ],
)
def test_external_data_is_within_a_file_beside_the_model(
    key: str, value: str, said: str, tmp_path: Path
) -> None:
    model = onnx.load(tiny.convolution(tmp_path / "whole.onnx"))
    path = tmp_path / "split.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "pointer.bin").write_text(LFS)
    changed = onnx.load(path, load_external_data=False)
    tensor = changed.graph.initializer[0]
    entries = {entry.key: entry.value for entry in tensor.external_data} | {key: value}
    del tensor.external_data[:]
    for name, text in entries.items():
        tensor.external_data.add(key=name, value=text)
    path.write_bytes(changed.SerializeToString())
    with pytest.raises(ModelFileError, match=said):
        read_model(path)


def test_graphs_too_deep_in_each_other_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(nested(3), path)
    assert read_model(path).graph.node[0].op_type == "If"
    onnx.save(nested(20), path)
    with pytest.raises(ModelFileError, match="more than 8 deep"):
        read_model(path)


def test_functions_are_counted_at_each_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(doubling(7), path)
    read_model(path)
    monkeypatch.setattr("compress.onnx_claims.MAX_NODES", 200)
    with pytest.raises(ModelFileError, match="has 255 nodes"):
        read_model(path)
    looped = doubling(1)
    looped.functions[0].node[0].op_type, looped.functions[0].node[0].domain = "f1", "ours"
    onnx.save(looped, path)
    with pytest.raises(ModelFileError, match="calls itself"):
        read_model(path)


@pytest.mark.timeout(20)
def test_pipes_devices_and_folders_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "zero.onnx").symlink_to("/dev/zero")
    for name in ("pipe.onnx", "zero.onnx"):
        assert is_onnx(tmp_path / name)
        with pytest.raises(ModelFileError, match=r"is a (named pipe|character device)"):
            read_model(tmp_path / name)
    with pytest.raises(ModelFileError, match="is a folder"):
        read_model(tmp_path)


def test_a_git_lfs_pointer_is_told_as_one(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text(LFS)
    with pytest.raises(ModelFileError, match="git lfs pull"):
        read_model(tmp_path / "m.onnx")


def test_files_above_what_one_message_holds_are_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "m.onnx").open("wb") as file:
        file.truncate(2**31 + 5)
    with pytest.raises(ModelFileError, match="at most 2 GB"):
        read_model(tmp_path / "m.onnx")
