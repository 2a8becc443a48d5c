from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from compress.api.check import size_rule
from compress.cli import main
from compress.commands.check import command
from compress.commands.options import parse_percent
from compress.errors import UsageError
from compress.exporting import onnx_from_torch
from compress.files import sha256_of
from compress.gate import check as checking
from compress.gate.baseline import read_baseline
from compress.gate.limits import SizeRule
from compress.gate.measuring import Judged, Rounds, Trial, outcomes
from compress.models.checkpoint import save_checkpoint
from compress.models.registry import build, spec_of
from compress.spec import Normalization
from tests.gate.small import CLASSES, MEAN, SIZE, STD, classifier, images, rounds

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a model, its data and its baseline."""
    folder = tmp_path_factory.mktemp("repository")
    model = classifier(folder / "student.onnx")
    data = images(folder / "data.npz", model)
    arguments = ["--data", str(data), "--reason", "the first one", "--threads", "1"]
    output = ["--output", str(folder / "compress-baseline.json")]
    assert main(["baseline", "update", str(model), *arguments, *output]) == 0
    classifier(folder / "slower.onnx", layers=120)
    classifier(folder / "same.onnx", noise=1e-6)
    return folder


@pytest.fixture(autouse=True)
def in_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Rounds], None]:
    """Says what timing finds, without any."""

    def install(found: Rounds) -> None:
        def judged(trial: Trial, _say: Callable[[str], None]) -> Judged:
            return Judged(*outcomes(trial, found), found)

        monkeypatch.setattr(checking, "judge", judged)

    install(rounds())
    return install


def test_a_slower_model_fails_for_real(capsys: Capture) -> None:
    assert main(["check", "slower.onnx", "--max-accuracy-drop", "99"]) == 1
    out, err = capsys.readouterr()
    assert [line.split()[:2] for line in out.splitlines()[3:6]] == [
        ["latency", "FAIL"],
        ["size", "FAIL"],
        ["accuracy", "PASS"],
    ]
    assert out.endswith("outcome: FAIL\n")
    assert "Timing slower.onnx and the baseline's model in turns." in err


def test_the_model_itself_never_fails_for_real(capsys: Capture) -> None:
    # On a machine that is busy enough it may take more than 48 rounds to be sure.
    assert main(["check", "student.onnx"]) in (0, 3)
    assert "FAIL" not in capsys.readouterr().out


def test_exit_codes_and_what_is_not_decided(
    timed: Callable[[Rounds], None], capsys: Capture
) -> None:
    assert main(["check", "same.onnx"]) == 0
    assert "outcome: PASS" in capsys.readouterr().out
    timed(rounds(scatter=0.2))
    assert main(["check", "same.onnx"]) == 3
    assert main(["check", "same.onnx", "--inconclusive", "fail"]) == 3
    assert main(["check", "same.onnx", "--inconclusive", "warn"]) == 0
    assert main(["check", "same.onnx", "--inconclusive", "warn", "--max-size", "1B"]) == 1
    assert "outcome: INCONCLUSIVE" in capsys.readouterr().out


def test_limits_are_the_users(timed: Callable[[Rounds], None]) -> None:
    timed(rounds(0.05))
    assert main(["check", "same.onnx"]) == 1
    assert main(["check", "same.onnx", "--max-slowdown", "10%"]) == 0
    assert main(["check", "same.onnx", "--max-slowdown", "10", "--budget-ms", "2"]) == 0
    assert main(["check", "same.onnx", "--max-slowdown", "10%", "--budget-ms", "0.5"]) == 1
    assert main(["check", "same.onnx", "--max-slowdown", "10%", "--max-size", "10kB"]) == 1
    assert main(["check", "same.onnx", "--max-slowdown", "10%", "--max-calibration-drop", "1"]) == 0


def test_an_open_dimension_can_be_given_a_value(
    timed: Callable[[Rounds], None], tmp_path: Path, capsys: Capture
) -> None:
    model = classifier(tmp_path / "open.onnx", noise=1e-6, shape=("batch", 1, "height", SIZE))
    assert main(["check", str(model)]) == 2
    assert "'height' is open and has no value. Give it with --shape" in capsys.readouterr().err
    assert main(["check", str(model), "--shape", "1,8,8"]) == 0


def test_json_is_one_object(timed: Callable[[Rounds], None], capsys: Capture) -> None:
    assert main(["check", "same.onnx", "--budget-ms", "2", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["schema_version"] == 1
    assert values["exit_code"] == 0
    assert values["outcome"] == "pass"
    assert [one["name"] for one in values["comparisons"]] == [
        "latency",
        "size",
        "accuracy",
        "consistency",
        "budget",
    ]
    assert set(values["comparisons"][0]["evidence"]["slowdown"]) == {"value", "low", "high"}
    assert values["candidate"]["sha256"] == sha256_of(Path("same.onnx"))


def test_reports_are_written_and_github_is_told(
    timed: Callable[[Rounds], None],
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    timed(rounds(0.05))
    reports = ["--junit", str(tmp_path / "j.xml"), "--markdown", str(tmp_path / "m.md")]
    assert main(["check", "same.onnx", "--json", *reports]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["outcome"] == "fail"
    assert "::error title=compress check%3A latency fail::+5.0%25" in err
    assert summary.read_text().startswith("### compress check: FAIL")
    assert (tmp_path / "m.md").read_text() == summary.read_text()
    assert ElementTree.parse(tmp_path / "j.xml").getroot().get("failures") == "1"


def test_a_summary_that_cannot_be_written_changes_no_verdict(
    timed: Callable[[Rounds], None],
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "none/summary.md"))
    timed(rounds(0.0))
    assert main(["check", "same.onnx"]) == 0
    out, err = capsys.readouterr()
    assert "outcome: PASS" in out
    assert "::notice title=" in err
    assert "warning: cannot write the summary to $GITHUB_STEP_SUMMARY" in err


def test_what_cannot_be_judged_is_in_the_reports_too(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert main(["check", "absent.onnx", "--junit", str(tmp_path / "j.xml")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "::error title=compress check%3A check not measured::" in err
    assert "error: There is no file absent.onnx." in err
    root = ElementTree.parse(tmp_path / "j.xml").getroot()
    assert (root.get("errors"), root.get("tests")) == ("1", "1")


# --- bad input -----------------------------------------------------------------------------------


def two_inputs(path: Path) -> None:
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1, SIZE, SIZE])
        for name in ("images", "masks")
    ]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["images", "masks"], ["logits"])],
        "two",
        values,
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path
    )


def bad_candidates(folder: Path) -> dict[str, str]:
    """File name -> a part of the answer; the files are made."""
    good = classifier(folder / "good.onnx").read_bytes()
    (folder / "empty.onnx").touch()
    (folder / "cut.onnx").write_bytes(good[: len(good) // 2])
    (folder / "text.onnx").write_text("no model")
    (folder / "folder.onnx").mkdir()
    two_inputs(folder / "two.onnx")
    classifier(folder / "open.onnx", shape=("batch", 1, "height", SIZE))
    classifier(folder / "five.onnx", classes=5)
    classifier(folder / "colour.onnx", channels=3)
    classifier(folder / "nan.onnx", scale=float("nan"))
    classifier(folder / "batch.onnx", shape=(7, 1, SIZE, SIZE))
    classifier(folder / "external.onnx", external=True)
    (folder / "external.onnx.data").unlink()
    classifier(folder / "short.onnx", external=True)
    with (folder / "short.onnx.data").open("r+b") as file:
        file.truncate(100)
    (folder / "good.pt").write_bytes(b"PK\x03\x04")
    return {
        "absent.onnx": "There is no file",
        "empty.onnx": "empty",
        "cut.onnx": "is incomplete",
        "text.onnx": "not an ONNX file",
        "folder.onnx": "folder.onnx",
        "two.onnx": "2 inputs ('images', 'masks')",
        "open.onnx": "'height' is open and has no value",
        "five.onnx": "another task",
        "colour.onnx": "another task",
        "nan.onnx": "not finite",
        "batch.onnx": "does not fit",
        "external.onnx": "external.onnx.data",
        "short.onnx": "short.onnx.data",
        "good.pt": "not an ONNX file",
    }


def test_a_candidate_that_cannot_be_used_ends_with_2(tmp_path: Path, capsys: Capture) -> None:
    for name, says in bad_candidates(tmp_path).items():
        assert main(["check", str(tmp_path / name)]) == 2, name
        out, err = capsys.readouterr()
        assert out == "", name
        assert says in err, name
        assert "Traceback" not in err, name
        assert "bug" not in err, name


def test_a_baseline_that_cannot_be_used_ends_with_2(tmp_path: Path, capsys: Capture) -> None:
    text = Path("compress-baseline.json").read_text()
    (tmp_path / "edited.json").write_text(text.replace('"right": ', '"right": 1'))
    (tmp_path / "text.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    for name, says in {
        "absent.json": "no baseline",
        "edited.json": "edited by hand",
        "text.json": "not a JSON file",
        "list.json": "no digest",
    }.items():
        assert main(["check", "student.onnx", "--baseline", str(tmp_path / name)]) == 2, name
        out, err = capsys.readouterr()
        assert (out, says in err, "Traceback" in err) == ("", True, False), err


def test_another_model_beside_the_baseline_is_refused(tmp_path: Path, capsys: Capture) -> None:
    for name in ("compress-baseline.json", "data.npz"):
        shutil.copy(name, tmp_path)
    copied = read_baseline(Path("compress-baseline.json")).model.file
    shutil.copy("slower.onnx", tmp_path / copied)
    baseline = ["--baseline", str(tmp_path / "compress-baseline.json")]
    assert main(["check", "student.onnx", *baseline]) == 2
    assert "is not the file that" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--max-slowdown", "fast"], "it takes percents, such as 3%"),
        (["--max-slowdown", "0"], "it takes 0.1% or more"),
        (["--max-slowdown", "0.03%"], "it takes 0.1% or more"),
        (["--max-accuracy-drop", "-1"], "points from 0 to 100"),
        (["--max-calibration-drop", "0"], "it takes points above 0"),
        (["--max-size", "5"], "a size with its unit"),
        (["--max-size", "0MB"], "--max-size is 0"),
        (["--budget-ms", "0"], "must be a positive number"),
        (["--percentile", "90"], "Give --budget-ms"),
        (["--threads", "2"], "--self-test"),
        (["--inconclusive", "ignore"], "ignore"),
        (["--self-test", "--junit", "x.xml"], "Leave out --junit"),
        (
            ["--self-test", "--budget-ms", "2", "--data", "x.npz"],
            "Leave out --budget-ms and --data",
        ),
        (["--seed", "-1"], "-1 is not in the range"),
        (["--junit", "same.onnx/x.xml"], "is not writable"),
        (["--markdown", "."], "is a directory"),
        (["--data", "nowhere.npz"], "There is no data file nowhere.npz"),
        (["--checkpoint", "absent.pt"], "There is no file absent.pt"),
    ],
)
def test_options_that_cannot_be_used_end_with_2(
    options: list[str], says: str, timed: Callable[[Rounds], None], capsys: Capture
) -> None:
    assert main(["check", "same.onnx", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert "Traceback" not in err


def test_a_model_is_needed(capsys: Capture) -> None:
    assert main(["check"]) == 2
    assert "compress check student.onnx" in capsys.readouterr().err


def test_sizes_and_percents() -> None:
    assert parse_percent("3%", "--max-slowdown") == pytest.approx(3)
    assert parse_percent(" 2.5 ", "--max-slowdown") == pytest.approx(2.5)
    assert size_rule("5MB") == SizeRule(5e6)
    assert size_rule("800 kB") == SizeRule(8e5)
    assert size_rule("+10%") == SizeRule(growth=0.1)
    for text in ("", "MB", "-5MB", "5TB", "1e3MB"):
        with pytest.raises(UsageError, match="--max-size"):
            size_rule(text)


def test_every_option_is_explained() -> None:
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert getattr(parameter, "help", None), parameter.name


# --- parity --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a distillation leaves: a checkpoint, and the file that was exported from it."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    spec = spec_of("wrn-10-0.5", num_classes=CLASSES, input_shape=(1, SIZE, SIZE))
    network = build(spec).eval()
    gray = Normalization((MEAN,), (STD,))
    save_checkpoint(folder / "student.safetensors", network, normalization=gray)
    source = {"checkpoint_sha256": sha256_of(folder / "student.safetensors")}
    onnx_from_torch(
        network,
        folder / "student.onnx",
        spec=spec,
        normalization=gray,
        classes=(),
        source=source,
    )
    with torch.no_grad():
        network.linear.weight[0] += 1.0
    save_checkpoint(folder / "other.safetensors", network, normalization=gray)
    return folder


LENIENT = ["--max-accuracy-drop", "99", "--max-size", "10MB"]


def test_a_run_folders_file_is_compared_with_its_checkpoint(
    run_folder: Path, timed: Callable[[Rounds], None], tmp_path: Path, capsys: Capture
) -> None:
    assert main(["check", str(run_folder / "student.onnx"), *LENIENT]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("parity"))
    assert line.split()[1] == "PASS"
    assert "all 500 test images" in line
    # Elsewhere nothing is known of its checkpoint, so nothing is said.
    shutil.copy(run_folder / "student.onnx", tmp_path)
    assert main(["check", str(tmp_path / "student.onnx"), *LENIENT]) == 0
    assert "parity" not in capsys.readouterr().out
    # Another checkpoint of that name is none of its own, which is told.
    shutil.copy(run_folder / "other.safetensors", tmp_path / "student.safetensors")
    assert main(["check", str(tmp_path / "student.onnx"), *LENIENT]) == 0
    out = capsys.readouterr().out
    assert "parity" not in out
    assert "is not the checkpoint that student.onnx was exported from" in out


def test_a_file_that_is_not_its_checkpoint_fails(
    run_folder: Path, timed: Callable[[Rounds], None], capsys: Capture
) -> None:
    model, other = str(run_folder / "student.onnx"), str(run_folder / "other.safetensors")
    assert main(["check", model, "--checkpoint", other, *LENIENT]) == 1
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("parity"))
    assert line.split()[1] == "FAIL"
    assert "They differ at image" in line
    assert "written" not in line
