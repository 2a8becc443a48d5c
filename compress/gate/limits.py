"""Size, budget and parity: what is known exactly, or is a single model's."""

from __future__ import annotations

import math
from dataclasses import dataclass

from compress import defaults
from compress.errors import UsageError
from compress.gate.verdict import Comparison, Figures, Outcome
from compress.limits import judge
from compress.profiling.estimates import why_unknown
from compress.results import Estimate, Parity
from compress.tasks.task import Task
from compress.units import format_bytes, format_time

# A file's notes (names, versions) may grow by so much without anybody calling it larger.
MAX_GROWTH = defaults.MAX_GROWTH / 100


@dataclass(frozen=True)
class SizeRule:
    """How large a file may be: in bytes, or relative to the baseline's.

    Attributes:
        size_bytes: at most; None: relative to the baseline.
        growth: 0.01 allows 1% more than the baseline; not looked at where there are bytes.

    Raises:
        UsageError: a limit that no file keeps.
    """

    size_bytes: float | None = None
    growth: float = MAX_GROWTH

    def __post_init__(self) -> None:
        limit = self.growth if self.size_bytes is None else self.size_bytes
        least = 0.0 if self.size_bytes is None else 1.0
        if not least <= limit < math.inf:
            raise UsageError(
                f"--max-size is {limit:g}; it takes a size such as 5MB, or a growth such as 10%."
            )


def compare_size(size_bytes: int, baseline_bytes: int, rule: SizeRule) -> Comparison:
    """A file's size, external data included."""
    limit = rule.size_bytes
    allowed = f"at most {format_bytes(limit or 0)}"
    if limit is None:
        limit = baseline_bytes * (1 + rule.growth)
        allowed = f"at most {rule.growth:+.1%}"
    change = f"{size_bytes / baseline_bytes - 1:+.1%}"
    return Comparison(
        "size",
        Outcome.PASS if size_bytes <= limit else Outcome.FAIL,
        f"{format_bytes(size_bytes)} against {format_bytes(baseline_bytes)} of the baseline "
        f"({change}), {allowed} allowed",
        {
            "size_bytes": size_bytes,
            "baseline_bytes": baseline_bytes,
            "limit_bytes": math.floor(limit),
        },
        Figures(format_bytes(baseline_bytes), format_bytes(size_bytes), change, allowed),
    )


def compare_budget(
    latency: Estimate | None,
    budget_s: float,
    percentile: float,
    calls: int,
    needed: int,
    all_calls_s: float | None = None,
) -> Comparison:
    """Compares a latency with a budget (``compress.limits.judge``).

    Args:
        latency: at the percentile; None where the calls were too few to know it.
        budget_s: seconds.
        percentile: 50 is the median.
        calls: that were made.
        needed: that the percentile takes.
        all_calls_s: the median of all calls, where ``latency`` is that of undisturbed ones.
    """
    of = "median" if percentile == 50 else f"p{percentile:g}"
    evidence = {
        "budget_ms": budget_s * 1e3,
        "percentile": percentile,
        "calls": calls,
        "latency_ms": None if latency is None else latency.to_dict(1e3),
    }
    if latency is None:
        reason = (
            f"{of} is not known from {calls} calls, {why_unknown(calls, needed)}; budget "
            f"{format_time(budget_s)}"
        )
        return Comparison("budget", Outcome.INCONCLUSIVE, reason, evidence)
    outcome = Outcome.of(judge(latency, budget_s, all_calls=all_calls_s))
    reason = (
        f"{of} {format_time(latency.value)} (95%: {format_time(latency.low)} to "
        f"{format_time(latency.high)}), budget {format_time(budget_s)}; {calls} calls"
    )
    if latency.high <= budget_s and all_calls_s is not None and all_calls_s > budget_s:
        reason += f"; but including disturbed calls the median is {format_time(all_calls_s)}"
    figures = Figures(candidate=format_time(latency.value), allowed=format_time(budget_s))
    return Comparison("budget", outcome, reason, evidence, figures)


def compare_parity(parity: Parity, checkpoint: str, task: Task) -> Comparison:
    """A file that was found to be the same function as its checkpoint."""
    return Comparison(
        "parity",
        Outcome.PASS,
        f"the same {task.answer} as {checkpoint} on all {parity.images:,} test images, largest "
        f"difference of a {task.number} {parity.max_abs_diff:.1e}",
        {"images": parity.images, "max_abs_diff": parity.max_abs_diff, "checkpoint": checkpoint},
    )
