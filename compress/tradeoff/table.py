"""Budget in, student out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from compress.errors import Inconclusive, NoStudentFits, UsageError
from compress.limits import Judgement
from compress.models.registry import with_dropout
from compress.spec import AUTO, Budget, ModelSpec
from compress.tradeoff.candidates import Candidate, candidate_name, grid
from compress.tradeoff.choice import Choice, about_headroom, make_rows
from compress.tradeoff.predictor import SHIPPED_FOR, SOURCE, Prediction, Predictor
from compress.tradeoff.runs import Plan, counts_for, load_runs
from compress.tradeoff.search import Limits, Measurement, SearchResult, search
from compress.tradeoff.storage import StoredTable, read_table
from compress.tradeoff.trials import FLOAT, PrecisionTrial
from compress.units import format_bytes, format_percent, format_time

if TYPE_CHECKING:
    from compress.profiling.inputs import Sample

WARNINGS_SHOWN = 3
ANY_PLAN = Plan()


class Measurer(Protocol):
    """Gives what networks take.

    Attributes:
        machine: where.
        paired: whether candidates are timed in the same rounds as the teacher where the budget is
            relative to it.
    """

    machine: dict[str, Any]
    paired: bool

    def measure(
        self, spec: ModelSpec, budget: Budget, limit_s: float | None, *, again: bool = False
    ) -> Measurement | None:
        """One network's latency and size; None where it is not to be had."""
        ...


class StoredMeasurer:
    """Gives what was measured elsewhere and saved."""

    paired = False

    def __init__(self, table: StoredTable, teacher: ModelSpec | None = None) -> None:
        self.machine = table.machine
        self._table = table
        self._teacher = None if teacher is None else with_dropout(teacher, 0.0)

    def measure(
        self, spec: ModelSpec, budget: Budget, limit_s: float | None, *, again: bool = False
    ) -> Measurement | None:
        """What the table has.

        Raises:
            UsageError: the table was measured under other conditions than the budget is for.
        """
        asked = {
            "runtime": budget.target.runtime,
            "precision": budget.target.precision,
            "threads": budget.target.threads,
            "batch": budget.batch,
            "percentile": budget.percentile,
        }
        stored = self._table.conditions
        other = [
            f"{key} {stored[key]}, not {value}"
            for key, value in asked.items()
            if stored[key] != value and (key, stored[key]) != ("precision", AUTO)
        ]
        if other:
            raise UsageError(
                f"{self._table.path} was measured with {'; '.join(other)}. Measure it again with "
                "your options, or use its options."
            )
        precision = budget.target.precision
        measured = self._table.measured.get(candidate_name(spec, precision))
        if spec == self._teacher and precision == "fp32" and _alike(spec, self._table.teacher_spec):
            return self._table.teacher or measured
        return measured


