from __future__ import annotations

import copy
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from compress.errors import ModelFileError, UnknownName, UsageError
from compress.exporting.fidelity import Proof
from compress.exporting.half import bf16_from_onnx, fp16_from_onnx
from compress.exporting.quantize import int8_from_onnx
from compress.profiling import machine, registry
from compress.profiling.inputs import make_input, resolve_shape
from compress.profiling.kernels import kernels_of
from compress.profiling.onnxruntime_cpu import OnnxRuntimeCpu, spins
from compress.profiling.onnxruntime_cuda import OnnxRuntimeCuda
from compress.profiling.openvino_cpu import OpenVino
from compress.profiling.registry import runtime_named
from compress.profiling.runtime import InputSpec, Runtime, Session, Subject
from compress.profiling.tensorrt_gpu import TensorRt
from compress.profiling.torch_compiled import TorchCompile
from compress.profiling.torch_cuda import TorchCuda
from compress.profiling.torch_eager import TorchEager, TorchSession
from tests.profiling import tiny

FILE_RUNTIMES = ("onnxruntime", "openvino")


def load(path: Path, runtime: str = "onnxruntime") -> Session:
    return runtime_named(runtime).load(Subject(path.name, path=path), threads=1)


@pytest.mark.parametrize("name", FILE_RUNTIMES)
@pytest.mark.parametrize("fixed", [False, True])
def test_it_computes_what_the_file_says(name: str, fixed: bool, tmp_path: Path) -> None:
    path = tiny.products(tmp_path / "m.onnx", layers=2, size=8)
    runtime = runtime_named(name)
    images = make_input(runtime, Subject("m", path=path), batch=3)
    assert images.shape == (3, 8)
    session = runtime.load(Subject("m", path=path), threads=2, images=images if fixed else None)
    found = tiny.answer(session, images)
    weights = {
        each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer
    }
    np.testing.assert_allclose(found, images @ weights["w0"] @ weights["w1"], rtol=1e-4, atol=1e-5)
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.infer(images)


@pytest.mark.parametrize("name", FILE_RUNTIMES)
def test_an_output_is_not_overwritten_by_the_next_call(name: str, tmp_path: Path) -> None:
    session = load(tiny.products(tmp_path / "m.onnx", layers=1, size=8), name)
    first = tiny.answer(session, np.ones((1, 8), dtype=np.float32))
    kept = first.copy()
    session.infer(np.zeros((1, 8), dtype=np.float32))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("name", FILE_RUNTIMES)
def test_several_outputs_come_by_their_names(name: str, tmp_path: Path) -> None:
    model = onnx.load(tiny.convolution(tmp_path / "m.onnx"))
    model.graph.output.insert(
        0, helper.make_tensor_value_info("pooled", onnx.TensorProto.FLOAT, ["batch", 4])
    )
    onnx.save(model, tmp_path / "two.onnx")
    session = load(tmp_path / "two.onnx", name)
    session.infer(np.ones((3, 3, 8, 8), np.float32))
    session.synchronize()
    found = session.outputs()
    assert {key: value.shape for key, value in found.items()} == {
        "pooled": (3, 4),
        "logits": (3, 10),
    }
    matrix = next(t for t in model.graph.initializer if t.name == "matrix")
    expected = found["pooled"] @ onnx.numpy_helper.to_array(matrix).T
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-5)


class TwoOutputs(nn.Module):
    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": images.sum(dim=(1, 2, 3)), "twice": 2 * images}


@pytest.mark.parametrize("name", ["torch", "torch-compile"])
def test_a_network_s_outputs_come_by_their_names(name: str) -> None:
    subject = Subject("two", module=TwoOutputs, input_shape=(1, 2, 2))
    session = runtime_named(name).load(subject, threads=1)
    session.infer(np.ones((3, 1, 2, 2), np.float32))
    found = session.outputs()
    session.close()
    np.testing.assert_array_equal(found["sum"], [4, 4, 4])
    assert found["twice"].shape == (3, 1, 2, 2)


class Nothing(nn.Module):
    def forward(self, images: torch.Tensor) -> None:
        return None


def test_a_network_that_gives_no_tensors_is_told() -> None:
    session = runtime_named("torch").load(
        Subject("m", module=Nothing, input_shape=(1, 2, 2)), threads=1
    )
    with pytest.raises(ModelFileError, match="m answers with NoneType, neither"):
        session.infer(np.ones((3, 1, 2, 2), np.float32))
    session.close()


