from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from compress.errors import InputError, UnknownName, UsageError
from compress.files import write_json
from compress.models.registry import spec_of
from compress.profiling import registry
from compress.profiling.registry import RUNTIMES
from compress.results import Estimate
from compress.spec import FASTEST, Budget, Target
from compress.tradeoff import RuntimeChoice, choose_runtime, fastest, with_runtime
from compress.tradeoff.measure import time_untrained
from compress.tradeoff.storage import SCHEMA_VERSION

ASKED = Budget(latency_s=1.0, target=Target(runtime=FASTEST, threads=1))
TASK = {"num_classes": 3, "input_shape": (1, 8, 8)}


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Makes all other runtimes absent."""
    entries = {
        name: entry if name in names else replace(entry, module="no_such_module")
        for name, entry in RUNTIMES.items()
    }
    for module in (registry, fastest):
        monkeypatch.setattr(module, "RUNTIMES", entries)


def test_installed_runtimes_are_timed_and_the_fastest_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only(monkeypatch, "onnxruntime", "openvino", "torch")
    said: list[str] = []
    choice = choose_runtime(ASKED, **TASK, say=said.append)  # type: ignore[arg-type]
    assert choice is not None
    assert choice.runtime in ("onnxruntime", "openvino")
    ((other, ratio),) = choice.ratios.items()
    assert {choice.runtime, other} == {"onnxruntime", "openvino"}
    # Faster, or not shown to be slower and first in the order.
    assert ratio.low > 1 or choice.runtime == "onnxruntime"
    assert said[0] == "Timing wrn-16-4 in onnxruntime, openvino."
    assert said[1].startswith(
        f"Runtime: {choice.runtime}. For wrn-16-4 with batch 1, {other} takes "
    )
    assert RuntimeChoice.from_dict(choice.to_dict()) == choice


def test_nothing_is_timed_where_there_is_one_or_one_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only(monkeypatch, "openvino", "torch")
    choice = choose_runtime(ASKED, **TASK)  # type: ignore[arg-type]
    assert choice is not None
    assert (choice.runtime, choice.ratios) == ("openvino", {})
    assert choose_runtime(Budget(latency_s=1.0), **TASK) is None  # type: ignore[arg-type]


def test_a_table_from_elsewhere_says_what_it_was_measured_in(tmp_path: Path) -> None:
    path = tmp_path / "server.json"
    conditions = {"runtime": "openvino", "precision": "fp32", "threads": 1, "batch": 1}
    conditions |= {"percentile": 50}
    table = {"schema_version": SCHEMA_VERSION, "conditions": conditions, "machine": {}}
    write_json(path, table | {"num_classes": 3, "input_shape": [1, 8, 8], "candidates": []})
    choice = choose_runtime(ASKED, **TASK, tradeoff=path)  # type: ignore[arg-type]
    assert choice is not None
    assert choice.runtime == "openvino"
    path.write_text(path.read_text().replace('"runtime": "openvino"', '"runtime": "abacus"'))
    with pytest.raises(InputError, match="abacus"):
        choose_runtime(ASKED, **TASK, tradeoff=path)  # type: ignore[arg-type]


def test_a_runtime_brings_its_device() -> None:
    assert with_runtime(ASKED, "openvino").target == Target("openvino", "cpu", "fp32", 1)
    assert with_runtime(ASKED, "onnxruntime-cuda").target.device == "cuda"


def test_candidates_are_timed_in_the_runtime_and_on_its_device() -> None:
    spec = spec_of("wrn-10-1", num_classes=3, input_shape=(1, 8, 8))
    found = time_untrained(spec, with_runtime(ASKED, "openvino"), 1.0)
    assert 0 < found.latency.low <= found.latency.high < 1
    with pytest.raises(UsageError, match="openvino runs on cpu"):
        time_untrained(spec, Budget(target=Target("openvino", "cuda")), 1.0)
    with pytest.raises(UnknownName, match="abacus"):
        time_untrained(spec, Budget(target=Target("abacus")), 1.0)


@pytest.mark.parametrize("values", [None, {}, {"runtime": "openvino"}])
def test_what_says_no_runtime_is_an_error(values: object) -> None:
    with pytest.raises(InputError, match="does not record"):
        RuntimeChoice.from_dict(values)


def test_the_interval_of_a_ratio_survives_being_written() -> None:
    choice = RuntimeChoice("openvino", "why", {"onnxruntime": Estimate(1.5, 1.4, 1.6)})
    assert RuntimeChoice.from_dict(choice.to_dict()) == choice
