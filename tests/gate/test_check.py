from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.fooling import slow_on_images, with_classes, wrong_one_by_one
from compress.errors import DataError, ModelFileError, NothingMeasured, UsageError
from compress.files import sha256_of
from compress.gate import answers
from compress.gate import check as checking
from compress.gate import update as making
from compress.gate.accuracy import AccuracyRule
from compress.gate.baseline import Baseline, TimedTeacher, read_baseline, write_baseline
from compress.gate.calibration import CalibrationRule
from compress.gate.check import CheckRequest, check
from compress.gate.measuring import Judged, Rounds, Settings, Trial, outcomes
from compress.gate.verdict import Comparison, Outcome, Verdict
from compress.results import Estimate
from compress.spec import Normalization
from compress.tasks.classification.accuracy import Right
from tests.gate.small import classifier, images, rounds

REASON = "the first one"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another file with the same answers."""
    return classifier(tmp_path_factory.mktemp("other") / "other.onnx", noise=1e-6)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[Rounds]:
    """What timing finds, one after the other, without any timing; at first an A/A comparison."""
    script: list[Rounds] = []
    seen: list[Trial] = []

    def judged(trial: Trial, say: Callable[[str], None]) -> Judged:
        seen.append(trial)
        found = script.pop(0) if script else rounds(other=trial.against is not None)
        latency, budget = outcomes(trial, found)
        failed = Outcome.FAIL in (latency, budget)
        return Judged(latency, budget, found, found if failed else None)

    monkeypatch.setattr(checking, "judge", judged)
    return script


@pytest.fixture
def baseline(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A baseline in a folder of its own, beside its data."""
    monkeypatch.setattr(making, "measure", lambda trial: rounds(other=trial.against is not None))
    output = tmp_path / "repository" / "compress-baseline.json"
    output.parent.mkdir()
    data = images(output.parent / "data.npz", model)
    making.update(making.UpdateRequest(model, str(data), REASON, output))
    return output


def edited(path: Path, **changes: Any) -> Baseline:
    """Writes a baseline with other facts, as ``update`` would on another machine."""
    found = replace(read_baseline(path), **changes)
    write_baseline(found, path.parent / found.model.file)
    return found


def right_of(baseline: Baseline) -> tuple[bool, ...]:
    assert isinstance(baseline.evidence, Right)
    return baseline.evidence.each


def named(verdict: Verdict) -> dict[str, Comparison]:
    return {one.name: one for one in verdict.comparisons}


def test_a_candidate_that_is_as_good_passes(
    baseline: Path, tmp_path: Path, scripted: list[Rounds]
) -> None:
    candidate = classifier(tmp_path / "candidate.onnx", noise=1e-6)
    verdict = check(CheckRequest(candidate, baseline))
    assert list(named(verdict)) == ["latency", "size", "accuracy", "consistency"]
    assert verdict.outcome is Outcome.PASS
    assert verdict.warnings == ()
    values = json.loads(json.dumps(verdict.to_dict()))
    assert values["schema_version"] == 1
    assert values["baseline"]["reason"] == REASON
    assert values["comparisons"][2]["evidence"]["lost"] == 0


def test_the_models_are_really_timed(baseline: Path, tmp_path: Path) -> None:
    slower = classifier(tmp_path / "slower.onnx", layers=120)
    verdict = check(CheckRequest(slower, baseline))
    assert named(verdict)["latency"].outcome is Outcome.FAIL
    assert named(verdict)["size"].outcome is Outcome.FAIL


def test_a_model_that_is_slow_on_images_alone_fails(
    baseline: Path, model: Path, tmp_path: Path
) -> None:
    fooling = slow_on_images(model, tmp_path / "fooling.onnx", above=-2.01)
    verdict = check(CheckRequest(fooling, baseline))
    found = named(verdict)
    assert found["latency"].outcome is Outcome.FAIL
    assert found["accuracy"].outcome is Outcome.PASS
    assert verdict.to_dict()["inputs"] == "images of data, drawn again for each round"


def test_a_model_that_is_wrong_one_by_one_fails(
    baseline: Path, model: Path, tmp_path: Path, scripted: list[Rounds]
) -> None:
    fooling = wrong_one_by_one(model, tmp_path / "fooling.onnx")
    verdict = check(CheckRequest(fooling, baseline))
    found = named(verdict)
    assert found["accuracy"].outcome is Outcome.PASS
    assert found["consistency"].outcome is Outcome.FAIL
    assert verdict.outcome is Outcome.FAIL


