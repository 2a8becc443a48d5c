from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from compress.errors import ModelFileError, UnknownName, UsageError
from compress.profiling import machine, runtimes
from compress.profiling.onnxruntime_cpu import OnnxSession, spins
from compress.profiling.runtimes import InputSpec, Subject, make_input, resolve_shape, runtime_named
from compress.profiling.torch_eager import TorchSession
from tests.profiling import tiny


def test_onnxruntime_computes_what_the_file_says(tmp_path: Path) -> None:
    path = tiny.products(tmp_path / "m.onnx", layers=2, size=8)
    runtime = runtime_named("onnxruntime")
    images = make_input(runtime, Subject("m", path=path), batch=3)
    assert images.shape == (3, 8)
    session = runtime.load(Subject("m", path=path), threads=2)
    found = session.infer(images)
    session.synchronize()
    weights = {
        each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer
    }
    np.testing.assert_allclose(found, images @ weights["w0"] @ weights["w1"], rtol=1e-4, atol=1e-5)
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.infer(images)


def test_equal_seeds_give_equal_inputs(tmp_path: Path) -> None:
    subject = Subject("m", path=tiny.convolution(tmp_path / "m.onnx"))
    runtime = runtime_named("onnxruntime")
    first, again, other = (make_input(runtime, subject, batch=2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.dtype == np.float32


def load(path: Path) -> OnnxSession:
    return OnnxSession(path, threads=1)


def test_files_that_are_no_models_say_so(tmp_path: Path) -> None:
    good = tiny.convolution(tmp_path / "good.onnx").read_bytes()
    contents = {
        "empty.onnx": b"",
        "text.onnx": b"this is a text and no model\n",
        "half.onnx": good[: len(good) // 2],
        "cut.onnx": good[:-7],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelFileError, match=r"is not an ONNX file"):
            load(tmp_path / name)
    with pytest.raises(ModelFileError, match="There is no file"):
        load(tmp_path / "absent.onnx")


def test_missing_external_data_is_named(tmp_path: Path) -> None:
    model = onnx.load(tiny.products(tmp_path / "whole.onnx", layers=1))
    path = tmp_path / "split.onnx"
    onnx.save(model, path, save_as_external_data=True, location="split.data", size_threshold=0)
    load(path).close()
    (tmp_path / "split.data").write_bytes(b"short")
    with pytest.raises(ModelFileError, match=r"split\.data"):
        load(path)
    (tmp_path / "split.data").unlink()
    with pytest.raises(ModelFileError, match=r"split\.data, which is not there"):
        load(path)


def test_a_graph_that_the_runtime_refuses_is_told_with_its_reason(tmp_path: Path) -> None:
    node = helper.make_node("NoSuchOperator", ["images"], ["logits"])
    path = tiny.save(tmp_path / "odd.onnx", [node], {}, [("images", (1, 2))])
    with pytest.raises(ModelFileError, match="NoSuchOperator"):
        load(path)


def test_a_model_has_one_input(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["left", "right"], ["logits"])
    inputs = [("left", ("batch", 3)), ("right", ("batch", 3))]
    with pytest.raises(ModelFileError, match=r"2 inputs \('left', 'right'\)"):
        load(tiny.save(tmp_path / "two.onnx", [node], {}, inputs))


def test_an_input_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    session = load(tiny.convolution(tmp_path / "m.onnx"))
    with pytest.raises(ModelFileError, match="1x1x8x8"):
        session.infer(np.zeros((1, 1, 8, 8), dtype=np.float32))


@pytest.mark.parametrize(
    ("shape", "batch", "given", "found"),
    [
        (("n", 3, 32, 32), 8, None, (8, 3, 32, 32)),
        (("n", 3, "height", "width"), 2, (3, 24, 16), (2, 3, 24, 16)),
        ((4, 3, 32, 32), 4, None, (4, 3, 32, 32)),
        (("n", 3, 32, 32), 1, (3, 32, 32), (1, 3, 32, 32)),
    ],
)
def test_open_dimensions_take_what_was_given(
    shape: tuple[int | str, ...],
    batch: int,
    given: tuple[int, ...] | None,
    found: tuple[int, ...],
) -> None:
    assert resolve_shape(InputSpec("x", shape), "m.onnx", batch=batch, shape=given) == found


@pytest.mark.parametrize(
    ("shape", "batch", "given", "message"),
    [
        (("n", 3, "height", 32), 1, None, r"dimension 'height' is open and has no value.*C,H,W"),
        ((4, 3, 32, 32), 8, None, r"fixed at 4x3x32x32; --batch 8 does not fit"),
        (("n", 3, 32, 32), 1, (1, 32, 32), r"--shape 1,32,32 does not fit its dimension 1"),
        (("n", 10), 1, (3, 32, 32), r"2 dimensions"),
    ],
)
def test_dimensions_that_do_not_fit_are_named(
    shape: tuple[int | str, ...], batch: int, given: tuple[int, ...] | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_shape(InputSpec("x", shape), "m.onnx", batch=batch, shape=given)


def test_an_input_that_is_no_image_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["tokens"], ["logits"])
    kinds = [onnx.TensorProto.INT64] * 2
    values = [
        helper.make_tensor_value_info(name, kind, ["batch", 4])
        for name, kind in zip(("tokens", "logits"), kinds, strict=True)
    ]
    graph = helper.make_graph([node], "tokens", values[:1], values[1:])
    path = tmp_path / "tokens.onnx"
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    with pytest.raises(ModelFileError, match="int64"):
        make_input(runtime_named("onnxruntime"), Subject("tokens", path=path), batch=1)


def test_torch_eager_computes_and_gives_the_threads_back() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Dropout(0.5))
    subject = Subject("m", module=lambda: network, input_shape=(3, 2, 2))
    runtime = runtime_named("torch")
    before = torch.get_num_threads()
    images = make_input(runtime, subject, batch=2)
    session = runtime.load(subject, threads=before + 1)
    assert torch.get_num_threads() == before + 1
    expected = network[1](torch.from_numpy(images).flatten(1)).detach().numpy()
    np.testing.assert_allclose(session.infer(images), expected, rtol=1e-5)
    session.close()
    assert torch.get_num_threads() == before


def test_torch_sessions_closed_in_reverse_order_give_the_threads_back() -> None:
    before = torch.get_num_threads()
    outer = TorchSession("a", nn.Linear(2, 2), threads=before + 1)
    inner = TorchSession("b", nn.Linear(2, 2), threads=before + 2)
    inner.close()
    outer.close()
    assert torch.get_num_threads() == before


def test_a_network_that_fails_or_answers_oddly_is_an_error() -> None:
    images = np.zeros((1, 3), dtype=np.float32)
    session = TorchSession("m", nn.Linear(2, 2), threads=1)
    with pytest.raises(ModelFileError, match="cannot be run on an input of 1x3"):
        session.infer(images)
    session.close()
    session = TorchSession("pair", nn.LSTM(3, 2), threads=1)
    with pytest.raises(ModelFileError, match="tuple"):
        session.infer(images)
    session.close()


def test_a_runtime_needs_the_model_in_its_form() -> None:
    with pytest.raises(UsageError, match="not an ONNX file"):
        runtime_named("onnxruntime").load(Subject("m"), threads=1)
    with pytest.raises(UsageError, match="needs a checkpoint"):
        runtime_named("torch").load(Subject("m"), threads=1)
    with pytest.raises(UsageError, match="--shape C,H,W"):
        runtime_named("torch").input_of(Subject("m"))


def test_unknown_and_absent_runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'onnxruntime'"):
        runtime_named("onnx-runtime")
    absent = {"fast": ("no_such_package", runtimes.RUNTIMES["torch"][1])}
    monkeypatch.setattr(runtimes, "RUNTIMES", absent)
    with pytest.raises(UsageError, match="pip install no_such_package"):
        runtime_named("fast")


def test_spinning_is_off_where_cores_are_shared() -> None:
    assert not spins(1)
    assert not spins(machine.fingerprint().cpus)
    options = runtime_named("onnxruntime").options(1)
    assert options["spinning"] == "off"
