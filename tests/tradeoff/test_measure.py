from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from compress.errors import UnknownName, UsageError
from compress.models.registry import changed, spec_of
from compress.profiling.inputs import Sample
from compress.results import Estimate
from compress.spec import Budget, Normalization, Target
from compress.tradeoff.measure import LocalMeasurer, _recall, time_untrained, untrained
from compress.tradeoff.search import Measurement
from tests.schema.broken import broken_json

SPEC = spec_of("wrn-10-1", num_classes=3, input_shape=(1, 8, 8))
BUDGET = Budget(latency_s=1.0)


def test_a_candidate_is_measured_for_real_and_remembered(tmp_path: Path) -> None:
    said: list[str] = []
    measurer = LocalMeasurer(say=said.append, folder=tmp_path)
    found = measurer.measure(SPEC, BUDGET, 1.0)
    assert 0 < found.latency.low <= found.latency.value <= found.latency.high < 1
    assert found.size_bytes > 4 * 70_000
    assert (found.rounds, found.undecided, found.cached) == (6, False, False)
    assert measurer.measure(SPEC, BUDGET, 1.0) is found
    assert said == ["Timing wrn-10-1."]

    # Another process: the cache has it.
    later = LocalMeasurer(say=said.append, folder=tmp_path)
    assert later.measure(SPEC, BUDGET, 1.0) == replace(found, cached=True)
    assert later.machine == measurer.machine
    assert len(said) == 1
    # A limit inside the interval: it is timed longer, in spite of the cache.
    inside = (found.latency.value + found.latency.high) / 2
    again = later.measure(SPEC, BUDGET, inside)
    assert not again.cached
    assert len(said) == 2


@pytest.fixture
def remembered(tmp_path: Path) -> Path:
    """A cache that has one figure, as if it had been timed."""
    measurer = LocalMeasurer(folder=tmp_path)
    path = tmp_path / "latency" / f"{measurer._digest(BUDGET)}.json"
    path.parent.mkdir()
    entry = {
        "latency_s": {"value": 2.0, "low": 1.9, "high": 2.1},
        "size_bytes": 7,
        "rounds": 12,
        "all_calls_s": 2.1,
        "undecided": False,
        "warnings": ["w"],
    }
    key = json.dumps(SPEC.to_dict(), sort_keys=True)
    path.write_text(json.dumps({"conditions": {}, "measured": {key: entry}}))
    return tmp_path


class Untimed(Exception):
    """Raised where something would have been timed."""


def refuse(text: str) -> None:
    raise Untimed(text)


def test_a_hit_times_nothing(remembered: Path) -> None:
    found = LocalMeasurer(say=refuse, folder=remembered).measure(SPEC, BUDGET, 1.0)
    assert found.cached
    assert (found.latency.value, found.latency.high, found.size_bytes) == (2.0, 2.1, 7)
    assert found.warnings == ("w",)


@pytest.mark.parametrize(
    "budget",
    [
        replace(BUDGET, batch=2),
        replace(BUDGET, percentile=90),
        replace(BUDGET, target=Target(threads=2)),
        replace(BUDGET, target=Target(runtime="other")),
        replace(BUDGET, target=Target(precision="int8")),
    ],
    ids=["batch", "percentile", "threads", "runtime", "precision"],
)
def test_other_conditions_miss(remembered: Path, budget: Budget) -> None:
    with pytest.raises(Untimed):
        LocalMeasurer(say=refuse, folder=remembered).measure(SPEC, budget, 1.0)


def test_another_machine_network_or_wish_misses(remembered: Path) -> None:
    measurer = LocalMeasurer(say=refuse, folder=remembered)
    with pytest.raises(Untimed):
        measurer.measure(changed(SPEC, num_classes=4), BUDGET, 1.0)
    with pytest.raises(Untimed):
        measurer.measure(SPEC, BUDGET, 1.0, again=True)
    with pytest.raises(Untimed):
        measurer.measure(SPEC, BUDGET, 2.05)  # inside the remembered interval
    with pytest.raises(Untimed):
        LocalMeasurer(cache=False, say=refuse, folder=remembered).measure(SPEC, BUDGET, 1.0)
    measurer.machine = measurer.machine | {"cpu": "another"}
    with pytest.raises(Untimed):
        measurer.measure(SPEC, BUDGET, 1.0)


def test_a_ratio_is_never_one_to_a_figure_of_another_day(remembered: Path) -> None:
    measurer = LocalMeasurer(say=refuse, folder=remembered, teacher=SPEC)
    assert measurer._digest(BUDGET) == measurer._digest(Budget(speedup=2.0))
    with pytest.raises(Untimed):
        measurer.measure(SPEC, Budget(speedup=2.0), None)