def test_both_models_are_timed_on_images_as_each_takes_them(
    baseline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Trial] = []

    def judged(trial: Trial, _say: Callable[[str], None]) -> Judged:
        seen.append(trial)
        return Judged(*outcomes(trial, rounds()), rounds())

    monkeypatch.setattr(checking, "judge", judged)
    bare = classifier(tmp_path / "bare.onnx", metadata=False)
    stated = Normalization((0.4,), (0.3,))
    check(CheckRequest(bare, baseline, normalization=stated))
    (trial,) = seen
    assert trial.sample is not None
    assert trial.against_sample is not None
    assert trial.sample.normalization == stated
    assert trial.against_sample.normalization == Normalization((0.5,), (0.25,))
    assert np.array_equal(trial.sample.pixels, trial.against_sample.pixels)
    assert trial.sample.pixels.shape == (1000, 1, 8, 8)


def test_wrong_answers_fail(baseline: Path, tmp_path: Path, scripted: list[Rounds]) -> None:
    candidate = classifier(tmp_path / "candidate.onnx", noise=0.5)
    found = named(check(CheckRequest(candidate, baseline)))["accuracy"]
    assert found.outcome is Outcome.FAIL
    assert found.evidence["candidate"] < found.evidence["baseline"]
    lenient = CheckRequest(candidate, baseline, accuracy=AccuracyRule(0.9))
    assert named(check(lenient))["accuracy"].outcome is Outcome.PASS


def test_a_few_other_answers_are_not_decided(
    baseline: Path, tmp_path: Path, scripted: list[Rounds]
) -> None:
    candidate = classifier(tmp_path / "candidate.onnx", noise=0.01)
    found = named(check(CheckRequest(candidate, baseline)))["accuracy"]
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "images would decide" in found.reason


def test_another_architecture_and_a_fixed_batch_can_be_judged(
    baseline: Path, tmp_path: Path, scripted: list[Rounds]
) -> None:
    candidate = classifier(tmp_path / "candidate.onnx", layers=2, shape=(1, 1, 8, 8))
    found = named(check(CheckRequest(candidate, baseline)))["accuracy"]
    assert found.outcome is Outcome.FAIL
    assert found.evidence["n"] == 1000


def test_the_baselines_own_file_need_not_be_scored(
    baseline: Path, model: Path, scripted: list[Rounds]
) -> None:
    found = named(check(CheckRequest(model, baseline)))["accuracy"]
    assert found.outcome is Outcome.PASS
    assert "own file" in found.reason


def test_a_slower_one_fails_and_says_by_how_much(
    baseline: Path, model: Path, scripted: list[Rounds]
) -> None:
    scripted.append(rounds(0.05))
    found = named(check(CheckRequest(model, baseline)))["latency"]
    assert found.outcome is Outcome.FAIL
    assert found.reason == (
        "+5.0% (95%: +4.9% to +5.1%) in fast calls and +5.0% (95%: +4.9% to +5.1%) in all "
        "against the baseline, +3.0% and +10.0% allowed; fast calls take 1.05 ms and 1.00 ms, "
        "all 1.16 ms and 1.10 ms (geometric mean), 6 rounds; in a second process "
        "+5.0% (95%: +4.9% to +5.1%) and +5.0% (95%: +4.9% to +5.1%)"
    )


def test_a_budget_is_judged_where_there_is_one(
    baseline: Path, model: Path, scripted: list[Rounds]
) -> None:
    assert (
        named(check(CheckRequest(model, baseline, budget_s=2e-3)))["budget"].outcome is Outcome.PASS
    )
    verdict = check(CheckRequest(model, baseline, budget_s=0.5e-3))
    assert named(verdict)["budget"].outcome is Outcome.FAIL
    assert named(verdict)["latency"].outcome is Outcome.PASS


