"""Whether a candidate's outputs are the classes that the baseline's are, by their names."""

from __future__ import annotations

from collections.abc import Sequence

from compress.data.classes import class_mapping, named, names_differ
from compress.errors import DataError
from compress.gate.verdict import Comparison, Outcome


def compare_classes(ours: Sequence[str], theirs: Sequence[str]) -> Comparison | None:
    """The names of the outputs, where both files have some.

    A candidate whose outputs are in another order has as many right by name, and takes another
    one's place for nobody who reads answers by their position.

    Args:
        ours: of the candidate's outputs, in their order.
        theirs: of the baseline's.

    Returns:
        None where one of them names none.
    """
    if not (named(ours) and named(theirs)):
        return None
    evidence = {"candidate": list(ours), "baseline": list(theirs)}
    try:
        moved = class_mapping(ours, theirs) is not None
    except DataError:
        moved = True
    if moved:
        place = next(at for at, pair in enumerate(zip(ours, theirs, strict=True)) if _differ(*pair))
        return Comparison(
            "classes",
            Outcome.FAIL,
            f"its classes are in another order: output {place} is '{ours[place]}', but "
            f"'{theirs[place]}' in the baseline's model. Export it in the baseline's order",
            evidence,
        )
    if names_differ(ours, theirs):
        reason = f"{len(ours)} outputs, some with other names at the same position"
    else:
        reason = f"the same {len(ours)} names in the same order"
    return Comparison("classes", Outcome.PASS, reason, evidence)


def _differ(one: str, other: str) -> bool:
    """Whether two names are those of different classes."""
    return names_differ((one, ""), (other, ""))
