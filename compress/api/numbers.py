"""The limits of numbers that options of one name have in every function and command."""

from __future__ import annotations

from typing import Any

from compress.errors import UsageError


def check_numbers(**values: Any) -> None:
    """Refuses numbers that no option of their name takes, whatever the function is.

    Args:
        values: by the name of their option; None where they are not given.

    Raises:
        UsageError: some are out of range; all of them are told.
    """
    faults = [
        f"--{name.replace('_', '-')} {fault}"
        for name, value in values.items()
        if value is not None and (fault := fault_of(name, value, type(value)))
    ]
    if faults:
        raise UsageError(f"{'; '.join(faults)}.")


def fault_of(name: str, value: Any, kind: Any) -> str:
    """What is wrong with what an option is given, or nothing.

    Args:
        name: of the option, which may have limits.
        value: what it is given: plain values, as TOML has them.
        kind: the type that it has to be of: a scalar's, or a list of some.
    """
    from compress.schema import Decoder, rules  # here, because --help must not wait for it

    limits: dict[str, Any] = {
        "threads": rules.Threads,
        "batch": rules.Batch,
        "epochs": rules.Epochs,
        "seed": rules.Seed,
        "percentile": rules.Percentile,
        "max_seconds": rules.Positive,
    }
    decoder = Decoder()
    found = decoder.value(kind, value, "")
    if not decoder.faults and name in limits:
        several = found if isinstance(found, list | tuple) else [found]
        # A text is a list of numbers, such as profile's "1,8", which its command reads.
        for each in (number for number in several if not isinstance(number, str)):
            decoder.rules(limits[name], each, "")
    return decoder.faults[0].removeprefix("it ") if decoder.faults else ""
