"""The times of a table: each network's file in ONNX Runtime on this machine, beside the paper's.

What a network takes does not depend on its weights, so it is timed untrained, and what was timed
on this machine before is remembered (see ``compress.tradeoff.measure``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from compress.models.registry import spec_of
from compress.pipelines.reproduce.experiment import Experiment, ExperimentTask
from compress.profiling.machine import default_threads
from compress.report import values
from compress.results import Estimate
from compress.spec import Budget, Target
from compress.tradeoff.costs import costs_of
from compress.tradeoff.measure import LocalMeasurer

RUNTIME = "ONNX Runtime"


@dataclass(frozen=True)
class NetworkTime:
    """What a network takes.

    Attributes:
        network: its name.
        params: weights.
        here: seconds for a batch on this machine.
        paper_s: the paper's seconds, where it gives them.
    """

    network: str
    params: int
    here: Estimate
    paper_s: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "network": self.network,
            "params": self.params,
            "here_s": self.here.to_dict(),
            "paper_s": self.paper_s,
        }


@dataclass(frozen=True)
class Times:
    """The times of a task's networks.

    Attributes:
        networks: in the order in which they were declared.
        teacher: the name of the one that the ratios are to; empty where it was not timed.
        batch: images in a call.
        threads: of the runtime.
    """

    networks: tuple[NetworkTime, ...]
    teacher: str
    batch: int
    threads: int

    @property
    def text(self) -> str:
        """How they were measured, for people."""
        return (
            f"Times for {self.batch} images: {RUNTIME} on the CPU of this machine, "
            f"{values.threads(self.threads)}, the median of calls with its 95% interval."
        )

    def of(self, network: str) -> NetworkTime | None:
        """The time of a network."""
        return next((each for each in self.networks if each.network == network), None)

    def ratio(self, network: NetworkTime) -> tuple[float | None, float | None]:
        """Its share of the teacher's time: here, and in the paper."""
        teacher = self.of(self.teacher)
        if teacher is None:
            return None, None
        paper = None
        if network.paper_s is not None and teacher.paper_s is not None:
            paper = network.paper_s / teacher.paper_s
        return network.here.value / teacher.here.value, paper

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "runtime": RUNTIME,
            "batch": self.batch,
            "threads": self.threads,
            "teacher": self.teacher,
            "networks": [each.to_dict() for each in self.networks],
        }


def time_networks(
    experiment: Experiment,
    task: ExperimentTask,
    *,
    num_classes: int,
    input_shape: tuple[int, int, int],
    say: Callable[[str], None],
    check: Callable[[], None],
) -> Times | None:
    """Times the declared networks that the task has, and its teacher.

    Args:
        experiment: whose networks are declared.
        task: with the students and the teacher.
        num_classes: of the data.
        input_shape: of the data: channels, height, width.
        say: is told what is being timed.
        check: raises where time is over; it is asked before each.

    Returns:
        None where there is nothing to time.

    Raises:
        ExportError, ModelFileError, Inconclusive: a network cannot be timed.
    """
    teacher = task.teacher.arch if task.teacher is not None else ""
    wanted = {**dict.fromkeys(task.students), **({teacher: None} if teacher else {})}
    declared = [each for each in experiment.timing if each.network in wanted]
    if not declared:
        return None
    threads = default_threads()
    budget = Budget(batch=experiment.timing_batch, target=Target(threads=threads))
    measurer = LocalMeasurer(say=say)

    def times() -> Iterator[NetworkTime]:
        for each in declared:
            check()
            spec = spec_of(each.network, num_classes=num_classes, input_shape=input_shape)
            found = measurer.measure(spec, budget, None)
            yield NetworkTime(each.network, costs_of(spec).params, found.latency, each.paper_s)

    return Times(tuple(times()), teacher, experiment.timing_batch, threads)
