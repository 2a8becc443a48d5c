from __future__ import annotations

import math

import pytest

from compress.errors import UsageError
from compress.gate.limits import SizeRule, compare_budget, compare_parity, compare_size
from compress.gate.verdict import Outcome
from compress.results import Estimate, Parity
from compress.tasks.registry import unstated


@pytest.mark.parametrize(
    ("size", "rule", "outcome"),
    [
        (1_010_000, SizeRule(), Outcome.PASS),
        (1_010_001, SizeRule(), Outcome.FAIL),
        (1_100_000, SizeRule(growth=0.1), Outcome.PASS),
        (5_000_000, SizeRule(5e6), Outcome.PASS),
        (5_000_001, SizeRule(5e6), Outcome.FAIL),
        (500, SizeRule(growth=0.0), Outcome.PASS),
    ],
)
def test_a_file_is_as_large_as_it_may_be(size: int, rule: SizeRule, outcome: Outcome) -> None:
    assert compare_size(size, 1_000_000, rule).outcome is outcome


def test_both_sizes_are_told() -> None:
    found = compare_size(2_000_000, 1_000_000, SizeRule(5e6))
    assert found.reason == (
        "2.00 MB against 1.00 MB of the baseline (+100.0%), at most 5.00 MB allowed"
    )
    assert "at most +1.0% allowed" in compare_size(10, 10, SizeRule()).reason


@pytest.mark.parametrize(
    ("size_bytes", "growth"), [(0.0, 0.0), (-1.0, 0.0), (math.inf, 0.0), (None, -0.1)]
)
def test_a_limit_that_cannot_be(size_bytes: float | None, growth: float) -> None:
    with pytest.raises(UsageError, match="--max-size"):
        SizeRule(size_bytes, growth)


@pytest.mark.parametrize(
    ("budget_ms", "outcome"),
    [(2.0, Outcome.PASS), (1.2, Outcome.PASS), (1.1, Outcome.INCONCLUSIVE), (0.9, Outcome.FAIL)],
)
def test_a_budget_is_kept_when_the_upper_bound_keeps_it(budget_ms: float, outcome: Outcome) -> None:
    latency = Estimate(0.0011, 0.001, 0.0012)
    found = compare_budget(latency, budget_ms / 1e3, 50, 150, 0)
    assert found.outcome is outcome
    assert found.reason.startswith("median 1.10 ms (95%: 1.00 ms to 1.20 ms), budget")


def test_a_percentile_that_is_not_known_keeps_nothing() -> None:
    found = compare_budget(None, 1.0, 99, 150, 473)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "p99 is not known from 150 calls, it takes 473" in found.reason


def test_parity_is_told() -> None:
    found = compare_parity(Parity(500, 1.0, 3.2e-6), "student.safetensors", unstated())
    assert found.outcome is Outcome.PASS
    assert "all 500 test images" in found.reason
    assert "3.2e-06" in found.reason