def test_of_two_figures_of_this_process_the_faster_one_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = iter([3.0, 2.0, 4.0])

    def found() -> Measurement:
        return Measurement(Estimate(*[next(taken)] * 3), 7, rounds=6)

    monkeypatch.setattr(LocalMeasurer, "_time", lambda *_: found())
    said: list[str] = []
    measurer = LocalMeasurer(folder=tmp_path, say=said.append)
    assert measurer.measure(SPEC, BUDGET, 1.0).latency.value == 3.0
    assert measurer.measure(SPEC, BUDGET, 1.0).latency.value == 3.0
    assert measurer.measure(SPEC, BUDGET, 1.0, again=True).latency.value == 2.0
    assert measurer.measure(SPEC, BUDGET, 1.0, again=True).latency.value == 2.0
    again = "Timing wrn-10-1 once more."
    assert said == ["Timing wrn-10-1.", again, again]
    assert LocalMeasurer(folder=tmp_path).measure(SPEC, BUDGET, 1.0).latency.value == 2.0


def test_rounds_that_are_shared_with_the_teacher_are_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = iter([3.0])
    monkeypatch.setattr(
        LocalMeasurer, "_time", lambda *_: Measurement(Estimate(*[next(taken)] * 3), 7)
    )
    measurer = LocalMeasurer(folder=tmp_path)
    first = measurer.measure(SPEC, Budget(speedup=2.0), 1.0)
    assert measurer.measure(SPEC, Budget(speedup=2.0), 1.0, again=True) is first


def test_a_damaged_cache_is_no_cache(remembered: Path) -> None:
    (path,) = (remembered / "latency").iterdir()
    for content in ("", "[]", '{"measured": 3}', path.read_text().replace("latency_s", "l")):
        path.write_text(content)
        with pytest.raises(Untimed):
            LocalMeasurer(say=refuse, folder=remembered).measure(SPEC, BUDGET, 1.0)


def test_timing_leaves_the_random_numbers_alone() -> None:
    state = torch.random.get_rng_state()
    network = untrained(SPEC)
    assert torch.equal(torch.random.get_rng_state(), state)
    again = untrained(SPEC)
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_what_was_timed_on_images_is_not_what_was_timed_on_noise(tmp_path: Path) -> None:
    def sample(seed: int) -> Sample:
        pixels = np.random.default_rng(seed).integers(0, 256, (9, 1, 8, 8), dtype=np.uint8)
        return Sample(pixels, Normalization((0.5,), (0.25,)))

    def digest(given: Sample | None) -> str:
        return LocalMeasurer(folder=tmp_path, sample=given)._digest(BUDGET)

    assert digest(sample(0)) == digest(sample(0))
    assert len({digest(each) for each in (None, sample(0), sample(1))}) == 3


def test_only_what_can_be_timed_is_timed() -> None:
    with pytest.raises(UsageError, match="onnxruntime runs on cpu, but the budget is for cuda"):
        time_untrained(SPEC, Budget(latency_s=1.0, target=Target(device="cuda")), None)
    with pytest.raises(UnknownName, match="no precision 'int4'"):
        time_untrained(SPEC, BUDGET.in_precision("int4"), None)


def test_a_candidate_is_timed_in_the_precision_that_would_ship(tmp_path: Path) -> None:
    said: list[str] = []
    # A student like the teacher in reduced precision is not the teacher.
    measurer = LocalMeasurer(say=said.append, folder=tmp_path, teacher=SPEC)
    wide = measurer.measure(SPEC, BUDGET, 1.0)
    narrow = measurer.measure(SPEC, BUDGET.in_precision("int8"), 1.0)
    assert said == ["Timing the teacher, wrn-10-1.", "Timing wrn-10-1 int8."]
    assert narrow.size_bytes < wide.size_bytes / 2
    assert narrow.latency.high < 1


def test_a_ratio_is_measured_in_the_same_rounds_as_the_teacher(tmp_path: Path) -> None:
    teacher = changed(SPEC, depth=22, width=2)
    budget = Budget(speedup=2.0)
    said: list[str] = []
    measurer = LocalMeasurer(folder=tmp_path, teacher=teacher, say=said.append)
    whole = measurer.measure(teacher, budget, None)
    small = measurer.measure(SPEC, budget, whole.latency.value / 2)
    # What the small one takes is the teacher's time divided by their ratio, which is far above 2.
    assert small.latency.high < whole.latency.value / 2
    assert not small.undecided
    assert said == ["Timing the teacher, wrn-22-2.", "Timing wrn-10-1."]
    # The teacher against itself: the ratio is 1, whatever the machine does meanwhile.
    double = changed(teacher, stem_channels=17)
    same = measurer.measure(double, budget, whole.latency.value / 2)
    assert 0.7 < same.latency.value / whole.latency.value < 1.4


def test_a_damaged_cache_remembers_nothing_and_never_fails(remembered: Path) -> None:
    (path,) = (remembered / "latency").iterdir()
    document = json.loads(path.read_text())
    (key,) = document["measured"]
    found = _recall(path, key)
    assert found is not None
    recalled = 0
    for what, place, text in broken_json(document):
        path.write_text(text)
        read = _recall(path, key)
        recalled += read is not None
        if read is not None:
            assert 0 < read.latency.low <= read.latency.value <= read.latency.high, (place, what)
            assert read.size_bytes > 0
    assert recalled > 10
    path.unlink()
    os.mkfifo(path)
    assert _recall(path, key) is None