def test_a_process_that_dies_is_no_pass(
    baseline: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(_trial: Trial, _say: Callable[[str], None]) -> Judged:
        raise NothingMeasured("The process ended with code -9.")

    monkeypatch.setattr(checking, "judge", dies)
    verdict = check(CheckRequest(model, baseline, budget_s=1.0))
    assert named(verdict)["latency"].outcome is Outcome.NOT_MEASURED
    assert named(verdict)["budget"].outcome is Outcome.NOT_MEASURED
    assert verdict.exit_code() == 4


# --- classes by name ----------------------------------------------------------------------------

NAMES, ORDER = ("cat", "dog", "ship", "car"), (2, 0, 3, 1)
MIXED = tuple(NAMES[place] for place in ORDER)


def test_a_baseline_and_a_candidate_are_scored_by_the_names_of_their_classes(
    tmp_path: Path, scripted: list[Rounds], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "measure", lambda trial: rounds(other=False))
    plain = classifier(tmp_path / "plain.onnx", names=NAMES)
    data = images(tmp_path / "data.npz", plain, names=NAMES)
    mixed = classifier(tmp_path / "mixed.onnx", names=MIXED, order=ORDER)
    said: list[str] = []
    request = making.UpdateRequest(mixed, str(data), REASON, tmp_path / "b.json")
    found = making.update(request, said.append)
    assert found.evidence.value > 0.9
    assert any("matched by name" in text for text in said)
    again = classifier(tmp_path / "again.onnx", noise=1e-6, names=MIXED, order=ORDER)
    assert named(check(CheckRequest(again, found.path)))["accuracy"].outcome is Outcome.PASS


# --- where the baseline's model is missing -------------------------------------------------------


def without_model(path: Path) -> None:
    (path.parent / read_baseline(path).model.file).unlink()


def test_without_its_model_milliseconds_are_advice(
    baseline: Path, tmp_path: Path, scripted: list[Rounds]
) -> None:
    candidate = classifier(tmp_path / "candidate.onnx", noise=1e-6)
    without_model(baseline)
    scripted.append(rounds(0.5, other=False))
    verdict = check(CheckRequest(candidate, baseline, budget_s=2e-3))
    found = named(verdict)["latency"]
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "+50.0%, which is advice and not a verdict" in found.reason
    assert "the baseline has no ratio to a teacher" in found.reason
    assert named(verdict)["budget"].outcome is Outcome.PASS
    assert named(verdict)["accuracy"].outcome is Outcome.PASS
    assert "is not beside" in verdict.warnings[0]


def test_without_its_model_twice_the_milliseconds_of_the_same_machine_fail(
    baseline: Path, other: Path, scripted: list[Rounds]
) -> None:
    found = read_baseline(baseline)
    kept = baseline.parent / found.model.file
    content = kept.read_bytes()
    without_model(baseline)
    scripted.append(rounds(16.0, other=False))
    verdict = check(CheckRequest(other, baseline))
    # Not even where what is not decided is only warned of.
    assert verdict.exit_code(inconclusive_passes=True) == 1
    latency = named(verdict)["latency"]
    assert latency.outcome is Outcome.FAIL
    assert "is +1600.0%: no noise makes a call take 2 times as long" in latency.reason
    scripted.append(rounds(0.99, other=False))  # 1.97 to 2.01 of what was stored at most
    assert named(check(CheckRequest(other, baseline)))["latency"].outcome is Outcome.INCONCLUSIVE
    # Of another machine nothing is known.
    kept.write_bytes(content)
    edited(baseline, machine={**found.machine, "cpu": "another one"})
    without_model(baseline)
    scripted.append(rounds(16.0, other=False))
    assert named(check(CheckRequest(other, baseline)))["latency"].outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("slow", [1.1e-3, 1.5e-3])
def test_sessions_whose_threads_are_now_on_one_core_and_now_on_two_are_told(
    baseline: Path, model: Path, scripted: list[Rounds], threads: int, slow: float
) -> None:
    edited(baseline, settings=Settings(threads=threads))
    against = (1e-3, slow) * 6
    candidate = (slow, 1e-3, 1e-3, slow) * 3
    scripted.append(replace(rounds(count=12), candidate_s=candidate, against_s=against))
    verdict = check(CheckRequest(model, baseline))
    assert named(verdict)["latency"].outcome is Outcome.INCONCLUSIVE
    told = [each for each in verdict.warnings if "made with --threads 1" in each]
    assert len(told) == (threads == 2 and slow == 1.5e-3)
    assert all("1.00 ms to 1.50 ms" in each for each in told)


def test_the_baselines_own_file_is_never_slower_than_itself(
    baseline: Path, model: Path, scripted: list[Rounds]
) -> None:
    without_model(baseline)
    verdict = check(CheckRequest(model, baseline))
    latency = named(verdict)["latency"]
    assert latency.outcome is Outcome.PASS
    assert "byte for byte" in latency.reason
    assert verdict.outcome is Outcome.PASS
    assert verdict.warnings == ()
    found = named(check(CheckRequest(model, baseline, budget_s=2e-3)))
    assert (found["latency"].outcome, found["budget"].outcome) == (Outcome.PASS, Outcome.PASS)


def test_milliseconds_of_another_machine_are_not_even_that(
    baseline: Path, other: Path, scripted: list[Rounds]
) -> None:
    found = read_baseline(baseline)
    edited(baseline, machine={**found.machine, "cpu": "another one"})
    without_model(baseline)
    latency = named(check(CheckRequest(other, baseline)))["latency"]
    assert latency.outcome is Outcome.INCONCLUSIVE
    assert "of another machine (cpu " in latency.reason


def with_teacher(path: Path, teacher: Path, count: int = 5) -> None:
    ratios = tuple(Estimate(1 + step / 1e4, 0.99, 1.01) for step in range(count))
    edited(path, teacher=TimedTeacher("../teacher.onnx", sha256_of(teacher), ratios))
    without_model(path)


def test_a_stored_ratio_to_a_teacher_is_second_best(
    baseline: Path, tmp_path: Path, other: Path, scripted: list[Rounds]
) -> None:
    teacher = classifier(tmp_path / "teacher.onnx", layers=3)
    with_teacher(baseline, teacher)
    found = named(check(CheckRequest(other, baseline)))["latency"]
    assert found.outcome is Outcome.PASS
    assert "by way of teacher.onnx (5 stored ratios, spread 0.02%)" in found.reason
    scripted.append(rounds(0.1))
    assert named(check(CheckRequest(other, baseline)))["latency"].outcome is Outcome.FAIL


def test_what_cannot_stand_in_for_a_ratio_is_told(
    baseline: Path, tmp_path: Path, other: Path, scripted: list[Rounds]
) -> None:
    teacher = classifier(tmp_path / "teacher.onnx", layers=3)
    copied = baseline.parent / read_baseline(baseline).model.file
    kept = copied.read_bytes()

    def reason(**request: Any) -> str:
        found = named(check(CheckRequest(other, baseline, **request)))["latency"]
        assert found.outcome is Outcome.INCONCLUSIVE
        copied.write_bytes(kept)
        return found.reason

    with_teacher(baseline, teacher, count=4)
    assert "4 stored ratios are too few; 5 are needed" in reason()
    with_teacher(baseline, teacher)
    elsewhere = teacher.rename(tmp_path / "elsewhere.onnx")
    assert "the teacher ../teacher.onnx is missing" in reason()
    with_teacher(baseline, elsewhere)
    found = named(check(CheckRequest(other, baseline, teacher=elsewhere)))["latency"]
    assert found.outcome is Outcome.PASS
    with pytest.raises(UsageError, match="is not the teacher"):
        check(CheckRequest(other, baseline, teacher=other))
    copied.write_bytes(kept)
    machine = read_baseline(baseline).machine
    edited(baseline, machine={**machine, "isa": ["other"]})
    without_model(baseline)
    assert "the ratio to a teacher is of another machine (isa " in reason(teacher=elsewhere)


# --- what is told, and judged on request ---------------------------------------------------------


def test_what_is_not_judged_is_named(
    baseline: Path, tmp_path: Path, scripted: list[Rounds]
) -> None:
    candidate = classifier(tmp_path / "candidate.onnx", noise=1e-6)
    verdict = check(CheckRequest(candidate, baseline))
    assert [text.split(" ")[0] for text in verdict.not_judged] == ["expected", "loading", "class"]
    calibration, loading, names = verdict.not_judged
    assert "500 images (--max-calibration-drop judges it)" in calibration
    assert loading == "loading takes 10.0 ms against 11.0 ms"
    assert names == "class names: there are none in the candidate's file and the baseline's file"
    assert verdict.to_dict()["not_judged"] == list(verdict.not_judged)
    without_model(baseline)
    told = check(CheckRequest(candidate, baseline)).not_judged
    assert "1,000 images" in told[0]
    assert " against " not in told[0]
    assert told[2].endswith("which is missing")


def test_a_model_that_takes_seconds_to_load_is_warned_of(
    baseline: Path, other: Path, scripted: list[Rounds]
) -> None:
    scripted.append(replace(rounds(), load_s=4.3))
    verdict = check(CheckRequest(other, baseline))
    assert verdict.outcome is Outcome.PASS
    assert any("takes 4.30 s to load, and the other model 11.0 ms" in x for x in verdict.warnings)


def test_logits_that_are_scaled_down_fail_where_calibration_is_judged(
    baseline: Path, tmp_path: Path, scripted: list[Rounds]
) -> None:
    faint = classifier(tmp_path / "faint.onnx", scale=1e-4)
    verdict = check(CheckRequest(faint, baseline))
    assert verdict.outcome is Outcome.PASS
    rule = CalibrationRule(0.01)
    found = named(check(CheckRequest(faint, baseline, calibration=rule)))
    assert found["accuracy"].outcome is Outcome.PASS
    assert found["calibration"].outcome is Outcome.FAIL
    assert found["calibration"].evidence["n"] == 1000
    same = classifier(tmp_path / "same.onnx", noise=1e-6)
    assert check(CheckRequest(same, baseline, calibration=rule)).outcome is Outcome.PASS
    without_model(baseline)
    found = named(check(CheckRequest(same, baseline, calibration=rule)))
    assert found["calibration"].outcome is Outcome.INCONCLUSIVE


def test_names_in_another_order_over_the_same_outputs_fail(
    tmp_path: Path, scripted: list[Rounds], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "measure", lambda trial: rounds(other=False))
    model = classifier(tmp_path / "model.onnx", names=NAMES)
    # The data names no classes, so that both have as many right.
    data = images(tmp_path / "data.npz", model)
    found = making.update(making.UpdateRequest(model, str(data), REASON, tmp_path / "b.json"))
    renamed = with_classes(model, tmp_path / "renamed.onnx", list(MIXED))
    said = named(check(CheckRequest(renamed, found.path)))
    assert said["accuracy"].outcome is Outcome.PASS
    assert said["classes"].outcome is Outcome.FAIL
    same = classifier(tmp_path / "same.onnx", noise=1e-6, names=NAMES)
    assert named(check(CheckRequest(same, found.path)))["classes"].outcome is Outcome.PASS


# --- what is stored and what the model says ------------------------------------------------------


@pytest.mark.parametrize("changed", [1000, 40])
def test_stored_answers_that_are_not_the_models_are_not_believed(
    changed: int, baseline: Path, tmp_path: Path, scripted: list[Rounds]
) -> None:
    found = read_baseline(baseline)
    right = right_of(found)
    wrong = (*(not each for each in right[:changed]), *right[changed:])
    # The digest is made again, as whoever edits the file can.
    edited(baseline, evidence=Right(wrong))
    useless = classifier(tmp_path / "useless.onnx", order=(1, 2, 3, 0))
    verdict = check(CheckRequest(useless, baseline, accuracy=AccuracyRule(0.03)))
    accuracy = named(verdict)["accuracy"]
    assert accuracy.outcome is Outcome.FAIL
    assert accuracy.evidence["baseline"] == pytest.approx(found.evidence.value)
    assert any(
        f"disagree about {changed:,} of 1,000 test images" in text for text in verdict.warnings
    )


def test_a_sample_is_scored_again_and_all_where_it_differs(
    baseline: Path, tmp_path: Path, scripted: list[Rounds], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "SAMPLE", 50)
    candidate = classifier(tmp_path / "candidate.onnx", noise=1e-6)
    said: list[str] = []
    assert check(CheckRequest(candidate, baseline), said.append).warnings == ()
    assert "Scoring the baseline's model on 50 of the test images again." in said
    assert not any("on all 1,000" in text for text in said)
    edited(baseline, evidence=Right(tuple(not e for e in right_of(read_baseline(baseline)))))
    said.clear()
    assert check(CheckRequest(candidate, baseline), said.append).outcome is Outcome.PASS
    assert "Scoring the baseline's model on all 1,000 test images again." in said


# --- other instruction sets ----------------------------------------------------------------------


def test_with_other_instruction_sets_both_are_scored_here(
    baseline: Path, tmp_path: Path, scripted: list[Rounds]
) -> None:
    candidate = classifier(tmp_path / "candidate.onnx", noise=1e-6)
    found = read_baseline(baseline)
    # As a machine would have it that answers otherwise.
    wrong = tuple(not each for each in right_of(found))
    edited(baseline, machine={**found.machine, "isa": ["other"]}, evidence=Right(wrong))
    accuracy = named(check(CheckRequest(candidate, baseline)))["accuracy"]
    assert accuracy.outcome is Outcome.PASS
    assert "the baseline, scored here" in accuracy.reason
    assert accuracy.evidence["baseline"] == pytest.approx(found.evidence.value)


def test_without_its_model_other_instruction_sets_decide_nothing(
    baseline: Path, tmp_path: Path, scripted: list[Rounds]
) -> None:
    candidate = classifier(tmp_path / "candidate.onnx", noise=1e-6)
    machine = read_baseline(baseline).machine
    edited(baseline, machine={**machine, "isa": ["other"]})
    without_model(baseline)
    accuracy = named(check(CheckRequest(candidate, baseline)))["accuracy"]
    assert accuracy.outcome is Outcome.INCONCLUSIVE
    assert "other instruction sets (other)" in accuracy.reason


def test_another_version_of_the_engine_is_warned_of(
    baseline: Path, tmp_path: Path, scripted: list[Rounds]
) -> None:
    candidate = classifier(tmp_path / "candidate.onnx", noise=1e-6)
    machine = read_baseline(baseline).machine
    edited(baseline, machine={**machine, "engines": {"onnxruntime": "0.1"}})
    assert "scored here" in named(check(CheckRequest(candidate, baseline)))["accuracy"].reason
    without_model(baseline)
    verdict = check(CheckRequest(candidate, baseline))
    assert named(verdict)["accuracy"].outcome is Outcome.PASS
    assert any("another version of the engine" in warning for warning in verdict.warnings)


# --- what cannot be checked ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 5}, "another task: its model takes 1x8x8 images, 4 classes, .* 5 classes"),
        ({"channels": 3}, "another task: .* takes 3x8x8 images"),
    ],
)
def test_a_baseline_of_another_task_is_refused(
    changes: dict[str, Any], message: str, baseline: Path, tmp_path: Path, scripted: list[Rounds]
) -> None:
    candidate = classifier(tmp_path / "candidate.onnx", **changes)
    with pytest.raises(UsageError, match=message):
        check(CheckRequest(candidate, baseline))


