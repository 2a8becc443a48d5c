"""compress export --precision auto."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from compress.cli import main
from compress.errors import (
    CheckpointError,
    CompressError,
    DataError,
    ExportError,
    ParityError,
    PrecisionLost,
    UsageError,
)
from compress.exporting import read_artifact
from compress.results import Estimate
from tests.commands.test_export import on_data
from tests.exporting import graphs


def timed_as(monkeypatch: pytest.MonkeyPatch, **ratios: Estimate) -> None:
    """Lets every timing find these times by fp32's."""

    class Found:
        def ratio(self, name: str, other: str) -> Estimate:
            assert other == "fp32"
            return ratios[name]

    def time(paths: dict[str, Path], **_: object) -> Found:
        assert list(paths) == ["fp32", *ratios]
        assert all(read_artifact(path).precision == name for name, path in paths.items())
        return Found()

    monkeypatch.setattr("compress.tradeoff.precisions.time_models", time)


def auto(bright: Path, output: Path, *more: str) -> list[str]:
    asked = ["--precision", "auto", "--max-precision-loss", "2", *on_data(bright), *more]
    return ["export", str(bright / "t.safetensors"), "-o", str(output), *asked]


def test_auto_takes_the_fastest_that_loses_little(
    bright: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "f.onnx"
    slow, fast = Estimate(1.01, 0.98, 1.05), Estimate(0.5, 0.48, 0.53)
    timed_as(monkeypatch, fp16=slow, int8=fast)
    assert main(auto(bright, output, "--normalize", "half-gray", "--json")) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result["precision"] == read_artifact(output).precision == "int8"
    assert result["fidelity"]["images"] == 500
    found = {each["precision"]: each for each in result["precisions"]}
    assert [name for name, each in found.items() if each["eligible"]] == ["int8"]
    assert found["int8"]["why"].startswith(
        "it takes 0.50 times as long as fp32 here (0.48 to 0.53); "
    )
    assert "on 500 images, against " in found["int8"]["why"]
    assert found["fp16"]["why"].startswith("not shown to be faster: it takes 1.01 times")
    assert found["bf16"]["runs"] is False
    assert found["bf16"]["why"].startswith("onnxruntime does not run it: ")
    assert [each.name for each in tmp_path.iterdir()] == ["f.onnx"]


@pytest.mark.parametrize(
    "error", [ExportError, PrecisionLost, UsageError, DataError, CheckpointError, ParityError]
)
def test_auto_leaves_out_what_cannot_be_converted(
    error: type[CompressError],
    bright: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error("It cannot be had.")

    monkeypatch.setattr("compress.pipelines.convert.run.reduced_from_onnx", refuse)
    output = tmp_path / "f.onnx"
    assert main(auto(bright, output, "--normalize", "half-gray", "--json")) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["precision"] == read_artifact(output).precision == "fp32"
    found = {each["precision"]: each for each in result["precisions"]}
    assert [name for name, each in found.items() if each["eligible"]] == ["fp32"]
    assert {found[name]["why"] for name in ("fp16", "bf16", "int8")} == {"It cannot be had"}


def test_auto_of_a_file_that_tools_cannot_convert(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with an If whose branch has what has no 16-bit form; int8 leaves the branch alone."""
    timed_as(monkeypatch, int8=Estimate(0.5, 0.48, 0.53))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (400, 12, 12, 3), dtype=np.uint8)
    np.savez(
        tmp_path / "data.npz",
        x_train=images,
        y_train=np.arange(400) % 5,
        x_test=images[:20],
        y_test=np.arange(20) % 5,
    )
    onnx.save(graphs.branches_with_max(), tmp_path / "given.onnx")
    options = ["--data", str(tmp_path / "data.npz"), "--normalize", "half", "--validation", "300"]
    output = tmp_path / "f.onnx"
    arguments = ["export", str(tmp_path / "given.onnx"), "-o", str(output), *options]
    more = ["--precision", "auto", "--max-precision-loss", "30", "--json"]
    assert main([*arguments, *more]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    found = {each["precision"]: each for each in result["precisions"]}
    assert result["precision"] == "int8"
    for precision in ("fp16", "bf16"):
        assert found[precision]["why"].startswith(f"given.onnx cannot be converted to {precision}")
        assert "It has If 'choice', which tools support poorly" in found[precision]["why"]
    assert "The quantiser does not reach these, so they are not in int8: Conv '" in captured.err


def test_auto_compares_with_what_would_ship_in_fp32(
    bright: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ONNX Runtime is slower where weights are among the inputs, which no file is that ships."""
    seen: list[str] = []
    same = Estimate(0.99, 0.97, 1.01)

    class Found:
        def ratio(self, name: str, other: str) -> Estimate:
            return same

    def time(paths: dict[str, Path], **_: object) -> Found:
        seen.extend(entry.name for entry in onnx.load(paths["fp32"]).graph.input)
        return Found()

    monkeypatch.setattr("compress.tradeoff.precisions.time_models", time)
    given, output = tmp_path / "given.onnx", tmp_path / "f.onnx"
    onnx.save(graphs.weights_first((1, 16, 16), 2), given)
    arguments = ["export", str(given), "-o", str(output), "--precision", "auto", *on_data(bright)]
    assert main([*arguments, "--normalize", "half-gray", "--max-precision-loss", "30"]) == 0
    assert seen == ["images"]
    assert [entry.name for entry in onnx.load(output).graph.input] == ["images"]


def test_auto_stays_in_fp32_where_nothing_is_shown_to_be_faster(
    bright: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "f.onnx"
    same = Estimate(0.99, 0.97, 1.01)
    timed_as(monkeypatch, fp16=same, int8=same)
    assert main(auto(bright, output, "--normalize", "half-gray")) == 0
    told = capsys.readouterr().out
    assert "f.onnx: wrn-10-1, " in told
    assert "In int8: not shown to be faster: it takes 0.99 times" in told
    assert read_artifact(output).precision == "fp32"


def test_auto_really_times_and_refuses_what_loses_too_much(
    bright: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "f.onnx"
    arguments = ["export", str(bright / "t.onnx"), "-o", str(output), "--precision", "auto"]
    assert main([*arguments, *on_data(bright), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    # Half a point cannot be known from 500 images, so nothing but float32 is left to take.
    assert result["precision"] == "fp32"
    found = {each["precision"]: each for each in result["precisions"]}
    assert "loses too much in int8 is not decided" in found["int8"]["why"]
    assert main([*arguments, *on_data(bright), "--max-precision-loss", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    found = {each["precision"]: each for each in result["precisions"]}
    assert found["int8"]["time_by_fp32"]["low"] > 0
    chosen = result["precision"]
    assert found[chosen]["eligible"] is True
    assert chosen == "fp32" or found[chosen]["time_by_fp32"]["high"] < 1


def test_what_auto_needs_is_told_at_once(
    bright: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "f.onnx"
    arguments = ["export", str(bright / "t.onnx"), "-o", str(output)]
    assert main([*arguments, "--precision", "auto", "--to", "tensorrt-rtx", "--batch", "1,8"]) == 2
    told = capsys.readouterr().err
    assert "auto compares accuracies: give --data" in told
    assert "auto makes only ONNX files: give the precision of a tensorrt-rtx" in told
    assert "auto takes only one --batch" in told
    assert main([*arguments, "--precision", "int8", "--runtime", "openvino"]) == 2
    assert "--runtime is what --precision auto times files in" in capsys.readouterr().err
