"""What a gate says: an outcome for each thing that was judged, and one for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from compress.errors import ExitCode
from compress.limits import Judgement


class Outcome(StrEnum):
    """How a comparison ended; the worst of several is the first one here that is among them."""

    FAIL = "fail"
    NOT_MEASURED = "not measured"
    INCONCLUSIVE = "inconclusive"
    PASS = "pass"

    @classmethod
    def of(cls, judgement: Judgement) -> Outcome:
        """The outcome that a judgement of a limit is."""
        return _OF_JUDGEMENT[judgement]

    @property
    def judgement(self) -> Judgement | None:
        """The inverse of ``of``; None where nothing was measured."""
        return {outcome: judgement for judgement, outcome in _OF_JUDGEMENT.items()}.get(self)

    @property
    def exit_code(self) -> ExitCode:
        """What the command line ends with."""
        return _EXIT_CODES[self]


_OF_JUDGEMENT = {
    Judgement.MISSED: Outcome.FAIL,
    Judgement.UNDECIDED: Outcome.INCONCLUSIVE,
    Judgement.KEPT: Outcome.PASS,
}
_EXIT_CODES = {
    Outcome.FAIL: ExitCode.FAILS,
    Outcome.NOT_MEASURED: ExitCode.NOT_MEASURED,
    Outcome.INCONCLUSIVE: ExitCode.UNDECIDED,
    Outcome.PASS: ExitCode.DONE,
}


@dataclass(frozen=True)
class Figures:
    """The figures of a comparison as a table shows them, with units; empty where there is none."""

    baseline: str = ""
    candidate: str = ""
    change: str = ""
    allowed: str = ""


@dataclass(frozen=True)
class Comparison:
    """One thing that was judged.

    Attributes:
        name: "latency", "size", "accuracy", "consistency", "classes", "calibration", "parity" or
            "budget".
        outcome: of it.
        reason: one line: what was found, with its uncertainty, and what is allowed.
        evidence: the same as plain values for JSON, SI units and fractions of 1.
        figures: the same for a table; None where there are none.
    """

    name: str
    outcome: Outcome
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    figures: Figures | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "outcome": self.outcome.value,
            "reason": self.reason,
            "evidence": dict(self.evidence),
        }


@dataclass(frozen=True)
class Verdict:
    """All that was judged.

    Attributes:
        comparisons: in the order in which they are shown.
        warnings: what makes them less than they seem, a sentence each.
        about: what was compared with what, where and how, as plain values for JSON.
        not_judged: what was seen, or was not, and makes no outcome; a phrase each.
    """

    comparisons: tuple[Comparison, ...]
    warnings: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    not_judged: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """The worst one; a verdict about nothing is none."""
        found = {one.outcome for one in self.comparisons}
        return next((each for each in Outcome if each in found), Outcome.NOT_MEASURED)

    def exit_code(self, *, inconclusive_passes: bool = False) -> int:
        """What the command line ends with.

        Args:
            inconclusive_passes: whether what is not decided is only warned of.
        """
        if inconclusive_passes and self.outcome is Outcome.INCONCLUSIVE:
            return Outcome.PASS.exit_code
        return self.outcome.exit_code

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "outcome": self.outcome.value,
            "comparisons": [one.to_dict() for one in self.comparisons],
            "warnings": list(self.warnings),
            "not_judged": list(self.not_judged),
            **self.about,
        }
