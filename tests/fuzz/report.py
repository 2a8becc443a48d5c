"""What is told of the cases that ran."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from tests.fuzz.judge import Outcome

SHOWN = 3


def lines(outcomes: Sequence[Outcome], seconds: float) -> Iterator[str]:
    """For people: counts by kind and exit code, then every fault, those of one form together."""
    codes = sorted({each.ending.code for each in outcomes})
    kinds = Counter(each.kind for each in outcomes)
    table = Counter((each.kind, each.ending.code) for each in outcomes)
    wide = max(map(len, kinds), default=4)
    yield f"{'kind':<{wide}} {'cases':>6} " + " ".join(f"{code:>5}" for code in codes)
    for kind, count in sorted(kinds.items()):
        cells = " ".join(f"{table[kind, code] or '':>5}" for code in codes)
        yield f"{kind:<{wide}} {count:>6} {cells}"
    most = max((each.ending.memory_bytes for each in outcomes), default=0)
    longest = max((each.ending.seconds for each in outcomes), default=0.0)
    faulty = [each for each in outcomes if each.faults]
    yield (
        f"{len(outcomes):,} cases in {seconds:.0f} s; the longest took {longest:.1f} s, the "
        f"largest {most / 1e9:.2f} GB; {len(faulty)} have faults."
    )
    groups: dict[str, list[Outcome]] = {}
    for each in faulty:
        groups.setdefault(form_of(each), []).append(each)
    for form, members in sorted(groups.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        yield ""
        yield f"{len(members)} x {form}"
        for one in sorted(members, key=lambda each: len(each.words))[:SHOWN]:
            yield f"  --seed {one.seed} --only {one.index}  ({one.name}), exit {one.ending.code}"
            yield f"    compress {' '.join(one.words)[:300]}"
            for fault in one.faults:
                yield f"    {fault[:300]}"
            killed = one.ending.hung or one.ending.too_large
            for line in one.stderr[:3] if killed else one.stderr[-2:]:
                yield f"    | {line[:300]}"
        rest = sorted(each.index for each in members)
        if len(rest) > SHOWN:
            yield f"  all: {' '.join(map(str, rest))}"


def form_of(outcome: Outcome) -> str:
    """What faults have in common: kind, fault, and where it happened or what was said last."""
    fault = outcome.faults[0].partition(":")[0]
    if fault in ("hang", "memory", "accepted", "executed", "disk"):
        said = outcome.name if outcome.name != "damaged" else outcome.words[0]
    else:
        said = _without_values(outcome.stderr[-1]) if outcome.stderr else ""
    return f"{outcome.kind}: {fault}: {said}"[:200]


def _without_values(text: str) -> str:
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", text)
    return re.sub(r"[-+]?\d[\d.,e+]*", "N", text)


def to_dict(outcomes: Sequence[Outcome], seed: int, seconds: float) -> dict[str, object]:
    """Plain values for JSON."""
    counts: dict[str, dict[str, int]] = {}
    for each in outcomes:
        of_kind = counts.setdefault(each.kind, {})
        code = str(each.ending.code)
        of_kind[code] = of_kind.get(code, 0) + 1
    return {
        "seed": seed,
        "cases": len(outcomes),
        "seconds": round(seconds, 1),
        "longest_s": round(max((each.ending.seconds for each in outcomes), default=0.0), 3),
        "largest_mb": max((each.ending.memory_bytes for each in outcomes), default=0) // 10**6,
        "exit_codes": counts,
        "faults": [each.to_dict() for each in outcomes if each.faults],
    }
