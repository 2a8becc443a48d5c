"""What is said of a network beside its weights: by the user, and to the user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from compress.errors import CheckpointError, UnknownName, UsageError
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


# What can be stated of a network beside its name: field -> what reads its value.
_STATABLE: dict[str, Callable[[str], Any]] = {
    "shortcut": str,
    "stride_conv": _count,
    "stem_channels": _count,
    "conv_bias": _truth,
    "first_shortcut": _truth,
    "num_classes": _count,
    "pool": _count,
}


@dataclass(frozen=True)
class Statement:
    """What the user says that some weights are: NAME or NAME,FIELD=VALUE,...

    The name gives family, depth and width; the fields are those of ``ModelSpec``, each an exact
    condition: shortcut, stride_conv, stem_channels, conv_bias, first_shortcut, num_classes, pool.
    Examples: "wrn-40-2", "resnet-20,shortcut=pad-both", "wrn-16-2,shortcut=input,stride_conv=2".

    Attributes:
        text: as it was written.
        spec: the network, where a field was not stated with its usual value.
        fields: the fields that were stated.
        option_a: whether 'resnet-DEPTH-a' excludes 1x1 shortcuts.
    """

    text: str
    spec: ModelSpec
    fields: tuple[str, ...] = ()
    option_a: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a statement.

        Raises:
            UsageError: the name names no network, or a value is impossible.
            UnknownName: there is no such field; names the nearest.
        """
        name, *parts = (part.strip() for part in text.split(","))
        fields: dict[str, Any] = {}
        for part in parts:
            key, equals, value = part.partition("=")
            key = key.strip().lower().replace("-", "_")
            if not equals:
                raise UsageError(
                    f"'{part}' in '{text}' is not FIELD=VALUE. Write for instance "
                    "resnet-20,shortcut=pad-both."
                )
            if key not in _STATABLE:
                raise UnknownName("field of a network that can be stated", key, _STATABLE)
            if key in fields:
                raise UsageError(f"'{text}' states {key} twice. State it once.")
            try:
                fields[key] = _STATABLE[key](value.strip().lower())
            except ValueError as error:
                raise UsageError(f"{key} is '{value.strip()}' in '{text}', not {error}.") from None
        plain = ModelSpec.parse(name)
        if plain.shortcut == "conv" and "conv" not in fields.setdefault("shortcut", "conv"):
            raise UsageError(
                f"'{text}' is contradictory: -b means shortcut=conv. Leave one of them out."
            )
        option_a = plain.arch == "resnet" and name.lower().endswith("a")
        if option_a and "conv" in fields.get("shortcut", ""):
            raise UsageError(
                f"'{text}' is contradictory: -a means padded shortcuts. Leave one of them out."
            )
        return cls(text, ModelSpec.parse(name, **fields), tuple(fields), option_a)

    @classmethod
    def of(cls, said: str | ModelSpec) -> Self:
        """A text, or a network of which family, depth and width count (and 1x1 shortcuts)."""
        if isinstance(said, str):
            return cls.parse(said)
        return cls(said.name, said, ("shortcut",) if "conv" in said.shortcut else ())

    def names(self, arch: str, widths: tuple[int, ...]) -> bool:
        """Whether it is of this family and has stages of these widths."""
        return self.spec.arch == arch and self.spec.stage_channels == widths

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
        same = [
            spec
            for spec in found
            if self.names(spec.arch, spec.stage_channels) and spec.depth == self.spec.depth
        ]
        if not same:
            return [f"a {found[0].name}, not the {self.spec.name} that was stated"]
        faults = []
        if self.option_a and all("conv" in spec.shortcut for spec in same):
            faults.append(
                f"a {same[0].name} with shortcut={same[0].shortcut}, not the stated option A"
            )
        for name in self.fields:
            wanted = getattr(self.spec, name)
            values = list(dict.fromkeys(getattr(spec, name) for spec in same))
            if wanted not in values:
                seen = " or ".join(map(str, values))
                faults.append(f"a {same[0].name} with {name}={seen}, not the stated {wanted}")
        if not faults and not any(
            all(getattr(spec, name) == getattr(self.spec, name) for name in self.fields)
            for spec in same
        ):
            faults.append(f"a {same[0].name}, but not with everything in '{self.text}'")
        return faults


def statement_of(spec: ModelSpec) -> str:
    """How to state a network with what its weights do not show: 'resnet-20,shortcut=pad,...'."""
    if spec.arch == "inception":
        return f"{spec.name},shortcut={spec.shortcut}"
    pool = f",pool={spec.pool}" if spec.pool else ""
    return f"{spec.name},shortcut={spec.shortcut},stride_conv={spec.stride_conv}{pool}"


def structure(spec: ModelSpec) -> str:
    """The fields of a network that weights do not show, in words."""
    words = {
        "pad": "shortcuts padded at the end",
        "pad-both": "shortcuts padded at both ends",
        "conv": "1x1 shortcuts",
        "conv-all": "1x1 shortcuts in every block",
        "preactivation": "shortcuts of the activated input",
        "input": "shortcuts of the raw input",
        "padded": "padded downsampling",
        "unpadded": "downsampling without padding",
    }[spec.shortcut]
    if spec.arch == "inception":
        return words
    if spec.pool:
        words = f"averages over {spec.pool}x{spec.pool} windows, {words}"
    return f"{words} with the stride in the {('first', 'second')[spec.stride_conv - 1]} convolution"
