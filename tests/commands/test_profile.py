from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
import torch

from benchmarks.fooling import slow_on_images
from compress.api.inputs import silent
from compress.api.profile import _runtimes
from compress.cli import main
from compress.commands.profile import command
from compress.models.checkpoint import save_checkpoint
from compress.models.registry import build, spec_of
from compress.profiling import registry
from compress.profiling.registry import RUNTIMES
from tests.gate.small import classifier, images
from tests.profiling import tiny


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    return tiny.convolution(tmp_path / "student.onnx")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "teacher.safetensors"
    torch.manual_seed(0)
    network = build(spec_of("resnet-8"))
    save_checkpoint(path, network, normalization=None)
    return path


def test_a_table_on_stdout_and_progress_on_stderr(
    onnx_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", str(onnx_file), "--threads", "1", "--batch", "1,2"]) == 0
    out, err = capsys.readouterr()
    for label in ("latency, median", "p99 (bound)", "images/s at 2", "memory", "MACs an image"):
        assert label in out
    assert "student.onnx" in out
    assert "spinning off" in out
    assert "fresh process" in err
    assert "Inputs: seeded noise; --data gives images." in err
    assert "fresh process" not in out


def test_a_model_is_timed_on_images_where_there_are_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = classifier(tmp_path / "model.onnx")
    data = images(tmp_path / "data.npz", model)
    fooling = slow_on_images(model, tmp_path / "fooling.onnx", above=-2.01)
    arguments = ["profile", str(fooling), "--against", str(model), "--threads", "1"]
    assert main([*arguments, "--batch", "1", "--json", "--data", str(data)]) == 0
    captured = capsys.readouterr()
    assert "Inputs: images of" in captured.err
    assert json.loads(captured.out)["speedup"]["high"] < 0.5
    hollow = tmp_path / "hollow.npz"
    x = np.zeros((40, 8, 8), np.uint8)
    np.savez(hollow, x_train=x, y_train=np.arange(40) % 4, x_test=x[:3], y_test=np.arange(3))
    other = tiny.convolution(tmp_path / "other.onnx", input_shape=("batch", 3, 8, 8))
    assert main(["profile", str(other), "--data", str(hollow)]) == 2
    assert "takes images of 3x8x8, but those of hollow are 1x8x8" in capsys.readouterr().err


def test_json_is_one_object_with_the_figures(
    onnx_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tiny.products(tmp_path / "other.onnx", layers=30, size=192)
    arguments = ["profile", str(onnx_file), "--against", str(other), "--threads", "1"]
    assert main([*arguments, "--batch", "1", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["schema_version"] == 1
    assert set(values["speedup"]) == {"value", "low", "high"}
    assert values["speedup"]["low"] <= values["speedup"]["value"] <= values["speedup"]["high"]
    assert {"median", "low", "high", "p90", "p99"} <= set(values["latency_ms"])
    assert values["throughput"][0]["batch"] == 1
    assert values["throughput"][0]["images_per_s"] > 0
    assert (values["runtime"], values["precision"]) == ("onnxruntime", "fp32")
    assert (values["threads"], values["batch"]) == (1, 1)
    assert values["macs"] == 4 * 64 * 27 + 40
    assert values["params"] == 4 * 27 + 4 + 40
    assert values["size_bytes"] == onnx_file.stat().st_size
    assert values["against"]["name"] == "other.onnx"
    assert values["machine"]["cpu"]


def test_a_checkpoint_is_exported_and_shown_in_torch_too(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["profile", str(checkpoint), "--threads", "1", "--batch", "1"]
    assert main([*arguments, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["params"] == 75_290
    assert values["macs"] == 12_239_488
    assert values["runtime"] == "onnxruntime"
    assert [each["runtime"] for each in values["also"]] == ["torch"]
    assert values["also"][0]["memory_bytes"] is None or values["also"][0]["memory_bytes"] > 0
    assert values["speedup"] is None


def test_torch_alone_measures_the_checkpoint_itself(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["profile", str(checkpoint), "--runtime", "torch", "--threads", "1"]
    assert main([*arguments, "--batch", "1"]) == 0
    out, _ = capsys.readouterr()
    assert "torch eager" in out
    assert "onnxruntime" not in out


def broken_files(folder: Path, good: Path) -> dict[str, Path]:
    contents = {
        "empty.onnx": b"",
        "text.onnx": b"no model\n",
        "cut.onnx": good.read_bytes()[:200],
        "empty.pt": b"",
        "text.pt": b"no weights\n",
        "cut.safetensors": b"\x40\x00\x00\x00\x00\x00\x00\x00{",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def test_files_that_cannot_be_used_end_with_2(
    onnx_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = broken_files(tmp_path, onnx_file)
    absent = {"absent.onnx": tmp_path / "absent.onnx", "absent.pt": tmp_path / "absent.pt"}
    for name, path in {**files, **absent}.items():
        assert main(["profile", str(path), "--threads", "1"]) == 2, name
        out, err = capsys.readouterr()
        assert out == ""
        assert "error:" in err
        assert "Traceback" not in err
        assert "bug" not in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "0"], "different positive whole numbers"),
        (["--batch", "1,1"], "different positive whole numbers"),
        (["--batch", "many"], "different positive whole numbers"),
        (["--batch", ""], "different positive whole numbers"),
        (["--shape", "3,8"], "channels, height and width"),
        (["--shape", "3,0,8"], "channels, height and width"),
        (["--shape", "1,8,8"], "does not fit"),
        (["--threads", "0"], "--threads"),
        (["--runtime", "onnx"], "Did you mean 'onnxruntime'"),
        (["--runtime", "torch"], "take only checkpoints"),
        (["--runtime", "onnxruntime,fast"], "There is no runtime 'fast'"),
        (["--json", "--markdown"], "give one of them"),
        (["--plot", "picture.pdf"], ".png or .svg"),
    ],
)
def test_options_that_cannot_be_used_end_with_2(
    options: list[str], message: str, onnx_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", str(onnx_file), *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "Traceback" not in err


def test_open_image_sizes_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny.convolution(tmp_path / "m.onnx", input_shape=("n", 3, "h", "w"))
    assert main(["profile", str(path), "--threads", "1"]) == 2
    assert "'h' is open" in capsys.readouterr().err
    arguments = ["profile", str(path), "--threads", "1", "--batch", "1", "--shape", "3,8,8"]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["macs"] == 4 * 64 * 27 + 40


def test_a_checkpoint_of_other_channels_than_the_shape_is_told(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", str(checkpoint), "--shape", "1,32,32"]) == 2
    assert "take images of 3,32,32" in capsys.readouterr().err


def test_every_option_is_explained() -> None:
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert getattr(parameter, "help", None), parameter.name


def test_the_help_names_every_runtime() -> None:
    (told,) = [
        str(p.help) for p in command.params if isinstance(p, click.Option) and p.name == "runtime"
    ]
    for name in RUNTIMES:
        assert re.search(rf"\b{name}\b", told), name


def test_all_is_what_is_here_for_the_model(
    onnx_file: Path,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    absent = replace(RUNTIMES["openvino"], module="no_such_module")
    kept = ("onnxruntime", "torch")
    monkeypatch.setattr(
        registry, "RUNTIMES", {"openvino": absent, **{name: RUNTIMES[name] for name in kept}}
    )
    said: list[str] = []
    assert _runtimes("all", [checkpoint], said.append) == kept
    assert "openvino is not installed. Install it: python -m pip install openvino" in (
        "".join(said)
    )
    assert _runtimes("all", [onnx_file], silent) == ("onnxruntime",)
    assert _runtimes(("torch", "onnxruntime", "torch"), [checkpoint], silent) == (
        "torch",
        "onnxruntime",
    )
    assert _runtimes(None, [checkpoint], silent) == kept


def test_two_runtimes_layers_a_trace_and_a_picture(
    onnx_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, plot = tmp_path / "trace.json", tmp_path / "picture.png"
    arguments = ["profile", str(onnx_file), "--runtime", "openvino,onnxruntime", "--threads", "1"]
    asked = ["--batch", "1", "--trace", str(trace), "--plot", str(plot), "--markdown"]
    assert main([*arguments, *asked]) == 0
    out = capsys.readouterr().out
    assert "|  | student.onnx | student.onnx |" in out
    assert "| runtime | openvino | onnxruntime |" in out
    assert re.search(
        r"^- \*\*(perhaps the )?fastest here: (openvino|onnxruntime)", out, re.MULTILINE
    )
    assert "## openvino by layer, batch 1, 1 thread" in out
    assert "Profiling slows the model" in out
    assert re.search(r"\d+ convolutions: \d+ in fp32 \(brgconv_\S+_f32.*100% of their MACs\)", out)
    assert {event["ph"] for event in json.loads(trace.read_text())["traceEvents"]} == {"M", "X"}
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_layers_of_torch_are_refused_before_anything_is_measured(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", str(checkpoint), "--runtime", "torch", "--layers"]) == 2
    assert "torch does not report the time of layers" in capsys.readouterr().err