def test_answers_that_are_no_numbers_are_refused(
    baseline: Path, tmp_path: Path, scripted: list[Rounds]
) -> None:
    for scale in (np.nan, np.inf):
        candidate = classifier(tmp_path / "candidate.onnx", scale=scale)
        with pytest.raises(ModelFileError, match="not finite"):
            check(CheckRequest(candidate, baseline))


def test_other_images_are_refused(
    baseline: Path, model: Path, tmp_path: Path, scripted: list[Rounds]
) -> None:
    fewer = images(tmp_path / "fewer.npz", model, count=900)
    with pytest.raises(UsageError, match="it has 900 test images, not 1,000"):
        check(CheckRequest(model, baseline, data=str(fewer)))
    others = images(tmp_path / "others.npz", model, wrong=0.1)
    with pytest.raises(UsageError, match="its test images, their labels"):
        check(CheckRequest(model, baseline, data=str(others)))
    moved = (baseline.parent / "data.npz").rename(tmp_path / "moved.npz")
    with pytest.raises(DataError, match=r"is not at .*data\.npz. Give its place with --data"):
        check(CheckRequest(model, baseline))
    assert check(CheckRequest(model, baseline, data=str(moved))).outcome is Outcome.PASS


def test_what_cannot_be_asked(model: Path, baseline: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--budget-ms is -1"):
        CheckRequest(model, baseline, budget_s=-1e-3)
    with pytest.raises(UsageError, match="Give --budget-ms"):
        CheckRequest(model, baseline, percentile=90)
    with pytest.raises(ModelFileError, match=r"compress export .*student\.safetensors"):
        check(CheckRequest(tmp_path / "student.safetensors", baseline))


def test_more_threads_than_there_are_cpus_are_warned_of(
    baseline: Path, model: Path, scripted: list[Rounds]
) -> None:
    edited(baseline, settings=Settings(threads=512))
    assert any("512 threads" in text for text in check(CheckRequest(model, baseline)).warnings)
