"""Trials of a benchmark in a file, a JSON object a line; shares of them with their intervals."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def share(successes: int, trials: int) -> str:
    """'2 (0.7%; 0.1 to 2.4)'."""
    low, high = clopper_pearson(successes, trials)
    return f"{successes} ({successes / trials:.1%}; {100 * low:.1f} to {100 * high:.1f})"


def clopper_pearson(successes: int, trials: int) -> tuple[float, float]:
    """The exact two-sided 95% interval of a share."""
    logs = np.array([math.lgamma(each + 1) for each in range(trials + 1)])
    ways = logs[-1] - logs - logs[::-1]
    counts = np.arange(trials + 1)

    def at_most(most: int, p: float) -> float:
        terms = ways + counts * math.log(p) + (trials - counts) * math.log1p(-p)
        return float(np.exp(terms[: most + 1]).sum())

    def solve(below: Callable[[float], bool]) -> float:
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if below(middle) else (low, middle)
        return (low + high) / 2

    low = 0.0 if not successes else solve(lambda p: 1 - at_most(successes - 1, p) < 0.025)
    high = 1.0 if successes == trials else solve(lambda p: at_most(successes, p) > 0.025)
    return low, high


def read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file; one that was cut off when the program was stopped is left out."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def append(path: Path, value: dict[str, Any]) -> None:
    """Adds a line, after the last whole one."""
    kept = path.read_bytes() if path.exists() else b""
    with path.open("ab") as file:
        file.truncate(kept.rfind(b"\n") + 1)
        file.write(json.dumps(value).encode() + b"\n")
