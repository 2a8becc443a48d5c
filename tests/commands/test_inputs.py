"""Files are looked at first, then names, then models, and data last."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compress.api.inputs import check_data, check_files, check_models
from compress.cli import main
from compress.errors import DataError, InputError, ModelFileError
from compress.exporting.to_onnx import onnx_for_timing
from compress.models.checkpoint import save_checkpoint
from compress.models.registry import build, spec_of

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("the data was read")

    monkeypatch.setattr("compress.data.dataset.read_source", read)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "evaluate nope.onnx --data cifar10",
        "distill --teacher nope.pth",
        "distill --teacher nope.pth --data cifar10 --budget-ms 2",
        "distill --student-init nope.pth --student wrn-10-1",
        "distill --tradeoff nope.csv --budget-ms 2",
        "export nope.pth -o out.onnx --data cifar10",
        "select --teacher nope.pth --data cifar10 --speedup 2",
        "train --arch wrn-10-1 --init nope.pth --data cifar10",
        "profile nope.onnx",
        "profile nope.onnx --against nope.onnx",
        "baseline update nope.onnx --data cifar10 --reason why",
        "reproduce ktan/table1 --teacher cifar10=nope.pth",
    ],
)
def test_a_file_that_is_not_there_is_told_first(line: str, capsys: Capture) -> None:
    assert main(line.split()) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith("error: There is no file nope.")
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "line",
    [
        "evaluate {} --data cifar10",
        "distill --teacher {} --data cifar10 --student wrn-10-1",
        "export {} -o out.onnx --data cifar10",
        "select --teacher {} --data cifar10 --speedup 2",
        "train --arch wrn-10-1 --init {} --data cifar10",
    ],
)
def test_what_is_no_model_is_told_before_the_data_is_read(line: str, capsys: Capture) -> None:
    Path("words.pth").write_text("no weights")
    assert main(line.format("words.pth").split()) == 2
    assert "words.pth is a text file" in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["words.pth"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("distill --student wrn-11-1", "the nearest is 10"),
        ("distill --student wrn-10-1 --max-accuracy-drop 200", "--max-accuracy-drop is 200"),
        ("distill --student wrn-10-1 --device tpu", "auto, cpu or cuda"),
        ("select --budget-ms 1 --data cifar10 --schedule fast", "fast"),
        ("train --arch wrn-10-1 --device tpu", "auto, cpu or cuda"),
        (
            "distill --data cifar-10 --teacher words.pth --student wrn-10-1",
            "Did you mean 'cifar10'",
        ),
        ("export words.pth -o out.onnx --precision fp17", "fp17"),
        ("export words.pth -o out.onnx --data none.npz", "none.npz"),
    ],
)
def test_names_and_numbers_are_told_before_the_data_is_read(
    line: str, says: str, capsys: Capture
) -> None:
    Path("words.pth").write_text("no weights")
    assert main(line.split()) == 2
    assert says in capsys.readouterr().err


@pytest.mark.timeout(20)
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a named pipe"), (tmp_path, "a folder")):
        with pytest.raises(InputError, match=kind):
            check_files(path)
    with pytest.raises(InputError, match="a named pipe"):
        check_data(str(tmp_path / "pipe"))
    with pytest.raises(DataError, match="There is no data set"):
        check_data("cifar11")
    check_data("default", None, str(tmp_path))


def test_a_model_is_known_by_its_bytes(tmp_path: Path) -> None:
    network = build(spec_of("wrn-10-0.5", num_classes=3, input_shape=(1, 8, 8)))
    save_checkpoint(tmp_path / "weights.onnx", network, normalization=None)
    onnx_for_timing(network, tmp_path / "graph.pb", spec=network.spec)
    check_models(tmp_path / "weights.onnx", None, tmp_path / "graph.pb")
    (tmp_path / "words.onnx").write_text("no graph")
    with pytest.raises(ModelFileError):
        check_models(tmp_path / "words.onnx")
