"""Finding the best predicted candidate that keeps a budget without timing all of them.

Latency grows with depth and width. So a candidate that was timed and is too slow rules out every
one of its family that is no shallower and no narrower. What is left over that is predicted better
than the best one that fits has to be timed, until nothing is left: then the answer is the one
that timing them all would have given.

Growth is a matter of the runtime's kernels, too, so a candidate rules others out only when it is
too slow by a margin (``MARGIN``), and the immediate neighbours of the answer, one step deeper and
one step wider, are timed even where they are ruled out. A machine that others use is slow for
moments, too. So what was predicted better and found only just too slow is timed once more before
the answer stands.

A model of the latency, linear in layers and MACs and fitted to what was timed so far, decides
what is timed next. It never decides what fits.

All of that holds among candidates of one precision: what one takes in 32 bits says nothing certain
of what another takes in 8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compress.limits import Judgement, judge, worst
from compress.results import Estimate
from compress.tradeoff.candidates import Candidate, dominates, is_step

# For noise, not for kernels: of the 1105 pairs of a smaller and a larger candidate none has been
# seen in which the larger was faster in the same rounds (benchmarks/results/latency_grid.csv; all
# widths are multiples of the 16 channels that the kernels take at a time).
MARGIN = 0.05

# What was too slow by no more than this may have been timed in a slow moment. Of 120 files timed
# again minutes later three took more than 1.25 times as long (benchmarks/results/budget_kept*.md).
SLOW_MOMENT = 0.25

# The size of a file is known within this before it is exported (compress/tradeoff/costs.py), and
# the metadata of the one that ships may be longer than that of the one that is timed.
SIZE_MARGIN = 0.01
SIZE_SLACK_BYTES = 4096

# Seconds for a layer and for a MAC, one image, two threads of a server CPU of 2023. Only the
# first candidate to be timed is chosen by these.
LAYER_S = 14e-6
MAC_S = 7.2e-12


@dataclass(frozen=True)
class Measurement:
    """What one candidate takes on the machine.

    Attributes:
        latency: seconds a call.
        size_bytes: of its exported file.
        rounds: that the latency rests on.
        all_calls_s: the median of all calls, where ``latency`` is that of undisturbed ones.
        undecided: timed for as long as allowed, and the budget was still undecided.
        cached: measured earlier, not by this process.
        warnings: about the timing, a sentence each.
    """

    latency: Estimate
    size_bytes: int
    rounds: int = 0
    all_calls_s: float | None = None
    undecided: bool = False
    cached: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """What a candidate may take; None is no limit.

    Attributes:
        latency_s: seconds of a call.
        size_bytes: of the file.
        headroom: of the time asked for, as a fraction of 1, that ``latency_s`` leaves free.
        budget_s: what ``latency_s`` would be without it; None where that is no other one.
    """

    latency_s: float | None = None
    size_bytes: float | None = None
    headroom: float = 0.0
    budget_s: float | None = None

    def judge(self, found: Measurement) -> Judgement:
        """Whether a candidate keeps all limits."""
        size = Judgement.MISSED if self._size(found) > 1 else Judgement.KEPT
        return worst((size, self.judge_latency(found)))

    def judge_latency(self, found: Measurement) -> Judgement:
        """Whether a candidate keeps the limit of the latency."""
        if self.latency_s is None:
            return Judgement.KEPT
        return judge(found.latency, self.latency_s, all_calls=found.all_calls_s)

    def kept_by(self, found: Measurement) -> bool:
        """Whether a candidate is known to keep all limits."""
        return self.judge(found) is Judgement.KEPT

    def excess(self, found: Measurement) -> float:
        """The larger of latency and size, as a multiple of what it may be."""
        return max(self._time(found), self._size(found))

    def nearly_kept_by(self, found: Measurement) -> bool:
        """Whether they would be, had it been timed in a slow moment."""
        return 1 < self._time(found) <= 1 + SLOW_MOMENT and self._size(found) <= 1

    def lacks_headroom(self, found: Measurement) -> bool:
        """Whether it keeps the limits, but does not leave free what is to be left free."""
        if self.budget_s is None or self.kept_by(found):
            return False
        return Limits(self.budget_s, self.size_bytes).kept_by(found)

    def too_large(self, candidate: Candidate) -> bool:
        """Whether the file is too large for certain, before it is exported."""
        size = candidate.file_bytes * (1 - SIZE_MARGIN)
        return self.size_bytes is not None and size > self.size_bytes

    def _time(self, found: Measurement) -> float:
        if self.latency_s is None:
            return 0.0
        return max(found.latency.high, found.all_calls_s or 0.0) / self.latency_s

    def _size(self, found: Measurement) -> float:
        if self.size_bytes is None:
            return 0.0
        return (found.size_bytes + SIZE_SLACK_BYTES) / self.size_bytes


# Gives what a candidate takes, timed until it is clear of the limit where possible. ``again``
# asks for it to be timed now, whatever is known. None: it cannot be measured (a stored table lacks
# it).
Measure = Callable[[Candidate, float | None, bool], Measurement | None]


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        chosen: None where nothing fits.
        measured: by candidate's name, in the order of timing.
        unmeasured: candidates that would have had to be measured, and could not be.
    """

    chosen: Candidate | None
    measured: dict[str, Measurement]
    unmeasured: tuple[Candidate, ...]


