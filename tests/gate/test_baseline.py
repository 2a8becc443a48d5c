from __future__ import annotations

import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compress.errors import InputError, ModelFileError, UsageError
from compress.files import sha256_of
from compress.gate import baseline as storing
from compress.gate.baseline import (
    Baseline,
    EvaluationSet,
    Model,
    TimedTeacher,
    describe_model,
    digest_of,
    machine_here,
    read_baseline,
    relative_to,
    versions,
    write_baseline,
)
from compress.gate.measuring import Settings
from compress.gate.report import baseline_document
from compress.gate.signature import Signature
from compress.profiling.machine import fingerprint
from compress.report.terminal import text_of
from compress.results import Estimate
from compress.tasks.classification.accuracy import Right
from tests.schema.broken import answers, broken_json

CONTENT = b"a model"
GREY = {"mean": [0.0], "std": [1.0]}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "student.onnx"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def baseline(tmp_path: Path, model: Path) -> Baseline:
    return Baseline(
        model=Model(
            "b.onnx", sha256_of(model), 7, "wrn-10-1", "fp32", {"mean": [0.0], "std": [1.0]}
        ),
        evaluation_set=EvaluationSet("data/x.npz", None, "x", "f" * 64, 11),
        signature=Signature("classification", (3, 8, 8), 4),
        settings=Settings(threads=2, shape=(3, 8, 8)),
        evidence=Right((True, False, True) * 3 + (True, True)),
        latency=Estimate(0.001234567891, 0.0012, 0.0013),
        machine=machine_here(),
        reason="the first one",
        created="2026-01-02T03:04:05+00:00",
        versions=versions(),
        teacher=TimedTeacher("../t.onnx", "e" * 64, (Estimate(0.5, 0.49, 0.51),) * 5),
        path=tmp_path / "out" / "b.json",
    )


def test_what_is_written_is_read_and_reads_as_a_diff(baseline: Baseline, model: Path) -> None:
    write_baseline(baseline, model)
    read = read_baseline(baseline.path)
    assert read == replace(baseline, latency=Estimate(0.00123457, 0.0012, 0.0013))
    text = baseline.path.read_text()
    assert text.endswith("}\n")
    content = json.loads(text)
    assert content["teacher"]["spread"] == 0.0
    assert text == json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert (baseline.path.parent / "b.onnx").read_bytes() == CONTENT
    assert read.model_path == baseline.path.parent / "b.onnx"
    assert read.evidence.value == pytest.approx(8 / 11)
    write_baseline(read, model)
    assert baseline.path.read_text() == text


@pytest.mark.parametrize(
    ("pattern", "by"),
    [
        (r'"right": \d+', '"right": 11'),
        (r'"median": [\d.]+', '"median": 9.0'),
        (r'"reason": ".*"', '"reason": "another"'),
        (r'"threads": \d', '"threads": 1'),
        (r'"n": 11', '"n": 12'),
        (r'"digest": "(.).{63}"', '"digest": "' + "0" * 64 + '"'),
        (r'"schema_version": 1,', '"schema_version": 1, "more": 2,'),
    ],
)
def test_what_was_edited_by_hand_is_refused(
    pattern: str, by: str, baseline: Baseline, model: Path
) -> None:
    write_baseline(baseline, model)
    text = baseline.path.read_text()
    edited, count = re.subn(pattern, by, text, count=1)
    assert count == 1
    baseline.path.write_text(edited)
    with pytest.raises(InputError, match="edited by hand or damaged"):
        read_baseline(baseline.path)


def test_spaces_and_line_ends_are_no_edit(baseline: Baseline, model: Path) -> None:
    write_baseline(baseline, model)
    text = baseline.path.read_text()
    baseline.path.write_bytes(text.replace("\n", "\r\n").encode())
    assert read_baseline(baseline.path).reason == "the first one"