def test_equal_seeds_give_equal_inputs(tmp_path: Path) -> None:
    subject = Subject("m", path=tiny.convolution(tmp_path / "m.onnx"))
    runtime = runtime_named("onnxruntime")
    first, again, other = (make_input(runtime, subject, batch=2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.dtype == np.float32


@pytest.mark.parametrize("runtime", FILE_RUNTIMES)
def test_files_that_are_no_models_say_so(runtime: str, tmp_path: Path) -> None:
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
            load(tmp_path / name, runtime)
    with pytest.raises(ModelFileError, match="There is no file"):
        load(tmp_path / "absent.onnx", runtime)


@pytest.mark.parametrize("runtime", FILE_RUNTIMES)
def test_missing_external_data_is_named(runtime: str, tmp_path: Path) -> None:
    model = onnx.load(tiny.products(tmp_path / "whole.onnx", layers=1))
    path = tmp_path / "split.onnx"
    onnx.save(model, path, save_as_external_data=True, location="split.data", size_threshold=0)
    load(path, runtime).close()
    (tmp_path / "split.data").write_bytes(b"short")
    with pytest.raises(ModelFileError, match=r"split\.data"):
        load(path, runtime)
    (tmp_path / "split.data").unlink()
    with pytest.raises(ModelFileError, match=r"split\.data, which is missing"):
        load(path, runtime)


@pytest.mark.parametrize("runtime", FILE_RUNTIMES)
def test_a_graph_that_the_runtime_refuses_is_told_with_its_reason(
    runtime: str, tmp_path: Path
) -> None:
    node = helper.make_node("NoSuchOperator", ["images"], ["logits"])
    path = tiny.save(tmp_path / "odd.onnx", [node], {}, [("images", (1, 2))])
    with pytest.raises(ModelFileError, match="NoSuchOperator"):
        load(path, runtime)


@pytest.mark.parametrize("runtime", FILE_RUNTIMES)
def test_a_model_has_one_input(runtime: str, tmp_path: Path) -> None:
    node = helper.make_node("Add", ["left", "right"], ["logits"])
    inputs = [("left", ("batch", 3)), ("right", ("batch", 3))]
    with pytest.raises(ModelFileError, match=r"2 inputs \('left', 'right'\)"):
        load(tiny.save(tmp_path / "two.onnx", [node], {}, inputs), runtime)


@pytest.mark.parametrize("runtime", FILE_RUNTIMES)
def test_an_input_that_does_not_fit_is_an_error(runtime: str, tmp_path: Path) -> None:
    session = load(tiny.convolution(tmp_path / "m.onnx"), runtime)
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
    np.testing.assert_allclose(tiny.answer(session, images), expected, rtol=1e-5)
    session.close()
    assert torch.get_num_threads() == before


def test_torch_sessions_closed_in_reverse_order_give_the_threads_back() -> None:
    before = torch.get_num_threads()
    outer = TorchSession("a", lambda _: nn.Linear(2, 2), threads=before + 1)
    inner = TorchSession("b", lambda _: nn.Linear(2, 2), threads=before + 2)
    inner.close()
    outer.close()
    assert torch.get_num_threads() == before


def test_a_network_that_fails_or_answers_oddly_is_an_error() -> None:
    images = np.zeros((1, 3), dtype=np.float32)
    session = TorchSession("m", lambda _: nn.Linear(2, 2), threads=1)
    with pytest.raises(ModelFileError, match="cannot be run on an input of 1x3"):
        session.infer(images)
    session.close()
    session = TorchSession("pair", lambda _: nn.LSTM(3, 2), threads=1)
    with pytest.raises(ModelFileError, match="tuple"):
        session.infer(images)
    session.close()


def test_a_runtime_needs_the_model_in_its_form() -> None:
    with pytest.raises(UsageError, match="not an ONNX file"):
        runtime_named("onnxruntime").load(Subject("m"), threads=1)
    with pytest.raises(UsageError, match="Give its checkpoint"):
        runtime_named("torch").load(Subject("m"), threads=1)
    with pytest.raises(UsageError, match="--shape C,H,W"):
        runtime_named("torch").input_of(Subject("m"))


def test_every_entry_names_a_class_that_can_be_made() -> None:
    for name, entry in registry.RUNTIMES.items():
        if registry.available(name):
            assert entry.make().name == name
    made = {entry.made_by.rpartition(":")[2] for entry in registry.RUNTIMES.values()}
    # mypy compares the classes with the protocol; the registry names them by their texts.
    kinds: list[type[Runtime]] = [
        OnnxRuntimeCpu,
        OnnxRuntimeCuda,
        OpenVino,
        TensorRt,
        TorchEager,
        TorchCompile,
        TorchCuda,
    ]
    assert made == {kind.__name__ for kind in kinds}


def test_unknown_and_absent_runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'onnxruntime'"):
        runtime_named("onnx-runtime")
    torch_eager = registry.RUNTIMES["torch"]
    absent = replace(torch_eager, module="no_such", install="python -m pip install no-such")
    monkeypatch.setattr(registry, "RUNTIMES", {"fast": absent, "torch": torch_eager})
    with pytest.raises(UsageError, match=r"not installed.*python -m pip install no-such"):
        runtime_named("fast")
    assert not registry.available("fast")
    assert registry.available("torch")


def test_torch_compile_asks_for_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "C++ compiler" in registry.why_not("torch-compile")


def test_spinning_is_off_where_cores_are_shared() -> None:
    assert not spins(1)
    assert not spins(machine.fingerprint().cpus)
    options = runtime_named("onnxruntime").options(1)
    assert options["spinning"] == "off"


def test_openvino_computes_in_float32_on_the_threads_that_it_is_given() -> None:
    options = runtime_named("openvino").options(3)
    assert options["inference_precision_hint"] == "f32"
    assert options["inference_num_threads"] == "3"
    assert options["num_streams"] == "1"


def test_openvino_really_has_what_its_options_say(tmp_path: Path) -> None:
    from compress.profiling.openvino_cpu import ov, settings

    model = ov.Core().read_model(tiny.convolution(tmp_path / "m.onnx"))
    compiled = ov.Core().compile_model(model, "CPU", settings(1))
    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert compiled.get_property("NUM_STREAMS") == 1
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


# Frees two sessions in the order in which they were made; then a signal comes.
SIGNALLED = """
import signal, sys
from pathlib import Path
import numpy as np
from compress.profiling.registry import runtime_named
from compress.profiling.runtime import Subject
subject = Subject("m", path=Path(sys.argv[1]))
openvino = runtime_named("openvino")
first, second = (openvino.load(subject, threads=1) for _ in range(2))
for session in (first, second):
    session.infer(np.zeros((1, 3, 8, 8), np.float32))
del session
first.close()
del first
second.close()
del second
signal.signal(signal.SIGTERM, lambda number, frame: print("handled"))
signal.raise_signal(signal.SIGTERM)
"""


def test_a_signal_after_two_openvino_sessions_reaches_its_handler(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(tiny.convolution(tmp_path / "m.onnx"))],
        cwd=Path(registry.__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


# Prints what sends OpenVINO's telemetry and is there after importing it, and the files in a home.
TELLTALE = """
import sys
from pathlib import Path
from compress.profiling.openvino_cpu import ov
sending = [name for name in sys.modules if name.startswith("openvino_telemetry")]
print(sending, type(ov.tools.ovc.telemetry).__module__, [p.name for p in Path.home().iterdir()])
"""


def test_importing_openvino_tells_nobody(tmp_path: Path) -> None:
    root = Path(registry.__file__).parents[2]
    environment = {
        name: value
        for name, value in os.environ.items()
        # These keep the telemetry of OpenVINO quiet as well.
        if name not in ("CI", "TF_BUILD", "JENKINS_URL")
    }
    done = subprocess.run(
        [sys.executable, "-c", TELLTALE],
        env=environment | {"HOME": str(tmp_path), "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[] openvino.tools.ovc.telemetry_stub []\n"


@pytest.mark.slow
def test_torch_compile_computes_and_compiles_a_shape_once() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)).eval()
    made: list[int] = []

    def module() -> nn.Module:
        made.append(1)
        return copy.deepcopy(network)

    subject = Subject("m", module=module, input_shape=(3, 6, 6))
    runtime = runtime_named("torch-compile")
    images = make_input(runtime, subject, batch=2)
    before = torch.get_num_threads()
    for _ in range(2):
        session = runtime.load(subject, threads=1, images=images)
        found = tiny.answer(session, images)
        session.close()
    assert len(made) == 1
    assert torch.get_num_threads() == before
    expected = network(torch.from_numpy(images)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FILE_RUNTIMES)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_a_runtime_says_what_it_computes_in(name: str, precision: str, tmp_path: Path) -> None:
    """As its kernels tell."""
    path = tiny.convolution(tmp_path / "fp32.onnx")
    if precision != "fp32":
        images = np.random.default_rng(0).standard_normal((4, 3, 8, 8), dtype=np.float32)
        source, path = path, tmp_path / f"{precision}.onnx"
        if precision == "int8":
            int8_from_onnx(source, path, calibration=images, proof=Proof(images))
        else:
            convert = fp16_from_onnx if precision == "fp16" else bf16_from_onnx
            convert(source, path, proof=Proof(images))
    if (name, precision) == ("onnxruntime", "bf16"):
        with pytest.raises(ModelFileError, match="implementation for Conv"):
            load(path, name)
        return
    said = runtime_named(name).precision(Subject("m", path=path))
    assert {kernel.precision for kernel in kernels_of(path, name)} == {said}
