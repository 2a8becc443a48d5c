from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from compress.cli import main
from compress.errors import (
    ExportError,
)
from compress.exporting import predictor_of, read_artifact
from compress.models.checkpoint import read_tensors, save_checkpoint
from compress.models.hypothesis import in_order, instantiate
from compress.models.registry import build, spec_of
from compress.spec import Normalization
from compress.tasks.classification import LOGITS
from tests.exporting import graphs

SPEC = spec_of("wrn-10-1", num_classes=3, input_shape=(3, 32, 32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our own checkpoint, the same weights as a bare state dict, and a ResNet's."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    network = build(SPEC)
    save_checkpoint(
        folder / "own.safetensors",
        network,
        normalization=Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        classes=("a", "b", "c"),
    )
    torch.save(network.state_dict(), folder / "bare.pt")
    torch.save(build(spec_of("resnet-20")).state_dict(), folder / "resnet.pt")
    return folder


def test_our_own_checkpoint_says_everything(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "f.onnx"
    assert main(["export", str(folder / "own.safetensors"), "--output", str(output)]) == 0
    captured = capsys.readouterr()
    assert "wrn-10-1" in captured.out
    assert "It gives the class of the checkpoint on all 132 seeded inputs" in captured.out
    artifact = read_artifact(output)
    assert artifact.classes == ("a", "b", "c")
    assert artifact.normalization == Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert artifact.source["checkpoint"] == "own.safetensors"
    assert len(artifact.source["checkpoint_sha256"]) == 64


def test_a_bare_state_dict_has_no_normalisation_unless_it_is_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "f.onnx"
    arguments = ["export", str(folder / "bare.pt"), "-o", str(output), "--json"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result["normalization"] is None
    assert result["parity"]["top1_agreement"] == 1
    assert result["parity"]["max_abs_diff"] < 1e-4
    assert result["sha256"] == read_artifact(output).sha256
    assert "The normalisation is unknown" in captured.err
    assert read_artifact(output).normalization is None
    assert main([*arguments, "--normalize", "imagenet"]) == 0
    assert json.loads(capsys.readouterr().out)["normalization"]["mean"] == [0.485, 0.456, 0.406]


def test_what_weights_do_not_show_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(folder / "resnet.pt"), "-o", str(tmp_path / "f.onnx")]) == 0
    told = capsys.readouterr().err
    assert "The weights do not determine the structure: resnet-20 with shortcuts padded" in told
    assert "Give --data to find out, or state it with --teacher-arch (resnet-20,short" in told
    said = ["--teacher-arch", "resnet-20,shortcut=pad,stride_conv=2"]
    output = tmp_path / "said.onnx"
    assert main(["export", str(folder / "resnet.pt"), "-o", str(output), *said]) == 0
    assert "do not show" not in capsys.readouterr().err
    spec = read_artifact(output).spec
    assert spec is not None
    assert (spec.parameters["shortcut"], spec.parameters["stride_conv"]) == ("pad", 2)


def test_a_normalisation_of_bytes_is_written_for_unit_pixels(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "f.onnx"
    bytes_ = ["--normalize", "123.675,116.28,103.53/58.395,57.12,57.375"]
    assert main(["export", str(folder / "bare.pt"), "-o", str(output), *bytes_]) == 0
    assert "given for pixels in 0..255. Divided by 255 it is imagenet" in capsys.readouterr().err
    said = {entry.key: entry.value for entry in onnx.load(output).metadata_props}
    expected = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assert json.loads(said["compress.normalization"]) == expected
    mixed = ["--normalize", "123.675,116.28,103.53/0.229,0.224,0.225"]
    assert main(["export", str(folder / "bare.pt"), "-o", str(output), *mixed]) == 2
    assert "fit neither" in capsys.readouterr().err
    # A given file that says it for bytes says it for [0, 1] afterwards.
    model = onnx.load(output)
    stated = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
    onnx.helper.set_model_props(model, said | {"compress.normalization": json.dumps(stated)})
    onnx.save(model, output)
    half = tmp_path / "half.onnx"
    assert main(["export", str(output), "-o", str(half), "--precision", "fp16"]) == 0
    said = {entry.key: entry.value for entry in onnx.load(half).metadata_props}
    assert json.loads(said["compress.normalization"]) == expected


def test_averages_over_windows_need_data_to_be_sure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = build(spec_of("resnet-8-b", stem_channels=64, pool=4))
    torch.save(network.state_dict(), tmp_path / "windows.pt")
    output = tmp_path / "f.onnx"
    assert main(["export", str(tmp_path / "windows.pt"), "-o", str(output)]) == 0
    told = capsys.readouterr().err
    assert "reads 256 values: averages over 4x4 windows of the last map (assumed)" in told
    assert "Give --data to be sure." in told
    spec = read_artifact(output).spec
    assert spec is not None
    assert (spec.parameters["pool"], spec.parameters["stem_channels"]) == (4, 64)


def on_data(folder: Path) -> list[str]:
    return ["--data", str(folder / "data.npz"), "--validation", "500"]


def test_with_data_the_proof_is_on_its_images(
    bright: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "f.onnx"
    arguments = ["-o", str(output), *on_data(bright), "--normalize", "half-gray", "--images", "30"]
    assert main(["export", str(bright / "t.safetensors"), *arguments]) == 0
    captured = capsys.readouterr()
    assert "on all 30 validation images" in captured.out
    assert read_artifact(output).normalization == Normalization((0.5,), (0.5,))
    assert read_artifact(output).classes == ("0", "1")
    with np.load(bright / "data.npz") as data:
        pixels = (data["x_test"].transpose(0, 3, 1, 2) / 255 - 0.5) / 0.5
        logits = predictor_of(output)(pixels.astype(np.float32))[LOGITS]
        assert (logits.argmax(axis=1) == data["y_test"]).mean() > 0.9
    # One that always gives the same class is no teacher, and is exported all the same.
    assert main(["export", str(bright / "constant.safetensors"), *arguments]) == 0
    assert "50.00% on 500 validation images" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_fewer_bits_are_compared_with_float32(
    precision: str, bright: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "f.onnx"
    extra = ["--calibration-images", "40"] if precision == "int8" else []
    arguments = ["export", str(bright / "t.onnx"), "-o", str(output), *on_data(bright), *extra]
    assert main([*arguments, "--precision", precision, "--max-precision-loss", "2", "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result["precision"] == read_artifact(output).precision == precision
    assert result["parity"] is None
    assert result["fidelity"]["images"] == 500
    assert result["fidelity"]["float_score"] > 0.9
    assert result["fidelity"]["top1_agreement"] > 0.98
    assert result["normalization"] == {"mean": [0.5], "std": [0.5]}
    if precision == "int8":
        assert "Calibrated on 40 training images of data, by minmax." in captured.err
        assert result["conversion"]["calibration_images"] == "40"
        assert result["conversion"]["activations"] == "uint8"
    assert output.stat().st_size < 0.7 * (bright / "t.onnx").stat().st_size


def test_a_checkpoint_becomes_int8_in_one_step(
    bright: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own ranges come from --calibrate, which is the data where there is no other."""
    output = tmp_path / "f.onnx"
    arguments = ["export", str(bright / "t.safetensors"), "-o", str(output)]
    more = ["--calibrate", str(bright / "data.npz"), "--validation", "500"]
    float_layers = ["--float-layers", "first,last", "--max-precision-loss", "2"]
    assert main([*arguments, *more, *float_layers, "--precision", "int8"]) == 0
    out = capsys.readouterr().out
    assert "wrn-10-1 in int8" in out
    assert "It gives the class of the checkpoint on all 500 validation images" in out
    assert "of 500 validation images; accuracy " in out
    assert read_artifact(output).conversion["float_layers"] == "first last"
    assert [each.name for each in tmp_path.iterdir()] == ["f.onnx"]


def test_what_may_lose_too_much_is_not_decided(
    bright: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With 500 images nobody knows that less than a tenth of a point is lost."""
    arguments = ["export", str(bright / "t.onnx"), "-o", str(tmp_path / "f.onnx")]
    more = ["--precision", "int8", "--max-precision-loss", "0.1", *on_data(bright)]
    assert main([*arguments, *more]) == 3
    told = capsys.readouterr().err
    assert "Whether t.onnx loses too much in int8 is not decided: " in told
    assert "a drop of 0.1 is allowed; " in told
    assert "(--max-precision-loss)" in told
    # All that there are would not be enough.
    assert "about 3,900 images would decide (--max-precision-loss). data has at most " in told
    assert "at most 599 images to hold out (--validation): give a larger set with" in told
    assert not list(tmp_path.iterdir())


def test_where_too_few_images_decide_the_option_that_gives_more_is_named(
    bright: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "f.onnx"
    arguments = ["export", str(bright / "t.onnx"), "-o", str(output), "--precision", "int8"]
    more = ["--max-precision-loss", "2", "--data", str(bright / "data.npz")]
    assert main([*arguments, *more]) == 3  # a tenth of the images are 60
    told = capsys.readouterr().err
    found = re.search(r"Hold out more images with --validation (\d+);", told)
    assert found is not None
    assert "data has 600 for training and validation, of which 60 are held out now." in told
    assert 60 < int(found[1]) < 600
    assert main([*arguments, *more, "--validation", found[1]]) == 0
    assert read_artifact(output).precision == "int8"


def test_engines_have_what_they_were_built_from_beside_them(
    bright: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorrt_rtx")
    output = tmp_path / "f.engine"
    arguments = ["export", str(bright / "t.onnx"), "-o", str(output), "--to", "tensorrt-rtx"]
    more = ["--precision", "int8", "--batch", "1,8", "--max-precision-loss", "2", *on_data(bright)]
    assert main([*arguments, *more]) == 0
    out = capsys.readouterr().out
    assert "for batches of 1, 8." in out
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == ["f.engine", "f.engine.json", "f.engine.onnx"]
    described = json.loads((tmp_path / "f.engine.json").read_text())
    assert described["precision"] == "int8"
    assert described["batches"] == [1, 8]
    typed = read_artifact(tmp_path / "f.engine.onnx")
    assert described["source"]["onnx_sha256"] == typed.sha256
    assert typed.conversion["activations"] == "int8"
    assert ("A call of 8 takes " in out) == (described["gpu"] is not None)
    if described["gpu"] is None:
        assert "It was not run: there is no GPU here." in out


def test_no_file_is_lost_to_what_an_engine_has_beside_it(
    bright: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorrt_rtx")
    given, other = tmp_path / "student.onnx", tmp_path / "other.onnx"
    for path in (given, other):
        path.write_bytes((bright / "t.onnx").read_bytes())
    before = given.read_bytes()
    more = ["--to", "tensorrt-rtx", "--precision", "fp16"]
    assert main(["export", str(given), "-o", str(tmp_path / "student"), *more]) == 2
    assert "is MODEL itself; name another --output" in capsys.readouterr().err
    assert main(["export", str(given), "-o", str(tmp_path / "other"), *more]) == 2
    assert "exists already; name another --output" in capsys.readouterr().err
    assert given.read_bytes() == other.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_an_engine_that_cannot_be_built_leaves_the_last_one_whole(
    bright: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt_rtx")
    arguments = ["export", str(bright / "t.onnx"), "-o", str(tmp_path / "f"), "--to"]
    assert main([*arguments, "tensorrt-rtx", "--precision", "fp16"]) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(before) == ["f", "f.json", "f.onnx"]

    def refused(*_: object, **__: object) -> None:
        raise ExportError("It takes no such file.")

    monkeypatch.setattr("compress.exporting.to_tensorrt.build_engine", refused)
    assert main([*arguments, "tensorrt-rtx", "--precision", "bf16"]) == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_missing_package_is_told_before_anything_is_converted(
    bright: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    arguments = ["export", str(bright / "t.onnx"), "-o", str(tmp_path / "f"), "--to", "tensorrt"]
    assert main([*arguments, "--precision", "fp16"]) == 2
    told = capsys.readouterr().err
    assert 'python -m pip install "compress-distill[tensorrt]"' in told
    assert "Converting" not in told
    assert not list(tmp_path.iterdir())


def test_the_normalisation_that_is_said_is_written(
    bright: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(bright / "t.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    arguments = ["export", str(tmp_path / "bare.onnx"), "-o", str(tmp_path / "f.onnx")]
    assert main([*arguments, "--precision", "fp16", "--normalize", "0.4/0.2"]) == 0
    assert read_artifact(tmp_path / "f.onnx").normalization == Normalization((0.4,), (0.2,))
    assert read_artifact(tmp_path / "f.onnx").precision == "fp16"
    assert "normalisation unknown" not in capsys.readouterr().out


def test_fewer_bits_without_data(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "f.onnx"
    arguments = ["export", str(folder / "own.safetensors"), "-o", str(output)]
    assert main([*arguments, "--precision", "fp16"]) == 0
    assert "of 132 seeded inputs." in capsys.readouterr().out
    assert main([*arguments, "--precision", "int8"]) == 2
    assert "int8 needs training images for calibration: give --data" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--precision", "fp8"], "There is no precision 'fp8'"),
        (["--to", "tensor-rt"], "Did you mean 'tensorrt'"),
        (["--batch", "8"], "An ONNX file takes any batch"),
        (["--to", "tensorrt", "--batch", "1,x"], "--batch is '1,x'"),
        (["--calibrate", "default"], "Without --precision int8 --calibrate has no effect"),
        (["--precision", "fp16", "--max-precision-loss", "0"], "--max-precision-loss is 0"),
        ([], "is already an ONNX file; give --precision or --to"),
        (["--precision", "fp16", "--arch", "wrn-10-1"], "--teacher-arch is only for checkpoints"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_asked_for_has_to_be(
    extra: list[str],
    message: str,
    bright: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["export", str(bright / "t.onnx"), "-o", str(tmp_path / "f.onnx")]
    assert main([*arguments, *extra]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not list(tmp_path.iterdir())


def test_data_of_another_shape_or_other_classes_is_refused(
    bright: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", str(bright / "t.onnx"), "-o", str(tmp_path / "f.onnx")]
    assert main([*arguments, "--precision", "fp16", "--data", "default"]) == 2
    assert "does not take the 1x32x32 images of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "extra", "message"),
    [
        (None, [], "no.pt"),
        (b"", [], "no.pt"),
        (b"not a checkpoint", [], "no.pt"),
        (b"", ["--normalize", "imagnet"], "Did you mean 'imagenet'"),
        (None, ["--images", "0"], "--images"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    content: bytes | None,
    extra: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (tmp_path / "no.pt").write_bytes(content)
    output = tmp_path / "f.onnx"
    assert main(["export", str(tmp_path / "no.pt"), "-o", str(output), *extra]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not output.exists()


@pytest.mark.parametrize(
    "extra", [["--images", "30"], ["--validation", "50"], ["--data-dir", "d"]], ids=" ".join
)
def test_what_is_said_of_the_data_needs_data(
    extra: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "f.onnx"
    assert main(["export", str(folder / "own.safetensors"), "-o", str(output), *extra]) == 2
    assert f"{extra[0]} needs --data" in capsys.readouterr().err
    assert not output.exists()


def test_the_wrong_architecture_or_normalisation_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", str(folder / "own.safetensors"), "-o", str(tmp_path / "f.onnx")]
    assert main([*arguments, "--arch", "wrn-16-4"]) == 2
    assert "wrn-10-1" in capsys.readouterr().err
    assert main([*arguments, "--normalize", "mnist"]) == 2
    assert "1 channels" in capsys.readouterr().err
    assert not (tmp_path / "f.onnx").exists()


def test_images_that_do_not_decide_are_not_the_last(
    bright: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two points need a few hundred images, and fifty are asked for."""
    output = tmp_path / "f.onnx"
    arguments = ["export", str(bright / "t.onnx"), "-o", str(output), *on_data(bright)]
    more = ["--precision", "fp16", "--max-precision-loss", "2", "--images", "50", "--json"]
    assert main([*arguments, *more]) == 0
    captured = capsys.readouterr()
    told = "50 images do not decide what fp16 loses; going on to all 500."
    assert told in captured.err
    result = json.loads(captured.out)
    assert result["fidelity"]["images"] == 500
    assert told in result["notes"]
    # Where they decide, they are.
    assert main([*arguments, *more, "--max-precision-loss", "20"]) == 0
    assert json.loads(capsys.readouterr().out)["fidelity"]["images"] == 50


def test_a_file_that_takes_one_image_alone_is_refused(
    bright: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(graphs.fixed_reshape((1, 16, 16), 2), tmp_path / "given.onnx")
    arguments = ["export", str(tmp_path / "given.onnx"), "-o", str(tmp_path / "f.onnx")]
    for precision in ("int8", "auto"):
        assert main([*arguments, "--precision", precision, *on_data(bright)]) == 2
        told = capsys.readouterr().err
        assert "given.onnx claims to take any number of images, but takes only one" in told
        assert "Reshape 'flatten' to a fixed number of rows" in told


def with_names(folder: Path, path: Path, names: tuple[str, str]) -> Path:
    """The data with names for its classes."""
    with np.load(folder / "data.npz") as data:
        np.savez(path, **dict(data.items()), class_names=np.array(names))
    return path


def renamed(folder: Path, path: Path, names: tuple[str, str], order: tuple[int, int]) -> Path:
    """The trained network with its outputs in an order, and their names."""
    hypothesis = in_order(read_tensors(folder / "t.safetensors").hypotheses()[0], order)
    half = Normalization((0.5,), (0.5,))
    save_checkpoint(path, instantiate(hypothesis), normalization=half, classes=names)
    return path


def test_a_file_keeps_the_names_and_the_order_of_its_classes(
    bright: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its accuracy is that of its names, not of the numbers that the data happens to give them."""
    data = with_names(bright, tmp_path / "named.npz", ("top", "bottom"))
    model = renamed(bright, tmp_path / "m.safetensors", ("Bottom", "top"), (1, 0))
    on = ["--data", str(data), "--validation", "500"]
    file = tmp_path / "f.onnx"
    assert main(["export", str(model), "-o", str(file), *on]) == 0
    said = capsys.readouterr().err
    assert "in another order than the data's" in said
    assert "100.00% on 500 validation images" in said
    assert read_artifact(file).classes == ("Bottom", "top")
    # The function is the checkpoint's own: the data's class 0 is its output 1.
    with np.load(data) as arrays:
        pixels = (arrays["x_test"][:1].transpose(0, 3, 1, 2) / 255 - 0.5) / 0.5
        expected = 1 - arrays["y_test"][0]
    assert predictor_of(file)(pixels.astype(np.float32))[LOGITS].argmax() == expected
    # And so are those of the ONNX file, which is judged by its names too.
    narrow = tmp_path / "int8.onnx"
    assert (
        main(
            [
                "export",
                str(file),
                "-o",
                str(narrow),
                "--precision",
                "int8",
                *on,
                "--max-precision-loss",
                "2",
            ]
        )
        == 0
    )
    assert "100.00% of float32" in capsys.readouterr().out.replace("\n", " ")
    assert read_artifact(narrow).classes == ("Bottom", "top")
    for path in (model, file):
        assert main(["evaluate", str(path), "--data", str(data)]) == 0
        assert "100.00%" in capsys.readouterr().out


def test_other_names_are_believed_only_of_a_model_that_is_right(
    bright: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = with_names(bright, tmp_path / "named.npz", ("top", "bottom"))
    on = ["-o", str(tmp_path / "f.onnx"), "--data", str(data), "--validation", "500"]
    right = renamed(bright, tmp_path / "right.safetensors", ("upper", "lower"), (0, 1))
    assert main(["export", str(right), *on]) == 0
    assert "assumed to be in the same order" in capsys.readouterr().err
    assert read_artifact(tmp_path / "f.onnx").classes == ("upper", "lower")
    wrong = renamed(bright, tmp_path / "wrong.safetensors", ("lower", "upper"), (1, 0))
    assert main(["export", str(wrong), *on]) == 2
    said = capsys.readouterr().err
    assert "only the model has 'lower', 'upper', only the data has 'top', 'bottom'" in said
    assert "have different class names, and in the same order the model is no better" in said
