from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fooling import slow_on_images
from compress.errors import ModelFileError, NothingMeasured, UsageError
from compress.gate import measuring
from compress.gate.latency import LatencyRule
from compress.gate.measuring import (
    Rounds,
    Settings,
    Trial,
    budget_of,
    decode,
    encode,
    judge,
    measure,
)
from compress.gate.verdict import Outcome
from compress.profiling.inputs import Sample, make_input
from compress.profiling.registry import runtime_named
from compress.profiling.runtime import Subject
from compress.results import Estimate
from compress.spec import Normalization
from tests.gate.small import classifier, rounds


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier(tmp_path_factory.mktemp("model") / "model.onnx", layers=8)


@pytest.fixture(scope="module")
def slower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier(tmp_path_factory.mktemp("slower") / "slower.onnx", layers=80)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[Rounds]:
    """What measuring finds, one after the other; what is left was not asked for."""
    script: list[Rounds] = []
    monkeypatch.setattr(measuring, "measure", lambda _trial: script.pop(0))
    return script


BOUND = """
import os, sys
from pathlib import Path
import numpy as np
from compress.gate.child import _threads, bound
from compress.profiling.registry import runtime_named
from compress.profiling.runtime import Subject

cpus = sorted(os.sched_getaffinity(0))
subject = Subject("model", path=Path(sys.argv[1]))
images = np.zeros((1, 1, 8, 8), np.float32)

def load():
    return runtime_named("onnxruntime").load(subject, threads=2)

load().close()  # the library has threads of its own
before = _threads()
for _ in range(2):
    session = bound(load, cpus[:2])
    session.infer(images)
    print(os.sched_getaffinity(0) == {cpus[0]}, end=" ")
    print([os.sched_getaffinity(each) for each in _threads() - before] == [{cpus[1]}], end=" ")
    (output,) = session.outputs().values()
    print(output.shape, end=" ")
    session.close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="places threads as Linux lets one do")
def test_each_thread_of_a_session_is_on_a_cpu_of_its_own(model: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is one CPU")
    # In another process: this one's threads are not to be tied.
    told = subprocess.run(
        [sys.executable, "-c", BOUND, str(model)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == ["True", "True", "(1,", "4)"] * 2


TRIAL = Trial(Path("candidate.onnx"), Path("baseline.onnx"), rule=LatencyRule())


def test_a_model_that_does_ten_times_the_work_fails_in_two_processes(
    model: Path, slower: Path
) -> None:
    said: list[str] = []
    found = judge(Trial(slower, model, rule=LatencyRule(), budget_s=10.0), said.append)
    assert found.latency is Outcome.FAIL
    assert found.budget is Outcome.PASS
    assert found.second is not None
    assert found.first.ratio().low > 2
    assert found.second.ratio().low > 2
    assert len(found.first.candidate_s) == len(found.first.against_s) >= 6
    assert found.seconds > found.first.seconds > 0
    assert any("measuring again" in text for text in said)


def test_a_model_is_timed_on_images_where_there_are_some(model: Path, tmp_path: Path) -> None:
    fooling = slow_on_images(model, tmp_path / "fooling.onnx", above=-2.5)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    images = Sample(pixels, Normalization((0.5,), (0.25,)))  # -2 to 2

    def noise_is_lower(seed: int) -> bool:
        there = runtime_named("onnxruntime")
        drawn = make_input(there, Subject("model", path=model), batch=1, seed=seed)
        return bool(drawn.min() < -2.5)

    seed = next(filter(noise_is_lower, range(1000)))
    on_noise = measure(Trial(fooling, model, rounds=6, seed=seed))
    assert on_noise.ratio().value < 2
    on_images = measure(Trial(fooling, model, rounds=6, sample=images, against_sample=images))
    assert on_images.ratio().low > 4


def test_a_model_that_does_a_tenth_of_the_work_passes(model: Path, slower: Path) -> None:
    found = judge(Trial(model, slower, rule=LatencyRule()))
    assert found.latency is Outcome.PASS
    assert found.budget is None
    assert found.second is None


def test_rounds_can_be_counted_beforehand(model: Path) -> None:
    found = measure(Trial(model, rounds=7))
    assert len(found.candidate_s) == 7
    assert found.against_s == ()
    assert found.calls >= 7 * 20
    with pytest.raises(NothingMeasured, match="alone"):
        found.ratio()


def test_errors_come_back_as_they_were(tmp_path: Path, model: Path) -> None:
    with pytest.raises(ModelFileError, match="no file"):
        measure(Trial(tmp_path / "absent.onnx", model))
    fixed = classifier(tmp_path / "fixed.onnx", shape=(1, 1, 8, 8))
    with pytest.raises(UsageError, match="does not fit"):
        measure(Trial(fixed, model, settings=Settings(batch=2)))


def test_a_failure_that_does_not_come_back_is_none(scripted: list[Rounds]) -> None:
    scripted += [rounds(0.05), rounds(0.0)]
    found = judge(TRIAL)
    assert found.latency is Outcome.INCONCLUSIVE
    assert found.second is not None


def test_a_failure_that_comes_back_is_one(scripted: list[Rounds]) -> None:
    scripted += [rounds(0.05), rounds(0.06)]
    assert judge(TRIAL).latency is Outcome.FAIL


def test_what_passes_is_not_measured_again(scripted: list[Rounds]) -> None:
    scripted += [rounds(0.0), rounds(0.05)]
    assert judge(TRIAL).latency is Outcome.PASS
    assert len(scripted) == 1


def test_a_missed_budget_is_confirmed_too(scripted: list[Rounds]) -> None:
    trial = Trial(Path("candidate.onnx"), budget_s=0.9e-3)
    scripted += [rounds(other=False), rounds(-0.5, other=False)]
    found = judge(trial)
    assert (found.latency, found.budget) == (None, Outcome.INCONCLUSIVE)
    scripted += [rounds(other=False), rounds(other=False)]
    assert judge(trial).budget is Outcome.FAIL
    # What passed stays so while something else is confirmed.
    scripted += [rounds(0.0), rounds(0.05)]
    both = Trial(Path("a.onnx"), Path("b.onnx"), rule=LatencyRule(), budget_s=0.9e-3)
    assert judge(both).latency is Outcome.PASS


def test_a_budget_that_is_kept_by_the_few_undisturbed_calls_is_not_decided(
    scripted: list[Rounds],
) -> None:
    trial = Trial(Path("a.onnx"), budget_s=2e-3)
    scripted += [rounds(0.0)]
    assert judge(trial).budget is Outcome.PASS
    disturbed = replace(rounds(0.0), all_calls_s=2.9e-3)
    scripted += [disturbed]
    assert judge(trial).budget is Outcome.INCONCLUSIVE
    assert "including disturbed calls the median is 2.90 ms" in (budget_of(trial, disturbed).reason)


def test_a_stored_ratio_stands_in_for_the_baseline(scripted: list[Rounds]) -> None:
    stored = (0.5, 0.5005, 0.4995, 0.5, 0.5)
    trial = Trial(Path("candidate.onnx"), Path("teacher.onnx"), rule=LatencyRule(), stored=stored)
    scripted += [rounds(-0.5)]
    assert judge(trial).latency is Outcome.PASS
    scripted += [rounds(-0.45), rounds(-0.45)]
    found = judge(trial)
    assert found.latency is Outcome.FAIL
    assert found.first.ratio(stored).value == pytest.approx(1.1, abs=0.001)


def test_an_answer_survives_the_pipe() -> None:
    found = rounds(0.01, count=12)
    assert decode(encode(found)) == found
    unknown = Rounds(
        (1.0,) * 6, (), (1.0,) * 6, (), None, Estimate(1, 1, 1), 1.0, 150, 2.0, 1.0, 3.0, None, ()
    )
    assert decode(encode(unknown)) == unknown
