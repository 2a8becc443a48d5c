"""How far a training is; a saved state is looked at before any of it is taken over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from compress.schema import decode
from compress.schema.rules import Beside, Count, Epochs, NotNegative

Open = Beside(("*",))


@dataclass
class Best:
    """The student after the epoch that did best on the validation images; the first of equals.

    Attributes:
        epoch: from 1; 0 while there is none.
        score: on the validation images; more is better.
        weights: of the student, on the CPU.
    """

    epoch: Count = 0
    score: float = 0.0
    weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Scalars:
    """What the steps of an epoch have returned, on the device; read as seldom as possible.

    Attributes:
        steps: that are done.
        names: of the scalars; empty before the first step.
        table: float32 [all steps of the epoch, names].
    """

    steps: Count = 0
    names: tuple[str, ...] = ()
    table: Tensor = field(default_factory=lambda: torch.empty(0))

    def __post_init__(self) -> None:
        if self.names and self.table.shape[1:] != (len(self.names),):
            raise ValueError(f"table has the shape {list(self.table.shape)}")
        if self.steps > (len(self.table) if self.names else 0):
            raise ValueError(f"steps is {self.steps}, more than the table has rows")

    def add(self, scalars: Mapping[str, Tensor], of: int) -> None:
        """Takes up those of the next step; the epoch has ``of``."""
        values = torch.stack(list(scalars.values()))
        if not self.names:
            self.names = tuple(scalars)
            self.table = values.new_empty(of, len(values))
        self.table[self.steps] = values
        self.steps += 1

    def first_bad(self) -> tuple[int, str, float] | None:
        """Step from 1, name and value of the first that is infinite or not a number."""
        done = self.table[: self.steps].cpu()
        bad = (~torch.isfinite(done)).nonzero()
        if len(bad) == 0:
            return None
        step, column = bad[0].tolist()
        return step + 1, self.names[column], float(done[step, column])

    def means(self) -> dict[str, float]:
        """Each scalar's mean over the steps."""
        return dict(
            zip(self.names, self.table[: self.steps].double().mean(0).tolist(), strict=True)
        )


@dataclass
class Position:
    """How far a training is: the epochs that are done, and the steps of the next.

    Attributes:
        epochs: of the whole training.
        history: a line of metrics an epoch that is done.
        best: the best student so far.
        scalars: what the steps of the unfinished epoch have returned.
        saved: how far the state that was saved last is, for people; empty where there is none.
    """

    epochs: int
    history: list[dict[str, Any]] = field(default_factory=list)
    best: Best = field(default_factory=Best)
    scalars: Scalars = field(default_factory=Scalars)
    saved: str = ""

    @property
    def text(self) -> str:
        """How far it is, for people."""
        if self.scalars.steps == 0:
            return f"epoch {len(self.history)} of {self.epochs}"
        steps = f"step {self.scalars.steps} of {len(self.scalars.table)}"
        return f"{steps} of epoch {len(self.history) + 1} of {self.epochs}"

    def improves(self, score: float) -> bool:
        """Whether a score on the validation images is better than the best so far."""
        return not self.best.epoch or score > self.best.score

    def end_epoch(self, metrics: dict[str, Any]) -> None:
        """Takes up an epoch that is done."""
        self.history.append(metrics)
        self.scalars = Scalars()

    def state_dict(self) -> dict[str, Any]:
        """What ``position_of`` reads."""
        return {
            "history": self.history,
            "best": dict(vars(self.best)),
            "scalars": dict(vars(self.scalars)),
        }


@dataclass(frozen=True)
class Line:
    """What every line of metrics.jsonl has; the recipe's scalars are there besides."""

    epoch: Epochs
    lr: NotNegative
    images_per_s: NotNegative


@dataclass(frozen=True)
class _SavedPosition:
    history: tuple[Annotated[Line, Open], ...]
    best: Best
    scalars: Scalars

    def __post_init__(self) -> None:
        if [line.epoch for line in self.history] != list(range(1, len(self.history) + 1)):
            raise ValueError("the epochs of history are not 1, 2, 3 and so on")
        if self.best.epoch > len(self.history):
            raise ValueError(f"best.epoch is {self.best.epoch} of {len(self.history)}")


@dataclass(frozen=True)
class _Metrics:
    """Nothing but numbers and names, that metrics.jsonl can have."""

    history: tuple[dict[str, float | str | None], ...]


def position_of(saved: Mapping[str, Any], *, epochs: int, evaluated: nn.Module) -> Position:
    """How far the training of a saved state is.

    Args:
        saved: the state.
        epochs: of the whole training.
        evaluated: what ``best`` has the weights of.

    Raises:
        InputError: they are broken, with all that is.
        ValueError: they are of another training.
    """
    where = "where it was is broken"
    found = decode(_SavedPosition, saved, where, beside=("*",))
    decode(_Metrics, {"history": saved["history"]}, where)
    if len(found.history) > epochs:
        raise ValueError(f"{len(found.history)} epochs of {epochs} are done")
    if found.best.epoch:
        here = {name: tuple(value.shape) for name, value in evaluated.state_dict().items()}
        there = {name: tuple(value.shape) for name, value in found.best.weights.items()}
        if here != there:
            raise ValueError("its best weights are of another network")
    return Position(epochs, list(saved["history"]), found.best, found.scalars)


def check_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Refuses a state that an optimiser would take and could not step from.

    Raises:
        ValueError: a number of it is another than was asked for, or a tensor has another shape.
    """
    for ours, theirs in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        for name, value in ours.items():
            # The rate is set before every step.
            if isinstance(value, float) and name != "lr" and theirs.get(name) != value:
                raise ValueError(f"an optimiser's {name} is {theirs.get(name)!r}, not {value}")
    shapes = [p.shape for group in optimizer.param_groups for p in group["params"]]
    for number, state in saved["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.dim() and value.shape != shapes[number]:
                raise ValueError(f"an optimiser's {name} has the shape {list(value.shape)}")