def search(ranked: Sequence[Candidate], limits: Limits, measure: Measure) -> SearchResult:
    """Finds the first of ``ranked`` that keeps the limits.

    Args:
        ranked: candidates, the best predicted first.
        limits: what a candidate may take.
        measure: times one.
    """
    measured: dict[str, Measurement] = {}
    missing: list[Candidate] = []
    optional: set[str] = set()  # asked for, and not to be had
    twice: set[str] = set()  # timed once more

    def look(candidate: Candidate, *, again: bool = False, needed: bool = True) -> None:
        if again:
            twice.add(candidate.name)
        found = measure(candidate, limits.latency_s, again)
        if found is not None:
            measured[candidate.name] = found
        else:
            optional.add(candidate.name)
            if needed:
                missing.append(candidate)

    while True:
        chosen = next(
            (c for c in ranked if c.name in measured and limits.kept_by(measured[c.name])), None
        )
        better = ranked[: ranked.index(chosen)] if chosen else ranked
        unknown = [c for c in better if c.name not in measured and c.name not in optional]
        left = [c for c in unknown if not ruled_out(c, ranked, measured, limits)]
        once = [c for c in better if c.name in measured and c.name not in twice]
        if left:
            look(_next(left, ranked, measured, limits))
        elif chosen and (
            steps := [c for c in unknown if _is_step(c, chosen) and not limits.too_large(c)]
        ):
            look(steps[0], needed=False)
        elif chosen and measured[chosen.name].cached and chosen.name not in twice:
            # By a figure of another day.
            look(chosen, again=True)
        elif nearly := [c for c in once if limits.nearly_kept_by(measured[c.name])]:
            look(nearly[0], again=True, needed=False)
        else:
            break
    return SearchResult(chosen, measured, tuple(missing))


def ruled_out(
    candidate: Candidate,
    ranked: Sequence[Candidate],
    measured: dict[str, Measurement],
    limits: Limits,
) -> Candidate | None:
    """The measured candidate that shows that this one is too slow, or itself if it is too large."""
    if limits.too_large(candidate):
        return candidate
    if limits.latency_s is None:
        return None
    for other in ranked:
        found = measured.get(other.name)
        if (
            found is not None
            and _dominates(candidate, other)
            and judge(found.latency, limits.latency_s / (1 - MARGIN)) is Judgement.MISSED
        ):
            return other
    return None


def _dominates(larger: Candidate, smaller: Candidate) -> bool:
    return larger.precision == smaller.precision and dominates(larger.spec, smaller.spec)


def _is_step(candidate: Candidate, chosen: Candidate) -> bool:
    """Whether a candidate is one step deeper or one step wider."""
    return candidate.precision == chosen.precision and is_step(candidate.spec, chosen.spec)


def _next(
    left: Sequence[Candidate],
    ranked: Sequence[Candidate],
    measured: dict[str, Measurement],
    limits: Limits,
) -> Candidate:
    """What to time next: the best that should fit; else what rules out most at the least cost."""
    if limits.latency_s is None:
        return left[0]
    latency = latency_model(ranked, measured)
    for candidate in left:
        if latency(candidate) <= limits.latency_s:
            return candidate
    # None should fit. Those that dominate no other one have to be timed in any case, for nothing
    # else can rule them out; the fastest of them is the likeliest surprise.
    smallest = [c for c in left if not any(_dominates(c, other) for other in left)]
    return min(smallest, key=latency)


def latency_model(
    ranked: Sequence[Candidate], measured: dict[str, Measurement]
) -> Callable[[Candidate], float]:
    """Seconds as a L + b M over layers L and MACs M, fitted to what was timed in each precision.

    Where nothing was timed in one yet, what was timed in the others counts.
    """
    timed = [c for c in ranked if c.name in measured]
    precisions = {c.precision for c in timed}
    models = {
        precision: _fit([c for c in timed if c.precision == precision], measured)
        for precision in precisions
    }
    other = _fit(timed, measured)
    return lambda candidate: models.get(candidate.precision, other)(candidate)


def _fit(
    timed: Sequence[Candidate], measured: dict[str, Measurement]
) -> Callable[[Candidate], float]:
    """The model of some candidates.

    The sum of squares of relative errors, with a pull towards what is known of another machine,
    scaled to this one, so that a single point is enough.
    """
    points = [(c.costs.layers, c.costs.macs, measured[c.name].latency.value) for c in timed]
    a, b = LAYER_S, MAC_S
    if points:
        ratios = sorted(time / (a * layers + b * macs) for layers, macs, time in points)
        scale = ratios[len(ratios) // 2]
        a, b = a * scale, b * scale
        # Unknowns are u = a'/a and v = b'/b, both 1 before anything is known.
        pull = 0.05
        uu, uv, vv, u1, v1 = pull, 0.0, pull, pull, pull
        for layers, macs, time in points:
            x, y = a * layers / time, b * macs / time
            uu, uv, vv, u1, v1 = uu + x * x, uv + x * y, vv + y * y, u1 + x, v1 + y
        determinant = uu * vv - uv * uv
        u, v = (u1 * vv - v1 * uv) / determinant, (v1 * uu - u1 * uv) / determinant
        if u <= 0:
            u, v = 0.0, v1 / vv
        elif v <= 0:
            u, v = u1 / uu, 0.0
        a, b = a * u, b * v
    return lambda candidate: a * candidate.costs.layers + b * candidate.costs.macs
