"""Plain values to dataclasses, by their annotations; all that is wrong is told at once."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union

from compress.errors import CompressError, InputError
from compress.schema.rules import Beside, Key, PartOf, Rest, Rule
from compress.schema.texts import Row, parse_json
from compress.schema.words import MAX_INT, key_told, nearest, shown, told

T = TypeVar("T")

# More faults are counted only.
FAULTS_TOLD = 12

_FLOAT = re.compile(
    r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?|nan)", re.ASCII | re.IGNORECASE
)


def decode(
    kind: type[T],
    value: object,
    where: str,
    *,
    error: type[CompressError] = InputError,
    mend: str = "",
    beside: Sequence[str] = (),
    complete: bool = False,
) -> T:
    """Plain values -> a dataclass (or anything else that can be annotated).

    A field without a default has to be there, a key that is no field may not. A field may be an
    int (no bool), a finite float (a whole number is one), str, bool, Any, a list, a tuple, a
    dictionary of texts, a Literal, an Enum, a dataclass, or a union of those; what is written in
    Annotated holds besides. What ``__post_init__`` raises is a fault like others.

    Args:
        kind: the class.
        value: plain values; the texts of a ``Row`` are read as numbers where numbers are asked for.
        where: how the message begins: "b.json is no baseline".
        error: to raise.
        mend: a sentence for the message's end.
        beside: keys that a dataclass's table may have besides, "*" for any; they are not looked
            at.
        complete: whether the fields with a default have to be there, too.

    Raises:
        CompressError: as ``error`` says, with everything that is wrong.
    """
    decoder = Decoder()
    if complete and isinstance(value, dict):
        for key, field in fields_of(typing.cast(Any, kind)).items():
            if key not in value and not field.needed:
                decoder.fault(key, "is missing")
    annotated: Any = Annotated[kind, Beside(tuple(beside))] if beside else kind
    found = decoder.value(annotated, value, "")
    decoder.refuse(where, error=error, mend=mend)
    return typing.cast(T, found)


def decode_json(
    kind: type[T],
    text: str | bytes,
    where: str,
    *,
    error: type[CompressError] = InputError,
    mend: str = "",
) -> T:
    """A JSON text -> a dataclass; see ``parse_json`` and ``decode``.

    Raises:
        CompressError: as ``error`` says, with everything that is wrong.
    """
    try:
        values = parse_json(text, "it")
    except InputError as fault:
        raise error(f"{where}: {fault}{mend and ' ' + mend}") from fault
    return decode(kind, values, where, error=error, mend=mend)


def decode_or_none(kind: type[T], value: object) -> T | None:
    """The same; None where anything is wrong, for what can be made again."""
    decoder = Decoder()
    found = decoder.value(kind, value, "")
    return None if decoder.faults else typing.cast(T, found)


class Decoder:
    """Decodes values and collects what is wrong with them.

    Attributes:
        faults: a phrase each; of more than FAULTS_TOLD the number only.
    """

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._more = 0

    def fault(self, path: str, text: str) -> None:
        """Adds what is wrong with the value at a path: "is -1, it must be ..."."""
        self._add(f"{path or 'it'} {text}")

    def _add(self, fault: str) -> None:
        if len(self.faults) < FAULTS_TOLD:
            self.faults.append(fault)
        else:
            self._more += 1

    def refuse(
        self, where: str, *, error: type[CompressError] = InputError, mend: str = ""
    ) -> None:
        """Ends with everything that is wrong, if anything is.

        Raises:
            CompressError: as ``error`` says.
        """
        if self.faults:
            more = [f"{self._more:,} more"] if self._more else []
            raise error(f"{where}: {'; '.join(self.faults + more)}.{mend and ' ' + mend}")

    def value(self, kind: Any, value: Any, path: str) -> Any:
        """A value of the annotation ``kind``; None, and a fault, where it is none."""
        rules: tuple[Any, ...] = ()
        if typing.get_origin(kind) is Annotated:
            kind, *more = typing.get_args(kind)
            rules = tuple(more)
        found_before = len(self.faults) + self._more
        found = self._typed(kind, value, path, rules)
        if found is None or len(self.faults) + self._more > found_before:
            return found
        for rule in rules:
            if isinstance(rule, Rule) and (fault := rule.fault(found)):
                self.fault(path, fault)
                return None
        return found

    def fields(
        self,
        cls: type,
        values: Any,
        path: str,
        *,
        beside: Sequence[str] = (),
        without: Sequence[str] = (),
        all_needed: bool = False,
    ) -> dict[str, Any]:
        """Those fields of a dataclass that a table has, decoded; those that are right.

        Args:
            cls: the dataclass.
            values: the table.
            path: its name; empty at the top.
            beside: keys that may be there and are not looked at.
            without: fields that may not be there.
            all_needed: whether a field without a default has to be there.
        """
        if not isinstance(values, dict):
            self.fault(path, f"is {shown(values)}, it must be a table")
            return {}
        known = {key: field for key, field in fields_of(cls).items() if field.name not in without}
        if rest := next((field for field in known.values() if field.rest), None):
            known = {key: field for key, field in known.items() if not field.rest}
            others = {key: inner for key, inner in values.items() if key not in known}
            values = {key: inner for key, inner in values.items() if key in known}
        for key in values:
            if key not in known and key not in beside and "*" not in beside:
                self.fault(path, f"has no key {key_told(key)}{nearest(key, list(known))}")
        found = {}
        for key, field in known.items():
            place = f"{path}.{key}" if path else key
            if key in values:
                before = len(self.faults) + self._more
                inner = values[key]
                if isinstance(values, Row) and isinstance(inner, str):
                    inner = _of_text(field.kind, inner)
                value = self.value(field.kind, inner, place)
                if len(self.faults) + self._more == before:
                    found[field.name] = value
            elif field.needed and all_needed:
                self.fault(place, "is missing")
        if rest:
            found[rest.name] = self.value(rest.kind, others, path)
        return found

    def rules(self, kind: Any, value: Any, path: str) -> None:
        """Adds what the rules of an annotation say of a value of its type; None is right."""
        if value is None:
            return
        origin, kinds = typing.get_origin(kind), typing.get_args(kind)
        if origin is Annotated:
            self.rules(kinds[0], value, path)
            for rule in kinds[1:]:
                if isinstance(rule, Rule) and (fault := rule.fault(value)):
                    self.fault(path, fault)
        elif origin in (Union, UnionType):
            for inner in kinds:
                self.rules(inner, value, path)
        elif origin is tuple:
            repeated = kinds[-1] is Ellipsis
            for place, each in enumerate(value):
                self.rules(
                    kinds[0] if repeated else kinds[min(place, len(kinds) - 1)],
                    each,
                    f"{path}[{place}]",
                )

    # --- By kind ---------------------------------------------------------------------------------

    def _typed(self, kind: Any, value: Any, path: str, rules: tuple[Any, ...]) -> Any:
        origin = typing.get_origin(kind)
        for rule in rules:
            if isinstance(rule, PartOf):
                return self.fields(rule.cls, value, path, beside=rule.beside, without=rule.without)
        if kind in (Any, object):
            return value
        if origin in (Union, UnionType):
            return self._union(typing.get_args(kind), value, path)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, kind):
            return value
        if dataclasses.is_dataclass(kind):
            beside = [name for rule in rules if isinstance(rule, Beside) for name in rule.names]
            return self._dataclass(typing.cast(type, kind), value, path, beside)
        if not _is_of(kind, value):
            self.fault(path, f"is {shown(value)}, it must be {told(kind)}")
            return None
        if isinstance(kind, type) and issubclass(kind, Enum):
            return kind(value)
        if origin in (list, tuple, Sequence):
            return self._list(kind, value, path)
        if origin in (dict, Mapping):
            (_, inner) = typing.get_args(kind)
            return {
                key: self.value(inner, each, f"{path}.{key_told(key)}" if path else key_told(key))
                for key, each in value.items()
            }
        if kind in (int, float):
            return self._number(kind, value, path)
        return value

    def _union(self, kinds: tuple[Any, ...], value: Any, path: str) -> Any:
        if value is None and NoneType in kinds:
            return None
        others = [kind for kind in kinds if kind is not NoneType]
        fitting = next((kind for kind in others if _is_of(kind, value)), None)
        if fitting is None and len(others) > 1:
            names = " or ".join(map(told, others))
            self.fault(path, f"is {shown(value)}, it must be {names}")
            return None
        return self.value(fitting or others[0], value, path)

    def _dataclass(self, cls: type, value: Any, path: str, beside: Sequence[str]) -> Any:
        before = len(self.faults) + self._more
        given = self.fields(cls, value, path, beside=beside, all_needed=True)
        if len(self.faults) + self._more > before:
            return None
        try:
            return cls(**given)
        except (ValueError, OverflowError, CompressError) as fault:
            self._add(f"{path}: {fault}".removeprefix(": ").rstrip("."))
            return None

    def _list(self, kind: Any, value: list[Any], path: str) -> Any:
        kinds = typing.get_args(kind)
        if typing.get_origin(kind) is tuple and kinds[-1] is not Ellipsis:
            if len(value) != len(kinds):
                self.fault(path, f"is {shown(value)}, it must be {told(kind)}")
                return None
        else:
            kinds = (kinds[0],) * len(value)
        found = [
            self.value(inner, each, f"{path}[{place}]")
            for place, (inner, each) in enumerate(zip(kinds, value, strict=True))
        ]
        return tuple(found) if typing.get_origin(kind) is tuple else found

    def _number(self, kind: Any, value: float, path: str) -> Any:
        if isinstance(value, int) and not -MAX_INT <= value <= MAX_INT:
            self.fault(path, "is a number beyond 64 bits")
            return None
        if kind is float and not math.isfinite(value):
            self.fault(path, f"is {value}, it must be a finite number")
            return None
        return float(value) if kind is float else value


def faults_of(instance: Any) -> list[str]:
    """What the rules in a dataclass's annotations say of an instance's fields, a phrase each.

    For ``__post_init__``, where a value may come from anywhere. Types are not looked at.
    """
    decoder = Decoder()
    for field in fields_of(typing.cast(Any, type(instance))).values():
        decoder.rules(field.kind, getattr(instance, field.name), field.name)
    return decoder.faults


def of_text(kind: Any, text: str) -> Any:
    """A text as a value of the annotation ``kind``: 3, 0.5, yes, no, none where that may be.

    Raises:
        ValueError: it is none.
    """
    decoder = Decoder()
    found = decoder.value(kind, _of_text(kind, text), "")
    if decoder.faults:
        raise ValueError(decoder.faults[0])
    return found


def _of_text(kind: Any, text: str) -> Any:
    """A text as the plain value that is meant; itself where it means none of the kind."""
    kinds = list(_alternatives(kind))
    if NoneType in kinds and text in ("", "none"):
        return None
    if bool in kinds and text in ("yes", "no"):
        return text == "yes"
    if int in kinds and re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII):
        return int(text)
    if float in kinds and _FLOAT.fullmatch(text):
        return float(text)
    return text


def _alternatives(kind: Any) -> Iterator[Any]:
    """The types that an annotation is a union of."""
    origin = typing.get_origin(kind)
    if origin is Annotated:
        yield from _alternatives(typing.get_args(kind)[0])
    elif origin in (Union, UnionType):
        for each in typing.get_args(kind):
            yield from _alternatives(each)
    else:
        yield kind


@dataclass(frozen=True)
class Field:
    """A field of a dataclass.

    Attributes:
        name: its own.
        kind: its annotation.
        needed: whether it has no default.
        rest: whether it has all keys of a table that no other field has (see ``Rest``).
    """

    name: str
    kind: Any
    needed: bool
    rest: bool


@functools.cache
def fields_of(cls: Any) -> dict[str, Field]:
    """The fields of a dataclass, by what they are called in a text."""
    hints = typing.get_type_hints(cls, include_extras=True)
    found = {}
    for field in dataclasses.fields(cls):
        if field.init:
            kind = hints[field.name]
            rules = typing.get_args(kind)[1:] if typing.get_origin(kind) is Annotated else ()
            key = next((rule.name for rule in rules if isinstance(rule, Key)), field.name)
            needed = (
                field.default is dataclasses.MISSING
                and field.default_factory is dataclasses.MISSING
            )
            rest = any(isinstance(rule, Rest) for rule in rules)
            found[key] = Field(field.name, kind, needed, rest)
    return found


def _is_of(kind: Any, value: Any) -> bool:
    """Whether a plain value is of an annotation, without looking into it."""
    origin = typing.get_origin(kind)
    if origin is Annotated:
        return _is_of(typing.get_args(kind)[0], value)
    if origin is Literal:
        return any(value == each and type(value) is type(each) for each in typing.get_args(kind))
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple)
    if origin in (dict, Mapping) or dataclasses.is_dataclass(kind):
        return isinstance(value, dict)
    if kind in (int, float):
        right = int if kind is int else int | float
        return isinstance(value, right) and not isinstance(value, bool)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return any(value == each.value and type(value) is type(each.value) for each in kind)
    return isinstance(value, kind)