def test_a_path_that_is_not_utf8_is_kept(baseline: Baseline, model: Path) -> None:
    name = os.fsdecode(b"n\xe4mes")
    there = replace(baseline.evaluation_set, source=name)
    write_baseline(replace(baseline, evaluation_set=there), model)
    assert read_baseline(baseline.path).evaluation_set.source == name


def test_what_is_no_baseline_is_told(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    with pytest.raises(InputError, match="There is no baseline"):
        read_baseline(path)
    for text, message in (("{", "not a JSON file"), ("[1]", "no digest"), ("{}", "no digest")):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_baseline(path)
    newer: dict[str, Any] = {"schema_version": 2}
    path.write_text(json.dumps(newer | {"digest": digest_of(newer)}))
    with pytest.raises(InputError, match="schema_version 2"):
        read_baseline(path)
    forged: dict[str, Any] = {"schema_version": 1, "teacher": None}
    path.write_text(json.dumps(forged | {"digest": digest_of(forged)}))
    with pytest.raises(InputError, match="is not a baseline"):
        read_baseline(path)


def test_a_missing_model_is_none_and_another_one_is_refused(
    baseline: Baseline, model: Path
) -> None:
    write_baseline(baseline, model)
    kept = baseline.path.parent / "b.onnx"
    kept.write_bytes(b"another")
    with pytest.raises(ModelFileError, match="is not the file that"):
        assert read_baseline(baseline.path).model_path
    kept.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(ModelFileError, match="git lfs pull"):
        assert read_baseline(baseline.path).model_path
    kept.unlink()
    assert read_baseline(baseline.path).model_path is None
    assert read_baseline(baseline.path).teacher_path is None


def test_nobodys_file_is_overwritten(baseline: Baseline, model: Path) -> None:
    kept = baseline.path.parent / "b.onnx"
    kept.parent.mkdir()
    kept.write_bytes(b"a year's work")
    with pytest.raises(UsageError, match=r"does not have the content.* Remove it and try again"):
        write_baseline(baseline, model)
    assert kept.read_bytes() == b"a year's work"
    assert not baseline.path.exists()
    kept.unlink()
    write_baseline(baseline, model)


def named(baseline: Baseline, model: Path) -> Baseline:
    """The same of that file, whose copy has its hash in its name."""
    sha256 = sha256_of(model)
    return replace(
        baseline, model=replace(baseline.model, sha256=sha256, file=f"b.{sha256[:12]}.onnx")
    )


def test_an_update_removes_what_older_ones_have_left(baseline: Baseline, model: Path) -> None:
    folder = baseline.path.parent
    first = named(baseline, model)
    write_baseline(first, model)
    # Of a user, of another baseline, and damaged: none of them is an older copy.
    others = ["b.onnx", "b.notes.onnx", f"b.more.{'0' * 12}.onnx", f"b.{'0' * 12}.onnx"]
    for name in others:
        (folder / name).write_bytes(CONTENT)
    model.write_bytes(b"a better model")
    better = named(baseline, model)
    write_baseline(better, model)
    left = {path.name for path in folder.iterdir()}
    assert left == {"b.json", better.model.file, *others}
    assert (folder / better.model.file).read_bytes() == b"a better model"


@pytest.mark.parametrize("step", ["write_text", "remove_older", "copy"])
def test_an_update_that_is_killed_leaves_the_old_baseline_or_the_new_one(
    step: str, baseline: Baseline, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    first = named(baseline, model)
    write_baseline(first, model)
    model.write_bytes(b"a better model")
    better = named(baseline, model)
    with monkeypatch.context() as patched:
        patched.setattr(storing, step, killed)
        with pytest.raises(Killed):
            write_baseline(better, model)
    there = read_baseline(baseline.path)
    assert there.model == (better if step == "remove_older" else first).model
    assert there.model_path is not None
    # And the same update goes through afterwards, with nothing left of either.
    write_baseline(better, model)
    assert read_baseline(baseline.path).model == better.model
    assert {path.name for path in baseline.path.parent.iterdir()} == {"b.json", better.model.file}


def test_a_model_that_lies_there_already_stays(baseline: Baseline, tmp_path: Path) -> None:
    kept = baseline.path.parent / "b.onnx"
    kept.parent.mkdir()
    kept.write_bytes(CONTENT)
    write_baseline(baseline, kept)
    assert kept.read_bytes() == CONTENT


def test_weights_in_other_files_are_refused(model: Path, tmp_path: Path) -> None:
    facts: dict[str, Any] = {"name": "m", "precision": "fp32", "normalization": {}}
    found = describe_model(model, tmp_path / "x.json", size_bytes=len(CONTENT), **facts)
    assert found.file == f"x.{sha256_of(model)[:12]}.onnx"
    with pytest.raises(ModelFileError, match="other files"):
        describe_model(model, tmp_path / "x.json", size_bytes=len(CONTENT) + 1, **facts)


def test_machines_are_compared(baseline: Baseline) -> None:
    here = fingerprint()
    assert baseline.differences(here) == ()
    other = replace(here, cpu="another", isa=("avx2",), engines={"onnxruntime": "0.1"})
    found = baseline.differences(other)
    assert found[0].startswith("cpu another, not ")
    assert found[1].startswith("isa avx2, not ")
    assert found[-1].startswith("onnxruntime 0.1, not ")
    assert (
        baseline.differences(replace(here, python="4.0", engines=here.engines | {"x": "1"})) == ()
    )


def test_paths_are_relative_to_the_baseline(tmp_path: Path) -> None:
    assert relative_to(tmp_path / "a" / "x.npz", tmp_path / "b") == "../a/x.npz"
    assert relative_to(tmp_path / "x.npz", tmp_path) == "x.npz"


def test_what_it_says_for_people(baseline: Baseline) -> None:
    said = text_of(baseline_document(baseline))
    for part in (
        "72.73% of 11",
        "1.23 ms",
        "2 threads",
        "the first one",
        "0.5000",
        "a spread of 0.00%",
        "3x8x8",
    ):
        assert part in said


def test_whatever_a_baseline_holds_is_told_by_the_name_of_its_field(
    baseline: Baseline, tmp_path: Path
) -> None:
    path = tmp_path / "b.json"

    def read(text: str) -> None:
        path.write_text(text)
        found = read_baseline(path)
        # What may be allocated for it later is bounded.
        assert found.settings.batch * math.prod(found.signature.image_shape) <= 2**29
        assert baseline_document(found).parts
        found.differences(fingerprint())

    def signed(changed: Any) -> Any:
        if not isinstance(changed, dict):
            return changed
        rest = {key: value for key, value in changed.items() if key != "digest"}
        return rest | {"digest": digest_of(rest)} if "digest" in changed else rest

    counts = answers(broken_json(baseline.to_dict(), sign=signed), read, InputError)
    assert min(counts.values()) > 100


def test_a_limit_that_is_passed_is_told_with_its_field(baseline: Baseline, model: Path) -> None:
    write_baseline(baseline, model)
    content = json.loads(baseline.path.read_text())
    content["settings"]["threads"] = 1_000_000
    content["machine"]["isa"] = None
    baseline.path.write_text(json.dumps(content | {"digest": digest_of(content)}))
    with pytest.raises(InputError) as caught:
        read_baseline(baseline.path)
    assert "; settings.threads is 1000000, it must be from 1 to 4096." in str(caught.value)
    assert "machine.isa is null, it must be a list, each a string; " in str(caught.value)
    assert str(caught.value).endswith("write a new one with `compress baseline update`.")


def test_what_is_no_file_is_no_baseline(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "b.json")
    with pytest.raises(InputError, match="is a named pipe"):
        read_baseline(tmp_path / "b.json")
    (tmp_path / "l.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(InputError, match="git lfs pull"):
        read_baseline(tmp_path / "l.json")
