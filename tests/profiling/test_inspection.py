from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from compress.cli import main
from compress.errors import ModelFileError
from compress.profiling import inspection as module
from compress.profiling.inspection import inspect_file
from compress.profiling.profile_model import Settings, profile
from compress.profiling.runtime import Subject
from tests import foreign
from tests.profiling import tiny


@pytest.mark.parametrize(
    ("output", "shapes"),
    [
        ("label and probabilities", [(2,), (2, 4)]),
        ("1x1", [(2, 4, 1, 1)]),
        ("scalar", [()]),
        ("zipmap", [None]),
    ],
)
def test_outputs_are_told_with_their_shapes(
    output: str, shapes: list[tuple[int, ...] | None], tmp_path: Path
) -> None:
    path = foreign.save(tmp_path / "m.onnx", output)
    found = inspect_file(path)
    assert [each.shape for each in found.outputs] == shapes
    found.refuse_unrepeatable(path)


@pytest.mark.parametrize(("output", "node"), [("dropout", "Dropout"), ("noise", "RandomNormal")])
def test_answers_that_differ_are_told_with_their_cause(
    output: str, node: str, tmp_path: Path
) -> None:
    path = foreign.save(tmp_path / "m.onnx", output)
    with pytest.raises(ModelFileError, match=f"differently each time. It has {node}"):
        inspect_file(path).refuse_unrepeatable(path)


def test_a_file_is_run_once_for_each_of_its_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = foreign.save(tmp_path / "m.onnx")
    first = inspect_file(path)

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("it ran again")

    monkeypatch.setattr(module, "ask", never)
    assert inspect_file(path) is first
    os.utime(path, ns=(1, 1))
    with pytest.raises(AssertionError, match="again"):
        inspect_file(path)


def test_a_loop_without_an_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT_S", 4.0)
    with pytest.raises(ModelFileError, match=r"within 4 s\. It has a Loop, which may"):
        inspect_file(foreign.save(tmp_path / "m.onnx", "loop"))


def test_memory_is_limited(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Expand", ["images", "sizes"], ["large"], "e"),
        helper.make_node("ReduceMean", ["large"], ["logits"], "m"),
    ]
    sizes = {"sizes": np.array([1_500_000_000, 1])}
    path = tiny.save(tmp_path / "m.onnx", nodes, sizes, [("images", (1, 1))])
    with pytest.raises(ModelFileError, match=r"m\.onnx"):
        inspect_file(path)


def test_a_crash_of_the_runtime_is_an_error_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crashing.py").write_text("import os\nos.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(module, "CHILD", "crashing")
    with pytest.raises(ModelFileError, match=r"m\.onnx crashes the process that"):
        inspect_file(foreign.save(tmp_path / "m.onnx"))


def test_open_sizes_are_those_that_are_given(tmp_path: Path) -> None:
    path = tiny.convolution(tmp_path / "m.onnx", input_shape=("n", 3, "height", "width"))
    assert inspect_file(path).rows is None  # it was not run
    assert inspect_file(path, (3, 8, 8)).outputs[0].shape == (2, 10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_a_command_and_the_call_that_does_not_return(
    number: signal.Signals, tmp_path: Path
) -> None:
    path = foreign.save(tmp_path / "m.onnx", "loop")
    command = subprocess.Popen(
        [sys.executable, "-m", "compress", "profile", str(path), "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with command:
        child = _child_of(command.pid)
        time.sleep(1.0)  # it has begun to run the file
        command.send_signal(number)
        _, err = command.communicate(timeout=20)
    expected = {signal.SIGTERM: 143, signal.SIGINT: 130}.get(number, -number)
    assert command.returncode in (expected, -number), err
    deadline = time.monotonic() + 10
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(child)


def _child_of(parent: int) -> int:
    """The measuring process, once it is there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if int(stat[1]) == parent and b"inspection_child" in line:
                return int(entry.name)
        time.sleep(0.05)
    raise AssertionError("no process was started")


def _alive(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return stat[0] != "Z"


@pytest.mark.parametrize("output", ["label", "zipmap", "string", "bool", "scalar", "dropout"])
def test_profiles_are_of_files_with_any_output(
    output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = foreign.save(tmp_path / "m.onnx", output)
    assert main(["profile", str(path), "--batch", "1", "--threads", "1", "--json"]) == 0
    assert ("differently each time" in capsys.readouterr().err) is (output == "dropout")


def test_profiles_are_of_files_whose_shapes_are_not_inferred(tmp_path: Path) -> None:
    """A squeeze() that takes the batch away where it is 1, as MACs are counted, and not at 8."""
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=1),
        helper.make_node("Squeeze", ["mean"], ["squeezed"], "squeeze"),
        helper.make_node("Gemm", ["squeezed", "w"], ["logits"], "product"),
    ]
    constants = {"axes": np.array([2, 3]), "w": foreign.weights()}
    path = tiny.save(tmp_path / "m.onnx", nodes, constants, [("images", ("n", 3, 8, 8))])
    settings = Settings(("onnxruntime",), batches=(8,))
    report = profile(Subject("m", path=path), settings=settings)
    assert report.model.runs[0].latency.value > 0
    assert "ONNX cannot infer all shapes" in report.model.costs.warnings[0]
