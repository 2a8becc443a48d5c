from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.fooling import wrong_one_by_one
from compress.cli import main
from compress.commands.baseline import show, update
from compress.files import sha256_of
from compress.gate.baseline import read_baseline
from tests.commands.test_check import bad_candidates
from tests.gate.small import classifier, images

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    images(tmp_path / "data.npz", classifier(tmp_path / "models" / "student.onnx"))
    return tmp_path


UPDATE = ["baseline", "update", "models/student.onnx", "--data", "data.npz", "--threads", "1"]


def test_a_baseline_and_its_model_lie_in_the_folder(folder: Path, capsys: Capture) -> None:
    assert main([*UPDATE, "--reason", "first release"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"^made +20", out, re.MULTILINE)
    assert "first release" in out
    copied = f"compress-baseline.{sha256_of(Path('models/student.onnx'))[:12]}.onnx"
    assert f"Commit compress-baseline.json and {copied} together." in err
    assert {path.name for path in folder.iterdir()} == {
        "compress-baseline.json",
        copied,
        "data.npz",
        "models",
    }
    found = read_baseline(Path("compress-baseline.json"))
    assert found.evaluation_set.source == "data.npz"
    assert found.evaluation_set.n == len(found.evidence) == 1000
    assert found.evidence.value == pytest.approx(0.95, abs=0.02)
    assert found.latency.low <= found.latency.value <= found.latency.high
    assert found.model.normalization == {"mean": [0.5], "std": [0.25]}
    assert found.settings.threads == 1
    assert found.teacher is None


def test_updating_again_changes_only_what_was_found_anew(folder: Path) -> None:
    assert main([*UPDATE, "--reason", "first"]) == 0
    before = read_baseline(Path("compress-baseline.json"))
    assert main([*UPDATE, "--reason", "second"]) == 0
    after = read_baseline(Path("compress-baseline.json"))
    assert (before.reason, after.reason) == ("first", "second")
    assert (before.model, before.evidence) == (after.model, after.evidence)
    assert before.signature == after.signature


def test_a_model_that_answers_otherwise_one_by_one_is_no_baseline(
    folder: Path, capsys: Capture
) -> None:
    wrong_one_by_one(folder / "models" / "student.onnx", folder / "fooling.onnx")
    update = ["baseline", "update", "fooling.onnx", "--data", "data.npz", "--reason", "x"]
    assert main(update) == 2
    assert "256 of 256 images get other answers one by one" in capsys.readouterr().err
    assert not Path("compress-baseline.json").exists()


@pytest.mark.slow
def test_a_teacher_is_timed_beside_in_five_processes(folder: Path, capsys: Capture) -> None:
    classifier(folder / "teacher.onnx", layers=40)
    output = ["--output", "ci/gate.json", "--teacher", "teacher.onnx"]
    assert main([*UPDATE, "--reason", "with a teacher", *output]) == 0
    found = read_baseline(Path("ci/gate.json"))
    assert found.teacher is not None
    assert found.teacher.file == "../teacher.onnx"
    assert len(found.teacher.ratios) == 5
    assert all(each.low <= each.value <= each.high < 1 for each in found.teacher.ratios)
    assert found.teacher_path == Path("ci/../teacher.onnx")
    assert Path("ci", found.model.file).read_bytes() == Path("models/student.onnx").read_bytes()
    assert "time to that of ../teacher.onnx, in 5 processes" in capsys.readouterr().out


def test_it_can_be_shown(capsys: Capture) -> None:
    assert main([*UPDATE, "--reason", "first"]) == 0
    capsys.readouterr()
    assert main(["baseline", "show"]) == 0
    assert "first" in capsys.readouterr().out
    assert main(["baseline", "show", "compress-baseline.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(
        Path("compress-baseline.json").read_text()
    )
    assert main(["baseline", "show", "absent.json"]) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data", "data.npz"], "--reason"),
        (["--data", "data.npz", "--reason", " "], "--reason is empty"),
        (["--data", "data.npz", "--reason", "caf\udce9"], "in the encoding of this terminal"),
        (["--reason", "x"], "--data is missing"),
        (["--data", "nowhere.npz", "--reason", "x"], "no data file nowhere.npz"),
        (["--data", "hollow.npz", "--reason", "x"], "x_test is empty"),
        (["--data", "five.npz", "--reason", "x"], "gives 4 classes, five has 5"),
        (["--data", "large.npz", "--reason", "x"], "does not take the 1x9x9 images"),
        (["--data", "data.npz", "--reason", "x", "--output", "x.txt"], "must end in .json"),
        (["--data", "data.npz", "--reason", "x", "--output", "models"], "is a directory"),
        (["--data", "data.npz", "--reason", "x", "--runtime", "fast"], "no runtime 'fast'"),
        (["--data", "data.npz", "--reason", "x", "--shape", "3,8,8"], "does not fit"),
        (["--data", "data.npz", "--reason", "x", "--teacher", "absent.onnx"], "There is no file"),
        (["--data", "data.npz", "--reason", "x", "--normalize", "nice"], "nice"),
    ],
)
def test_what_cannot_be_used_ends_with_2(
    arguments: list[str], says: str, folder: Path, capsys: Capture
) -> None:
    rng = np.random.default_rng(0)

    def save(name: str, tests: int, classes: int, size: int) -> None:
        labels = np.arange(100) % classes
        x = rng.integers(0, 255, (100, size, size), dtype=np.uint8)
        np.savez(name, x_train=x, y_train=labels, x_test=x[:tests], y_test=labels[:tests])

    save("hollow.npz", 0, 4, 8)
    save("five.npz", 50, 5, 8)
    save("large.npz", 50, 4, 9)
    assert main(["baseline", "update", "models/student.onnx", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert "Traceback" not in err
    assert not Path("compress-baseline.json").exists()
    assert not list(Path().glob("compress-baseline*"))


def test_models_that_cannot_be_used_end_with_2(tmp_path: Path, capsys: Capture) -> None:
    others = tmp_path / "others"
    others.mkdir()
    wrong = bad_candidates(others) | {
        "five.onnx": "gives 5 classes",
        "colour.onnx": "does not take",
    }
    del wrong["open.onnx"]  # the images say its shape
    for name, says in wrong.items():
        model = str(others / name)
        assert main(["baseline", "update", model, "--data", "data.npz", "--reason", "x"]) == 2, name
        out, err = capsys.readouterr()
        assert out == "", name
        assert says in err, name
        assert "Traceback" not in err, name
        assert not Path("compress-baseline.json").exists()


def test_a_model_is_timed_on_what_it_is_scored_on(folder: Path, capsys: Capture) -> None:
    model = onnx.load(classifier(folder / "pooled.onnx"))
    # The mean of each column leaves the height open.
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    del model.graph.node[:]
    model.graph.node.extend(
        [
            onnx.helper.make_node("ReduceMean", ["images"], ["rows"], keepdims=0),
            onnx.helper.make_node("Shape", ["images"], ["sizes"], end=1),
            onnx.helper.make_node("Concat", ["sizes", "four"], ["shape"], axis=0),
            onnx.helper.make_node("Expand", ["rows", "shape"], ["logits"]),
        ]
    )
    four = onnx.numpy_helper.from_array(np.array([4]), "four")
    model.graph.initializer.append(four)
    onnx.save(model, folder / "pooled.onnx")
    update = ["baseline", "update", "pooled.onnx", "--data", "data.npz", "--reason", "x"]
    assert main([*update, "--shape", "1,9,8"]) == 2
    assert "--shape is 1,9,8, but the images of data are 1,8,8" in capsys.readouterr().err
    assert main([*update, "--shape", "1,8,8"]) == 0
    said = read_baseline(Path("compress-baseline.json"))
    assert main(update) == 0
    assert read_baseline(Path("compress-baseline.json")).settings.shape == said.settings.shape


def test_the_normalisation_may_have_to_be_said(folder: Path, capsys: Capture) -> None:
    classifier(folder / "bare.onnx", metadata=False)
    bare = ["baseline", "update", "bare.onnx", "--data", "data.npz", "--reason", "x"]
    assert main([*bare, "--normalize", "0.5/0.25", "--threads", "1"]) == 0
    found = read_baseline(Path("compress-baseline.json"))
    assert found.evidence.value == pytest.approx(0.95, abs=0.02)


def test_every_option_is_explained() -> None:
    for parameter in (*update.params, *show.params):
        if parameter.param_type_name == "option":
            assert getattr(parameter, "help", None), parameter.name
