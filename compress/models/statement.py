"""What is said of a network beside its weights: by the user, and to the user."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from compress.errors import CheckpointError, UnknownName, UsageError
from compress.models.families.architecture import Architecture
from compress.models.registry import FAMILIES, allowed_by, architecture, parse, spec_of
from compress.spec import ModelSpec


def _truth(text: str) -> bool:
    """'yes' or 'no', in the usual spellings."""
    known = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    if text.lower() not in known:
        raise ValueError("yes or no")
    return known[text.lower()]


def _count(text: str) -> int:
    """A positive whole number."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("a whole number, 1 or more")
    return int(text)


_READERS: dict[type, Callable[[str], Any]] = {bool: _truth, int: _count, str: str}


@dataclass(frozen=True)
class Statement:
    """What the user says that some weights are: NAME or NAME,FIELD=VALUE,...

    The name gives family, depth and width; the fields are num_classes and those parameters of the
    family that it lets state, each an exact condition.
    Examples: "wrn-40-2", "resnet-20,shortcut=pad-both", "wrn-16-2,shortcut=input,stride_conv=2".

    Attributes:
        text: as it was written.
        spec: the network, where a field was not stated with its usual value.
        fields: the fields that were stated.
        allowed: values that the name alone leaves of a field: 'resnet-DEPTH-a' excludes 1x1
            shortcuts.
    """

    text: str
    spec: ModelSpec
    fields: Mapping[str, Any]
    allowed: Mapping[str, tuple[str, ...]]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a statement.

        Raises:
            UsageError: the name names no network, or a value is impossible.
            UnknownName: there is no such field; names the nearest.
        """
        name, *parts = (part.strip() for part in text.split(","))
        plain = spec_of(name)
        family, named = parse(name)
        statable = ("num_classes", *FAMILIES[family].statable)
        fields: dict[str, Any] = {}
        for part in parts:
            key, equals, value = part.partition("=")
            key = key.strip().lower().replace("-", "_")
            if not equals:
                raise UsageError(
                    f"'{part}' in '{text}' is not FIELD=VALUE. Write for instance "
                    "resnet-20,shortcut=pad-both."
                )
            if key not in statable:
                raise UnknownName("field of a network that can be stated", key, statable)
            if key in fields:
                raise UsageError(f"'{text}' states {key} twice. State it once.")
            kind = type(plain.parameters.get(key, plain.num_classes))
            try:
                fields[key] = _READERS[kind](value.strip().lower())
            except ValueError as error:
                raise UsageError(f"{key} is '{value.strip()}' in '{text}', not {error}.") from None
        allowed = allowed_by(name)
        for key, values in allowed.items():
            if fields.get(key, values[0]) not in values:
                raise UsageError(
                    f"'{text}' is contradictory: {name} means {key}={' or '.join(values)}. Leave "
                    "one of them out."
                )
        fields = {key: named[key] for key in statable if key in named} | fields
        return cls(text, spec_of(name, **fields), fields, allowed)

    @property
    def architecture(self) -> Architecture:
        """What is stated."""
        return architecture(self.spec)

    def admits(self, found: ModelSpec) -> bool:
        """Whether a network is what was stated."""
        return not self._differences([found])

    def disagreement(self, what: str, found: Sequence[ModelSpec]) -> CheckpointError:
        """The error where none of the networks that some weights may be is what was stated."""
        return CheckpointError(
            f"{what} {'; '.join(self._differences(found))}. Correct the stated architecture, or "
            "leave it out."
        )

    def _differences(self, found: Sequence[ModelSpec]) -> list[str]:
        """What none of some networks has of what was stated, as ends of a sentence."""
        alike = [spec for spec in found if _looks(spec) == _looks(self.spec)]
        if not alike:
            return [f"a {found[0].name}, not the {self.spec.name} that was stated"]
        facts = [{**spec.parameters, "num_classes": spec.num_classes} for spec in alike]
        each_stated: dict[str, tuple[Any, ...]] = {
            key: (value,) for key, value in self.fields.items()
        }
        conditions: dict[str, tuple[Any, ...]] = {**self.allowed, **each_stated}
        faults = []
        for key, wanted in conditions.items():
            values = list(dict.fromkeys(each[key] for each in facts))
            if not set(values) & set(wanted):
                seen, stated = (" or ".join(map(str, each)) for each in (values, wanted))
                faults.append(f"a {alike[0].name} with {key}={seen}, not the stated {stated}")
        if not faults and not any(
            all(each[key] in wanted for key, wanted in conditions.items()) for each in facts
        ):
            faults.append(f"a {alike[0].name}, but not with everything in '{self.text}'")
        return faults


def _looks(spec: ModelSpec) -> tuple[str, Hashable]:
    """What of a network's name shows in its weights."""
    return spec.family, architecture(spec).visible


def statement_of(spec: ModelSpec) -> str:
    """How to state a network with what its weights do not show: 'resnet-20,shortcut=pad,...'."""
    unseen = architecture(spec).unseen
    return ",".join([spec.name, *(f"{key}={value}" for key, value in unseen.items())])


def structure(spec: ModelSpec) -> str:
    """The parameters of a network that weights do not show, in words."""
    return architecture(spec).structure