class TradeoffTable:
    """Candidates, what they take, and how good they are expected to be.

    Args:
        candidates: what may be chosen.
        predictor: says how good they will be.
        measurer: says what they take.
        scale: what the predicted errors are errors of, a sentence.
        teacher: no student takes more than it; needed for a budget in ``speedup``.
        precisions: those of the candidates, and which of them may be chosen; none for fp32 alone.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        predictor: Predictor,
        measurer: Measurer,
        *,
        scale: str,
        teacher: ModelSpec | None = None,
        precisions: Sequence[PrecisionTrial] = (),
    ) -> None:
        ranked = [
            (candidate, predictor.predict(candidate.spec, candidate.precision))
            for candidate in candidates
        ]
        # Of two that are expected to be as good the one that computes less comes first.
        self._ranked: list[tuple[Candidate, Prediction]] = sorted(
            ranked, key=lambda pair: (pair[1].error, pair[0].costs.macs, pair[0].name)
        )
        self._predictor = predictor
        self._measurer = measurer
        self._scale = scale
        # Dropout is not in the file, so it makes no difference to what is measured.
        self._teacher = None if teacher is None else with_dropout(teacher, 0.0)
        self._precisions = tuple(precisions)

    def select(self, budget: Budget) -> Choice:
        """Chooses the best predicted candidate that keeps the budget.

        A candidate keeps a latency when the upper end of its 95% interval does. With a teacher,
        a student also has to be faster than it where the budget is one of time, and smaller where
        it is one of size.

        Raises:
            NoStudentFits: none does; names the nearest with its figures.
            Inconclusive: none is known to keep it, and one may.
            UsageError: the budget needs a teacher, or a stored table does not decide it.
        """
        start = time.monotonic()
        teacher = self._measure_teacher(budget)
        limits = limits_of(budget, teacher, paired=self._measurer.paired)
        not_faster = {trial.precision for trial in self._precisions if not trial.eligible}
        outcome = search(
            [c for c, _ in self._ranked if c.precision not in not_faster],
            limits,
            lambda candidate, limit_s, again: self._measure(
                candidate, budget, limit_s, again=again
            ),
        )
        if outcome.unmeasured:
            names = ", ".join(candidate.name for candidate in outcome.unmeasured)
            raise UsageError(
                f"The stored table cannot decide this budget, because it has no {names}. Measure "
                "the whole grid on that machine: compress select --all --save TABLE."
            )
        if outcome.chosen is None:
            found = {limits.judge(each) for each in outcome.measured.values()}
            undecided = Judgement.UNDECIDED in found
            told = self._nearest(budget, limits, outcome, undecided=undecided)
            raise Inconclusive(told) if undecided else NoStudentFits(told)
        rows = make_rows(self._ranked, outcome.chosen, outcome.measured, limits, self._precisions)
        return Choice(
            spec=outcome.chosen.spec,
            budget=budget,
            limits=limits,
            rows=rows,
            leave_one_out=self._predictor.leave_one_out,
            scale=self._scale,
            seconds=time.monotonic() - start,
            machine=self._measurer.machine,
            teacher_spec=self._teacher if teacher else None,
            teacher=teacher,
            warnings=_warnings(outcome),
            precisions=self._precisions,
        )

    def measure_all(self, budget: Budget) -> Choice:
        """Measures every candidate, then chooses.

        Raises:
            NoStudentFits, Inconclusive, UsageError: as ``select``.
        """
        limits = limits_of(budget, self._measure_teacher(budget), paired=self._measurer.paired)
        measured = {}
        for candidate, _ in reversed(self._ranked):
            found = self._measure(candidate, budget, limits.latency_s)
            if found is not None:
                measured[candidate.name] = found
        choice = self.select(budget)
        chosen = choice.row.candidate
        searched = {row.name: row.measured for row in choice.rows if row.measured is not None}
        rows = make_rows(self._ranked, chosen, measured | searched, choice.limits, self._precisions)
        return replace(choice, rows=rows)

    def _measure(
        self, candidate: Candidate, budget: Budget, limit_s: float | None, *, again: bool = False
    ) -> Measurement | None:
        there = budget.in_precision(candidate.precision)
        return self._measurer.measure(candidate.spec, there, limit_s, again=again)

    def _measure_teacher(self, budget: Budget) -> Measurement | None:
        if self._teacher is None:
            if budget.speedup is not None:
                raise UsageError("--speedup is relative to a teacher. Give one with --teacher.")
            return None
        there = budget.in_precision("fp32")  # as it is at hand
        teacher = self._measurer.measure(self._teacher, there, None)
        if teacher is None and budget.speedup is not None:
            raise UsageError(
                f"The stored table does not have the teacher {self._teacher.name}. Measure it "
                "again with --teacher."
            )
        return teacher

    def _nearest(
        self, budget: Budget, limits: Limits, outcome: SearchResult, *, undecided: bool
    ) -> str:
        measured = dict(outcome.measured)
        if not measured:
            smallest = min((c for c, _ in self._ranked), key=lambda c: c.file_bytes)
            found = self._measure(smallest, budget, limits.latency_s)
            if found is None:
                return f"No candidate keeps {_asked(limits)}, and none could be measured."
            measured[smallest.name] = found
        name, found = min(measured.items(), key=lambda pair: limits.excess(pair[1]))
        error = next(p.error for c, p in self._ranked if c.name == name)
        latency = found.latency
        if limits.lacks_headroom(found):
            advice = f"It {about_headroom(limits)}."
        else:
            fewer = ", or use a smaller --batch" if budget.batch > 1 else ""
            advice = f"Allow a larger budget{fewer}."
        threads = budget.target.threads
        keeps = "is known to keep" if undecided else "keeps"
        return (
            f"No candidate {keeps} {_asked(limits)} with batch {budget.batch} and {threads} "
            f"thread{'s' * (threads != 1)} on this machine. The nearest is {name}: "
            f"{format_time(latency.value)} (95% interval {format_time(latency.low)} to "
            f"{format_time(latency.high)}), {format_bytes(found.size_bytes)}, predicted error "
            f"{format_percent(error, 1)}. {advice}"
        )


def table_for(
    *,
    num_classes: int,
    input_shape: tuple[int, int, int],
    dataset_name: str = "",
    dataset_sha256: str = "",
    plan: Plan = ANY_PLAN,
    use_runs: bool = True,
    teacher: ModelSpec | None = None,
    teacher_onnx: Path | None = None,
    precisions: Sequence[PrecisionTrial] = (FLOAT,),
    sample: Sample | None = None,
    cache: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> TradeoffTable:
    """The table of this machine: candidates are timed when they are needed.

    Args:
        num_classes: of the student's data.
        input_shape: of the student's data: channels, height, width.
        dataset_name: of that data.
        dataset_sha256: of that data, for what own runs have shown on it.
        plan: how the student is going to be trained; decides which own runs count.
        use_runs: whether any do.
        teacher: no student takes more than it.
        teacher_onnx: the teacher's file, where there is one already; else one is made to be timed.
        precisions: what ``try_precisions`` found.
        sample: images that networks are timed on; None: seeded noise.
        cache: whether to use what was timed earlier.
        say: is told what is being timed.
    """
    from compress.tradeoff.measure import LocalMeasurer

    predictor, scale = _predictor(dataset_name, dataset_sha256, plan, use_runs)
    exported = {}
    if teacher is not None and teacher_onnx is not None:
        exported[with_dropout(teacher, 0.0)] = teacher_onnx
    return TradeoffTable(
        grid(
            num_classes=num_classes,
            input_shape=input_shape,
            precisions=[trial.precision for trial in precisions if trial.runs],
        ),
        predictor,
        LocalMeasurer(
            cache=cache,
            say=say,
            files=exported,
            sample=sample,
            teacher=None if teacher is None else with_dropout(teacher, 0.0),
        ),
        scale=scale,
        teacher=teacher,
        precisions=precisions,
    )


def load_table(
    path: Path,
    *,
    num_classes: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    dataset_name: str = "",
    dataset_sha256: str = "",
    plan: Plan = ANY_PLAN,
    use_runs: bool = True,
    teacher: ModelSpec | None = None,
    precisions: Sequence[PrecisionTrial] = (FLOAT,),
) -> TradeoffTable:
    """A table that ``compress select --save`` measured, here or on another machine.

    Nothing is timed. The predictions are those of here and now.

    Args:
        path: the file, CSV or JSON.
        num_classes: of the student's data, to be compared with the table's; None: not compared.
        input_shape: the same of its images.
        dataset_name: as for ``table_for``.
        dataset_sha256: as for ``table_for``.
        plan: as for ``table_for``.
        use_runs: as for ``table_for``.
        teacher: as for ``table_for``.
        precisions: as for ``table_for``.

    Raises:
        InputError: it is no such table.
        UsageError: it was measured for other data.
    """
    stored = read_table(path)
    for option, asked, there in (
        ("--num-classes", num_classes, stored.num_classes),
        ("--input-shape", input_shape, stored.input_shape),
    ):
        if asked is not None and asked != there:
            shown = asked if isinstance(asked, int) else ",".join(map(str, asked))
            raise UsageError(
                f"{path} was measured for {there}, but the data has {asked}. Measure it again "
                f"with {option} {shown}."
            )
    predictor, scale = _predictor(dataset_name, dataset_sha256, plan, use_runs)
    return TradeoffTable(
        grid(
            num_classes=stored.num_classes,
            input_shape=stored.input_shape,
            precisions=[trial.precision for trial in precisions if trial.runs],
        ),
        predictor,
        StoredMeasurer(stored, teacher),
        scale=scale,
        teacher=teacher,
        precisions=precisions,
    )


def _alike(spec: ModelSpec, stored: ModelSpec | None) -> bool:
    """Whether two networks take the same, though weights may not show how shortcuts are padded."""
    return stored is not None and (spec.name, spec.num_classes, spec.input_shape) == (
        stored.name,
        stored.num_classes,
        stored.input_shape,
    )


def limits_of(budget: Budget, teacher: Measurement | None, *, paired: bool = False) -> Limits:
    """What a student may take, with the teacher and what is left free taken into account.

    Args:
        budget: what was asked for.
        teacher: what the teacher takes.
        paired: whether latencies were taken relative to the teacher's, in the same rounds. Then
            their intervals hold all the uncertainty of a ratio; else its lower end counts.
    """
    asked = [] if budget.latency_s is None else [budget.latency_s]
    times: list[float] = []
    sizes = [] if budget.size_bytes is None else [budget.size_bytes]
    if teacher is not None:
        if budget.speedup is not None:
            latency = teacher.latency
            times.append((latency.value if paired else latency.low) / budget.speedup)
        if times or asked:
            times.append(teacher.latency.low)
        if sizes:
            sizes.append(teacher.size_bytes)
    without = min(times + asked, default=None)
    usable = [] if budget.usable_s is None else [budget.usable_s]
    limit = min(times + usable, default=None)
    if limit == without:
        return Limits(limit, min(sizes, default=None))
    return Limits(limit, min(sizes, default=None), budget.headroom, without)


def _predictor(
    dataset_name: str, dataset_sha256: str, plan: Plan, use_runs: bool
) -> tuple[Predictor, str]:
    known = load_runs(dataset_sha256) if dataset_sha256 else ()
    own = [run for run in known if use_runs and counts_for(run, plan)]
    predictor = Predictor(own, recipe=plan.recipe, epochs=plan.epochs)
    left_out = _left_out(len({run.key for run in known} - {run.key for run in own}), plan, use_runs)
    if predictor.own_rows:
        return predictor, (
            f"Predicted errors are fitted to {predictor.own_rows} own "
            f"{'run' if predictor.own_rows == 1 else 'runs'} on this data, and "
            f"{SOURCE}.{left_out}"
        )
    if dataset_name in SHIPPED_FOR:
        return predictor, f"Predicted errors are fitted to {SOURCE}.{left_out}"
    return predictor, (
        f"Predicted errors are those of {SOURCE}. For other data only their order is "
        f"meaningful.{left_out}"
    )


def _left_out(count: int, plan: Plan, use_runs: bool) -> str:
    """Says which own runs were not taken, and why; nothing where there are none."""
    if not count:
        return ""
    why = "--ignore-runs"
    if use_runs:
        parts = [f"{plan.epochs} epochs"] if plan.epochs is not None else []
        parts += [plan.schedule] if plan.schedule is not None else []
        parts += [f"{plan.train_images:,} images"] if plan.train_images is not None else []
        why = f"not similar to the planned one with {', '.join(parts)}"
    runs = "1 own run on this data does" if count == 1 else f"{count} own runs on this data do"
    return f" {runs} not count: {why} (see `compress runs list`)."


def _asked(limits: Limits) -> str:
    asked = []
    if limits.latency_s is not None:
        free = ""
        if limits.budget_s is not None:
            free = (
                f" ({format_time(limits.budget_s)} with {100 * limits.headroom:.3g}% of it left "
                "free)"
            )
        asked.append(f"{format_time(limits.latency_s)}{free}")
    if limits.size_bytes is not None:
        asked.append(format_bytes(limits.size_bytes))
    return " and ".join(asked)


def _warnings(outcome: SearchResult) -> tuple[str, ...]:
    """What the timings warn of, each once, the chosen one's first."""
    chosen = outcome.chosen.name if outcome.chosen else ""
    names = sorted(outcome.measured, key=lambda name: name != chosen)
    texts = [f"{name}: {text}" for name in names for text in outcome.measured[name].warnings]
    more = len(texts) - WARNINGS_SHOWN
    return (*texts[:WARNINGS_SHOWN], *([f"{more} more such warnings."] if more > 0 else []))
