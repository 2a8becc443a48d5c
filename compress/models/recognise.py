"""Which network a set of weights is, read from shapes and from how their names group and number.

No layer is looked up by its name. A name counts for three things: what lies under one prefix
belongs together, numbers give an order, and alike things in all blocks are called alike.

    4-D weights            convolutions: the stem reads the image, the 3x3 ones pair into blocks,
                           the 1x1 ones are shortcuts (or the classifier)
    four alike 1-D         a batch norm
    2-D                    the classifier
    blocks of one width    a stage; its first block is the one whose input is narrower
    sizes of batch norms   pre-activation (norms before the convolutions: WRN) or post-activation
                           (after them: ResNet)

What the shapes do not show (where option A pads, what a WRN shortcut reads, which convolution
has the stride) comes back as several hypotheses, the most common first; only images tell them
apart.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from compress.errors import CheckpointError, UnknownName, UsageError
from compress.models.registry import Network, build
from compress.spec import ModelSpec, Normalization

Token = str | int
Tokens = tuple[Token, ...]

FAMILIES = (
    "Known are wide residual networks (wrn-DEPTH-WIDTH, depth 6n+4) and CIFAR ResNets "
    "(resnet-DEPTH, depth 6n+2), both with a 3x3 stem, three stages of widths 1:2:4 and n blocks "
    "of two 3x3 convolutions in each."
)
# More readings of one file than this are not worth trying on images.
LARGEST_NUMBER_OF_READINGS = 8


@dataclass(frozen=True)
class Hypothesis:
    """One reading of a checkpoint.

    Attributes:
        spec: the network.
        state_dict: its weights under the names that ``build(spec)`` uses, float32.
        normalization: where the file has it as a layer of the network; else None.
        notes: what was assumed or left out, in sentences.
    """

    spec: ModelSpec
    state_dict: Mapping[str, Tensor]
    normalization: Normalization | None = None
    notes: tuple[str, ...] = ()


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
}


@dataclass(frozen=True)
class Statement:
    """What the user says that some weights are: NAME or NAME,FIELD=VALUE,...

    The name gives family, depth and width; the fields are those of ``ModelSpec``, each an exact
    condition: shortcut, stride_conv, stem_channels, conv_bias, first_shortcut, num_classes.
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
                    f"'{part}' in '{text}' states nothing. Write FIELD=VALUE after the name, "
                    "for instance resnet-20,shortcut=pad-both."
                )
            if key not in _STATABLE:
                raise UnknownName("field of a network that can be stated", key, _STATABLE)
            if key in fields:
                raise UsageError(f"'{text}' states {key} twice; state it once.")
            try:
                fields[key] = _STATABLE[key](value.strip().lower())
            except ValueError as error:
                raise UsageError(f"{key} is '{value.strip()}' in '{text}', not {error}.") from None
        plain = ModelSpec.parse(name)
        if plain.shortcut == "conv" and fields.setdefault("shortcut", "conv") != "conv":
            raise UsageError(
                f"'{text}' contradicts itself: -b means shortcut=conv. Leave one of them out."
            )
        option_a = plain.arch == "resnet" and name.lower().endswith("a")
        if option_a and fields.get("shortcut") == "conv":
            raise UsageError(
                f"'{text}' contradicts itself: -a means padded shortcuts. Leave one of them out."
            )
        return cls(text, ModelSpec.parse(name, **fields), tuple(fields), option_a)

    @classmethod
    def of(cls, said: str | ModelSpec) -> Self:
        """A text, or a network of which family, depth and width count (and 1x1 shortcuts)."""
        if isinstance(said, str):
            return cls.parse(said)
        return cls(said.name, said, ("shortcut",) if said.shortcut == "conv" else ())

    def names(self, arch: str, widths: tuple[int, ...]) -> bool:
        """Whether it is of this family and has stages of these widths."""
        return self.spec.arch == arch and self.spec.stage_channels == widths

    def admits(self, found: ModelSpec) -> bool:
        """Whether a network is what was stated."""
        return not self._differences([found])

    def disagreement(self, what: str, found: Sequence[ModelSpec]) -> CheckpointError:
        """The error where none of the networks that some weights may be is what was stated."""
        return CheckpointError(
            f"{what} {'; '.join(self._differences(found))}. Correct what was stated of its "
            "architecture, or leave it out."
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
        if self.option_a and all(spec.shortcut == "conv" for spec in same):
            faults.append(f"a {same[0].name} with shortcut=conv, not the stated option A")
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
            faults.append(f"a {same[0].name}, but not with all together of '{self.text}'")
        return faults


def statement_of(spec: ModelSpec) -> str:
    """How to state a network with what its weights do not show: 'resnet-20,shortcut=pad,...'."""
    return f"{spec.name},shortcut={spec.shortcut},stride_conv={spec.stride_conv}"


def structure(spec: ModelSpec) -> str:
    """The fields of a network that weights do not show, in words."""
    words = {
        "pad": "shortcuts padded at the end",
        "pad-both": "shortcuts padded at both ends",
        "conv": "1x1 shortcuts",
        "preactivation": "shortcuts of the activated input",
        "input": "shortcuts of the raw input",
    }[spec.shortcut]
    return f"{words} with the stride in the {('first', 'second')[spec.stride_conv - 1]} convolution"


def recognise(
    tensors: Mapping[str, Tensor],
    *,
    ordered: bool,
    arch: str | ModelSpec | None = None,
    image_size: tuple[int, int] = (32, 32),
) -> list[Hypothesis]:
    """Weights by name -> the networks that they may be, the most likely first.

    Args:
        tensors: name -> weights, in the file's order.
        ordered: whether that order is the order of registration (not so in safetensors).
        arch: what the user says it is (see ``Statement``). Only networks that agree come back; a
            width that rounding hides is taken from it; and where neither names nor the file give
            an order, the alphabetical one is tried.
        image_size: height and width of the images, which weights do not show.

    Raises:
        CheckpointError: of no known family, or not the network that ``arch`` says; the message
            says what was seen.
        UsageError: ``arch`` states no network.
    """
    stated = None if arch is None else Statement.of(arch)
    try:
        readings = _readings(_Weights.parse(tensors, ordered=ordered), stated)
        hypotheses = [
            reading.hypothesis(spec)
            for reading in readings
            for spec in _variants(reading.spec(image_size, stated))
        ]
    except (_Unfit, UsageError) as unfit:
        reason = str(unfit).rstrip(".")
        raise CheckpointError(
            f"These weights are of no known network: {reason}. "
            f"Seen: {describe(tensors)}. {FAMILIES}"
        ) from None
    if stated is None:
        return hypotheses
    admitted = [found for found in hypotheses if stated.admits(found.spec)]
    if not admitted:
        raise stated.disagreement("These weights are", [found.spec for found in hypotheses])
    return admitted


def instantiate(hypothesis: Hypothesis) -> Network:
    """The network with these weights, in evaluation mode. No random number is drawn."""
    with torch.device("meta"):
        network = build(hypothesis.spec)
    weights = {name: value.clone() for name, value in hypothesis.state_dict.items()}
    network.load_state_dict(weights, assign=True)
    return network.eval()


def describe(tensors: Mapping[str, Tensor]) -> str:
    """What stands out in a set of weights, in a few words."""
    convs = [value for value in tensors.values() if value.dim() == 4]
    if not convs:
        matrices = sum(value.dim() == 2 for value in tensors.values())
        return f"no convolution with 4-D weights, {matrices} matrices, {len(tensors)} tensors"
    facts = []
    stem = min(convs, key=lambda value: value.shape[1] if value.shape[1] > 1 else 1 << 30)
    facts.append(f"{stem.shape[2]}x{stem.shape[3]} stem with {stem.shape[0]} filters")
    kernels = Counter(f"{value.shape[2]}x{value.shape[3]}" for value in convs)
    shapes = [tuple(value.shape) for value in convs]
    if any(shape[1] == 1 and shape[0] > 1 for shape in shapes[1:]):
        facts.append("depthwise convolutions")
    if _has_bottlenecks(shapes):
        facts.append("bottleneck blocks (1x1, 3x3, 1x1)")
    count = ", ".join(f"{number} of {kernel}" for kernel, number in kernels.most_common(4))
    facts.append(f"{len(convs)} convolutions ({count})")
    widths = sorted({shape[0] for shape in shapes if shape[2] == 3})
    facts.append("3x3 widths " + ", ".join(map(str, widths[:8])))
    linears = [value for value in tensors.values() if value.dim() == 2]
    if not linears:
        facts.append("no linear layer")
    elif len(linears) > 1:
        facts.append(f"{len(linears)} linear layers")
    else:
        facts.append(f"{linears[0].shape[0]} classes")
    if not any(value.dim() == 1 and value.numel() > 1 for value in tensors.values()):
        facts.append("no batch normalisation")
    return ", ".join(facts)


def _has_bottlenecks(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Whether 1x1 convolutions widen again what a 3x3 convolution gave, as often as there are."""
    spatial = [shape for shape in shapes[1:] if shape[2] == 3]
    widening = [s for s in shapes if s[2] == 1 and s[0] >= 2 * s[1]]
    narrowing = [s for s in shapes if s[2] == 1 and s[0] < s[1]]
    return bool(spatial) and len(widening) >= len(spatial) and bool(narrowing)


# ---------------------------------------------------------------------------------------------
# Parts of a network


class _Unfit(Exception):
    """The weights are not this network; the text is the end of a sentence."""


@dataclass(frozen=True)
class _Part:
    """A layer: its name in tokens, and where it stands in the file."""

    tokens: Tokens
    position: int


@dataclass(frozen=True)
class _Conv(_Part):
    name: str
    weight: Tensor
    bias: str | None = None

    @property
    def outputs(self) -> int:
        return self.weight.shape[0]

    @property
    def inputs(self) -> int:
        return self.weight.shape[1]


@dataclass(frozen=True)
class _Norm(_Part):
    weight: str
    bias: str
    mean: str
    variance: str
    size: int

    @property
    def names(self) -> tuple[str, str, str, str]:
        return self.weight, self.bias, self.mean, self.variance


@dataclass(frozen=True)
class _Block:
    """Two 3x3 convolutions and what belongs to them, in no order yet."""

    convs: tuple[_Conv, _Conv]
    shortcuts: tuple[_Conv, ...] = ()
    norms: tuple[_Norm, ...] = ()

    @property
    def outputs(self) -> int:
        return self.convs[0].outputs

    @property
    def inputs(self) -> int:
        """Channels that come in: those of the convolution that is not square, if one is."""
        return next((c.inputs for c in self.convs if c.inputs != c.outputs), self.outputs)

    @property
    def tokens(self) -> Tokens:
        return _common(*(conv.tokens for conv in self.convs))

    @property
    def position(self) -> int:
        return min(conv.position for conv in self.convs)

    def names(self) -> set[str]:
        found = {name for norm in self.norms for name in norm.names}
        for conv in self.convs + self.shortcuts:
            found |= {conv.name} | ({conv.bias} if conv.bias else set())
        return found

    def nearness(self, tokens: Tokens) -> int:
        """How many leading tokens a name shares with the block's convolutions."""
        return max(len(_common(tokens, conv.tokens)) for conv in self.convs + self.shortcuts)


@dataclass(frozen=True)
class _Weights:
    """Every tensor of a file, sorted into layers."""

    tensors: Mapping[str, Tensor]
    ordered: bool
    convs: tuple[_Conv, ...]
    norms: tuple[_Norm, ...]
    linears: tuple[str, ...]
    vectors: tuple[str, ...]  # 1-D, in no norm and no convolution's bias
    others: tuple[str, ...]

    @classmethod
    def parse(cls, tensors: Mapping[str, Tensor], *, ordered: bool) -> _Weights:
        floating = {name: value for name, value in tensors.items() if value.is_floating_point()}
        # Counters (num_batches_tracked, n_averaged) are the only integers that a network has.
        strange = [
            name
            for name, value in tensors.items()
            if not value.is_floating_point() and value.numel() > 1
        ]
        if strange:
            raise _Unfit(f"'{strange[0]}' is {tensors[strange[0]].dtype}, not floating point")
        place = {name: index for index, name in enumerate(floating)}
        tokens = {name: _tokens(name) for name in floating}
        by_dim: dict[int, list[str]] = {}
        for name, value in floating.items():
            by_dim.setdefault(value.dim(), []).append(name)
        kernels = [name for name in by_dim.get(4, []) if sum(s > 1 for s in floating[name].shape)]
        kernels = [name for name in kernels if not _is_constant_of_image(floating[name])]
        norms, rest = _find_norms(floating, by_dim.get(1, []), tokens, place, ordered)
        convs = [_Conv(tokens[n], place[n], n, floating[n]) for n in kernels]
        convs, rest = _attach_biases(convs, rest, floating, tokens)
        known = set(kernels) | set(by_dim.get(1, [])) | set(by_dim.get(2, []))
        return cls(
            tensors=floating,
            ordered=ordered,
            convs=tuple(convs),
            norms=tuple(norms),
            linears=tuple(by_dim.get(2, [])),
            vectors=tuple(rest),
            others=tuple(name for name in floating if name not in known),
        )


def _is_constant_of_image(value: Tensor) -> bool:
    """Whether a 4-D tensor is one number a channel of an image, [1, c, 1, 1]."""
    return value.shape[0] == 1 and value.shape[2:] == (1, 1) and value.shape[1] <= 4


def _tokens(name: str) -> Tokens:
    """'layer1.0.conv1' -> ('layer', 1, 0, 'conv', 1): words and numbers, marks dropped."""
    found = re.findall(r"[^\W\d_]+|\d+", name)
    return tuple(int(t) if t.isascii() and t.isdigit() else t for t in found)


def _common(*names: Tokens) -> Tokens:
    """The leading tokens that all of the names share."""
    shared = []
    for column in zip(*names, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return tuple(shared)


def _natural(tokens: Tokens) -> tuple[tuple[int, int, str], ...]:
    """A sort key in which 2 comes before 10 and numbers before words."""
    return tuple((0, t, "") if isinstance(t, int) else (1, 0, t) for t in tokens)


def _find_norms(
    tensors: Mapping[str, Tensor],
    vectors: Sequence[str],
    tokens: Mapping[str, Tokens],
    place: Mapping[str, int],
    ordered: bool,
) -> tuple[list[_Norm], list[str]]:
    """Groups of exactly four vectors of one length under one prefix, and the vectors left over."""
    under: dict[Tokens, list[str]] = {}
    for name, path in tokens.items():
        if tensors[name].dim() == 0:
            continue
        for length in range(len(path)):
            under.setdefault(path[:length], []).append(name)
    norms = []
    taken: set[str] = set()
    for name in vectors:
        if name in taken:
            continue
        path = tokens[name]
        for length in range(len(path) - 1, -1, -1):
            group = under[path[:length]]
            if len(group) < 4:
                continue
            sizes = {tuple(tensors[member].shape) for member in group}
            if len(group) == 4 and sizes == {(tensors[name].numel(),)}:
                norms.append(_norm_of(group, tensors, tokens, place, ordered))
                taken.update(group)
            break
    return norms, [name for name in vectors if name not in taken]


# Only for the four vectors inside a batch norm, which shapes cannot tell apart.
_ROLES: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("variance", lambda text: "var" in text or text in ("v", "rv")),
    ("mean", lambda text: "mean" in text or "avg" in text or text in ("m", "rm", "mu")),
    ("bias", lambda text: text in ("b", "bias", "beta", "shift", "offset", "center")),
    ("weight", lambda text: text in ("w", "weight", "gamma", "scale", "g", "kernel")),
)


def _norm_of(
    group: Sequence[str],
    tensors: Mapping[str, Tensor],
    tokens: Mapping[str, Tokens],
    place: Mapping[str, int],
    ordered: bool,
) -> _Norm:
    """Which of four vectors is the weight, the bias, the mean, the variance."""
    prefix = _common(*(tokens[name] for name in group))
    roles: dict[str, str] = {}
    for name in group:
        text = "".join(map(str, tokens[name][len(prefix) :])).lower()
        role = next((role for role, matches in _ROLES if matches(text)), None)
        if role is not None:
            roles.setdefault(role, name)
    if len(set(roles.values())) < 4:
        if not ordered:
            raise _Unfit(
                f"which of {', '.join(sorted(group))} are the weight, bias, mean and variance of "
                "a batch norm cannot be told from their names, and the file keeps no order"
            )
        # Parameters are registered before the running statistics, the weight before the bias.
        names = sorted(group, key=place.__getitem__)
        roles = dict(zip(("weight", "bias", "mean", "variance"), names, strict=True))
    if float(tensors[roles["variance"]].min()) < 0:
        raise _Unfit(f"'{roles['variance']}' is the variance of a batch norm and is negative")
    first = min(place[name] for name in group)
    return _Norm(
        prefix,
        first,
        roles["weight"],
        roles["bias"],
        roles["mean"],
        roles["variance"],
        tensors[group[0]].numel(),
    )


def _attach_biases(
    convs: Sequence[_Conv],
    vectors: Sequence[str],
    tensors: Mapping[str, Tensor],
    tokens: Mapping[str, Tokens],
) -> tuple[list[_Conv], list[str]]:
    """Gives each convolution the vector beside it that is as long as it has filters."""
    found = list(convs)
    rest = []
    for name in vectors:
        near = [
            index
            for index, conv in enumerate(found)
            if conv.bias is None
            and conv.outputs == tensors[name].numel()
            and len(_common(conv.tokens, tokens[name])) >= len(tokens[name]) - 1
        ]
        if len(near) == 1:
            found[near[0]] = replace(found[near[0]], bias=name)
        else:
            rest.append(name)
    return found, rest


# ---------------------------------------------------------------------------------------------
# Orders


@dataclass
class _Choices:
    """Which of several possible orders is taken where nothing decides; each reading has one."""

    taken: Mapping[str, int] = field(default_factory=dict)
    met: dict[str, int] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def pick(self, what: str, alternatives: int) -> int:
        self.met[what] = max(alternatives, self.met.get(what, 0))
        return min(self.taken.get(what, 0), alternatives - 1)


PartT = TypeVar("PartT", _Conv, _Norm, _Block)


def _sequence(
    parts: Sequence[PartT], what: str, *, ordered: bool, choices: _Choices
) -> list[PartT]:
    """Alike parts in forward order: by the numbers in their names, else by the file's order."""
    if len(parts) < 2:
        return list(parts)
    by_file = sorted(parts, key=lambda part: part.position)
    by_number = _by_number(parts)
    if by_number is not None:
        if not ordered or by_file == by_number:
            return by_number
        orders = [by_number, by_file]
        note = f"The numbers in the names of the {what} and the file's order differ; taken: "
        labels = ["the numbers.", "the file's order."]
    elif ordered:
        return by_file
    else:
        natural = sorted(parts, key=lambda part: _natural(part.tokens))
        orders = [natural, natural[::-1]]
        note = (
            f"The file keeps no order and the names of the {what} have no numbers "
            f"('{'.'.join(map(str, natural[0].tokens))}', ...); taken: "
        )
        labels = ["the alphabetical order.", "the reverse alphabetical order."]
    index = choices.pick(what, len(orders))
    choices.notes[what] = note + labels[index]
    return orders[index]


def _by_number(parts: Sequence[PartT]) -> list[PartT] | None:
    """Sorted by number, where names differ in numbers alone; else None."""
    names = [part.tokens for part in parts]
    start = len(_common(*names))
    end = len(_common(*(name[start:][::-1] for name in names)))
    middles = [name[start : len(name) - end] for name in names]
    if len(set(middles)) < len(middles):
        return None
    words = {tuple(t for t in middle if isinstance(t, str)) for middle in middles}
    if len(words) > 1:
        return None
    numbers = {
        part: tuple(t for t in middle if isinstance(t, int))
        for part, middle in zip(map(id, parts), middles, strict=True)
    }
    return sorted(parts, key=lambda part: numbers[id(part)])


# ---------------------------------------------------------------------------------------------
# From layers to blocks


@dataclass(frozen=True)
class _Skeleton:
    """The stem, the blocks, and what is outside of them."""

    stem: _Conv
    blocks: tuple[_Block, ...]
    norms: tuple[_Norm, ...]
    convs: tuple[_Conv, ...]  # 1x1, in no block


def _find_stem(weights: _Weights) -> _Conv:
    """The 3x3 convolution whose input is no other one's output: it reads the image."""
    if not weights.convs:
        raise _Unfit("there are no convolutions")
    kernels = {tuple(conv.weight.shape[2:]) for conv in weights.convs}
    odd = sorted(kernels - {(1, 1), (3, 3)})
    if odd:
        if all(c.weight.shape[0] == c.weight.shape[1] in (1, 3) for c in weights.convs):
            raise _Unfit(
                "the convolutions are laid out height, width, input, output; transpose them to "
                "output, input, height, width"
            )
        raise _Unfit(
            "it has convolutions of " + ", ".join(f"{height}x{width}" for height, width in odd)
        )
    spatial = [conv for conv in weights.convs if conv.weight.shape[2] == 3]
    made = {conv.outputs for conv in spatial}
    stems = [conv for conv in spatial if conv.inputs not in made]
    if len(stems) != 1:
        raise _Unfit(
            f"{len(stems)} of its {len(spatial)} 3x3 convolutions can read an image, not one"
        )
    return stems[0]


def _blocks_by_name(weights: _Weights, stem: _Conv) -> _Skeleton | None:
    """Pairs the 3x3 convolutions by the smallest prefix with two of them, or None."""
    spatial = [conv for conv in weights.convs if conv.weight.shape[2] == 3]
    under: dict[Tokens, list[_Conv]] = {}
    for conv in spatial:
        for length in range(len(conv.tokens)):
            under.setdefault(conv.tokens[:length], []).append(conv)
    blocks: dict[Tokens, _Block] = {}
    for conv in spatial:
        if conv is stem:
            continue
        for length in range(len(conv.tokens) - 1, -1, -1):
            pair = under[conv.tokens[:length]]
            if len(pair) == 1:
                continue
            if len(pair) != 2 or any(member is stem for member in pair):
                return None
            blocks.setdefault(conv.tokens[:length], _Block((pair[0], pair[1])))
            break
        else:
            return None
    found = list(blocks.values())
    if len({id(conv) for block in found for conv in block.convs}) != 2 * len(found):
        return None
    outside: list[_Norm] = []
    for norm in weights.norms:
        index = _nearest(found, norm.tokens)
        if index is None:
            outside.append(norm)
        else:
            found[index] = replace(found[index], norms=(*found[index].norms, norm))
    loose: list[_Conv] = []
    for conv in weights.convs:
        if conv.weight.shape[2] == 3:
            continue
        index = _nearest(found, conv.tokens)
        shape = (conv.inputs, conv.outputs)
        if index is not None and shape == (found[index].inputs, found[index].outputs):
            found[index] = replace(found[index], shortcuts=(*found[index].shortcuts, conv))
        else:
            loose.append(conv)
    for index, block in enumerate(found):
        # What stands beside a block under a shared prefix (the last norm of the network in the
        # same subtree as the last stage) is further from it than its own norms.
        norms = sorted(block.norms, key=lambda norm: -block.nearness(norm.tokens))
        before = any(norm.size == block.inputs != block.outputs for norm in norms)
        limit = 2 if before else 2 + len(block.shortcuts)
        outside += norms[limit:]
        found[index] = replace(block, norms=tuple(norms[:limit]))
    return _Skeleton(stem, tuple(found), tuple(outside), tuple(loose))


def _nearest(blocks: Sequence[_Block], tokens: Tokens) -> int | None:
    """The one block that shares the most leading tokens with a name, or None if several do."""
    scores = [block.nearness(tokens) for block in blocks]
    best = max(scores, default=0)
    return scores.index(best) if scores.count(best) == 1 else None


def _has_order(weights: _Weights, stem: _Conv) -> bool:
    """Whether the file's order or the numbers in the names order the 3x3 convolutions."""
    spatial = [c for c in weights.convs if c.weight.shape[2] == 3 and c is not stem]
    return weights.ordered or _by_number(spatial) is not None


def _blocks_by_order(weights: _Weights, stem: _Conv, choices: _Choices) -> _Skeleton | None:
    """Pairs the 3x3 convolutions in their order, for names that do not group them; or None."""
    spatial = [c for c in weights.convs if c.weight.shape[2] == 3 and c is not stem]
    points = [c for c in weights.convs if c.weight.shape[2] == 1]
    if len(spatial) % 2:
        return None
    sort = _sequence(spatial, "convolutions", ordered=weights.ordered, choices=choices)
    norms = _sequence(weights.norms, "batch norms", ordered=weights.ordered, choices=choices)
    blocks = []
    for first, second in zip(sort[::2], sort[1::2], strict=True):
        if not first.outputs == second.inputs == second.outputs:
            return None
        block = _Block((first, second))
        mine = [p for p in points if (p.inputs, p.outputs) == (block.inputs, block.outputs)]
        mine = mine[:1] if block.inputs != block.outputs else []
        points = [p for p in points if all(p is not m for m in mine)]
        blocks.append(replace(block, shortcuts=tuple(mine)))
    if not blocks or len(norms) < 2 * len(blocks) + 1:
        return None
    # Norms after the convolutions start with the stem's; norms before them end with a lone one.
    post = len(norms) > 2 * len(blocks) + 1 or not any(block.shortcuts for block in blocks)
    outside = [norms.pop(0 if post else -1)]
    beside = len(norms) > 2 * len(blocks)
    for index, block in enumerate(blocks):
        take = 2 + (len(block.shortcuts) if beside else 0)
        blocks[index] = replace(block, norms=tuple(norms[:take]))
        del norms[:take]
    return _Skeleton(stem, tuple(blocks), (*outside, *norms), tuple(points))


# ---------------------------------------------------------------------------------------------
# From blocks to a network


@dataclass(frozen=True)
class _OrderedBlock:
    convs: tuple[_Conv, _Conv]
    norms: tuple[_Norm, _Norm]
    shortcut: _Conv | None
    shortcut_norm: _Norm | None


@dataclass(frozen=True)
class _Reading:
    """A whole network, every layer in its place."""

    weights: _Weights
    arch: str
    stem: _Conv
    stages: tuple[tuple[_OrderedBlock, ...], ...]
    norm: _Norm
    classifier: tuple[str, str | None]
    normalization: Normalization | None
    notes: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        return self.weights.tensors[self.classifier[0]].shape[0]

    def _all_convs(self) -> list[_Conv]:
        convs = [self.stem]
        for block in itertools.chain(*self.stages):
            convs += [*block.convs] + ([block.shortcut] if block.shortcut else [])
        return convs

    def spec(self, image_size: tuple[int, int], stated: Statement | None) -> ModelSpec:
        """The network, with the most usual of what the shapes do not show."""
        widths = tuple(stage[0].convs[1].outputs for stage in self.stages)
        shortcut = "preactivation"
        if self.arch == "resnet":
            first = [stage[0].shortcut for stage in self.stages[1:]]
            shortcut = "conv" if all(first) else "pad"
        width = next(
            (
                m
                for m in (widths[0] / 16, widths[1] / 32, widths[2] / 64)
                if (round(16 * m), round(32 * m), round(64 * m)) == widths
            ),
            None,
        )
        # The multiplier itself is lost where filters were rounded.
        if stated is not None and stated.names(self.arch, widths):
            width = stated.spec.width
        if width is None:
            raise _Unfit(f"its stages are {widths[0]}, {widths[1]} and {widths[2]} wide, not 1:2:4")
        rest = 4 if self.arch == "wrn" else 2
        return ModelSpec(
            arch=self.arch,
            depth=6 * len(self.stages[0]) + rest,
            width=width,
            num_classes=self.num_classes,
            input_shape=(self.stem.inputs, *image_size),
            shortcut=shortcut,
            stem_channels=self.stem.outputs,
            conv_bias=any(conv.bias for conv in self._all_convs()),
            first_shortcut=self.has_first_shortcut,
        )

    @property
    def has_first_shortcut(self) -> bool:
        """Whether the very first block has a 1x1 shortcut that the shapes do not call for."""
        first = self.stages[0][0]
        return first.shortcut is not None and first.shortcut.inputs == first.shortcut.outputs

    def used(self) -> set[str]:
        """Names of all tensors that have a place."""
        names = {name for name in self.classifier if name}
        norms = [self.norm]
        for block in itertools.chain(*self.stages):
            norms += [*block.norms] + ([block.shortcut_norm] if block.shortcut_norm else [])
        for norm in norms:
            names.update(norm.names)
        for conv in self._all_convs():
            names |= {conv.name} | ({conv.bias} if conv.bias else set())
        return names

    def hypothesis(self, spec: ModelSpec) -> Hypothesis:
        """The weights under our own names."""
        tensors = self.weights.tensors
        state: dict[str, Tensor] = {}

        def put(name: str, value: Tensor) -> None:
            state[name] = value.detach().to(torch.float32).contiguous()

        def put_conv(name: str, conv: _Conv) -> None:
            put(f"{name}.weight", conv.weight)
            if spec.conv_bias:
                # A convolution without a bias beside others that have one: its bias is zero.
                bias = tensors[conv.bias] if conv.bias else torch.zeros(conv.outputs)
                put(f"{name}.bias", bias)

        def put_norm(name: str, norm: _Norm) -> None:
            leaves = ("weight", "bias", "running_mean", "running_var")
            for leaf, source in zip(leaves, norm.names, strict=True):
                put(f"{name}.{leaf}", tensors[source])
            state[f"{name}.num_batches_tracked"] = torch.tensor(0)

        put_conv("conv", self.stem)
        put_norm("bn", self.norm)
        for number, stage in enumerate(self.stages):
            for index, block in enumerate(stage):
                name = f"stages.{number}.{index}"
                for place in (0, 1):
                    put_conv(f"{name}.conv{place + 1}", block.convs[place])
                    put_norm(f"{name}.bn{place + 1}", block.norms[place])
                if block.shortcut is not None and self.arch == "wrn":
                    put_conv(f"{name}.shortcut", block.shortcut)
                elif block.shortcut is not None and block.shortcut_norm is not None:
                    put_conv(f"{name}.shortcut.0", block.shortcut)
                    put_norm(f"{name}.shortcut.1", block.shortcut_norm)
        weight, bias = self.classifier
        put("linear.weight", tensors[weight].flatten(1))
        put("linear.bias", tensors[bias] if bias else torch.zeros(self.num_classes))
        notes = list(self.notes)
        if not bias:
            notes.append("The classifier has no bias; zeros were put in its place.")
        kinds = {str(tensors[name].dtype).removeprefix("torch.") for name in self.used()}
        if kinds != {"float32"}:
            notes.append(f"The weights are {' and '.join(sorted(kinds))}; they run as float32.")
        check_state(spec, state)
        return Hypothesis(spec, state, self.normalization, tuple(notes))


def check_state(spec: ModelSpec, state: Mapping[str, Tensor]) -> None:
    """Names and shapes must be exactly those of ``build(spec)``.

    Raises:
        CheckpointError: one is missing, superfluous or of another shape; it is named.
    """
    with torch.device("meta"):
        expected = build(spec).state_dict()
    for name, value in expected.items():
        if name not in state:
            raise CheckpointError(f"The weights of {spec.name} lack '{name}'.")
        if state[name].shape != value.shape:
            raise CheckpointError(
                f"'{name}' is {tuple(state[name].shape)}; {spec.name} has {tuple(value.shape)}."
            )
    extra = sorted(set(state) - set(expected))
    if extra:
        raise CheckpointError(f"'{extra[0]}' has no place in {spec.name}.")


def _readings(weights: _Weights, stated: Statement | None) -> list[_Reading]:
    """Every whole network that the layers make, the most plain first."""
    choices = _Choices()
    readings = []
    unfit = None
    try:
        readings.append(_read(weights, choices, stated))
    except _Unfit as error:
        unfit = error
    names = list(choices.met)
    options = itertools.product(*(range(choices.met[name]) for name in names))
    for option in itertools.islice(options, 1, LARGEST_NUMBER_OF_READINGS):
        try:
            other = _read(weights, _Choices(dict(zip(names, option, strict=True))), stated)
        except _Unfit:
            continue
        readings.append(other)
    if not readings and unfit is not None:
        raise unfit
    return readings


def _read(weights: _Weights, choices: _Choices, stated: Statement | None) -> _Reading:
    """One whole network."""
    stem = _find_stem(weights)
    by_name = _blocks_by_name(weights, stem)
    unfit = _Unfit("its 3x3 convolutions do not pair into residual blocks")
    if by_name is not None:
        try:
            return _assemble(weights, by_name, choices)
        except _Unfit as error:
            unfit = error
    if stated is None and not _has_order(weights, stem):
        if by_name is not None:
            raise unfit
        raise _Unfit(
            f"{unfit} by their names, which have no numbers, and the file keeps no order. State "
            "the architecture (wrn-40-2, say), and the names' alphabetical order is tried"
        )
    by_order = _blocks_by_order(weights, stem, choices)
    if by_order is None:
        raise unfit
    try:
        return _assemble(weights, by_order, choices)
    except _Unfit as error:
        raise (unfit if by_name is not None else error) from None


def _assemble(weights: _Weights, skeleton: _Skeleton, choices: _Choices) -> _Reading:
    notes: list[str] = []
    widths = sorted({block.outputs for block in skeleton.blocks})
    if len(widths) != 3:
        found = ", ".join(map(str, widths))
        raise _Unfit(f"it has {len(widths)} stage(s), of widths {found}, not three")
    for block in skeleton.blocks:
        square = [c for c in block.convs if c.inputs == c.outputs == block.outputs]
        if len({c.outputs for c in block.convs}) != 1 or not square:
            shapes = " and ".join(f"{c.inputs}->{c.outputs}" for c in block.convs)
            raise _Unfit(
                f"'{_block_name(block)}' has 3x3 convolutions {shapes}, which are no basic block"
            )
    stages = [[b for b in skeleton.blocks if b.outputs == width] for width in widths]
    stages, dropped = _drop_duplicates(stages, choices)
    kept = [block for stage in stages for block in stage]
    arch = _family(kept, skeleton)
    norm, classifier = _outside(weights, skeleton, arch, widths[-1])
    _check_chain(stages, skeleton.stem)
    ordered = _order_stages(weights, stages, arch, choices)
    reading = _Reading(
        weights=weights,
        arch=arch,
        stem=skeleton.stem,
        stages=ordered,
        norm=norm,
        classifier=classifier,
        normalization=None,
        notes=(),
    )
    duplicates = set().union(*(block.names() for block in dropped)) if dropped else set()
    left = [n for n in weights.tensors if n not in reading.used() and n not in duplicates]
    normalization, left = _embedded_normalization(weights, left, skeleton.stem.inputs)
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        shape = "x".join(map(str, weights.tensors[left[0]].shape)) or "one number"
        raise _Unfit(f"'{left[0]}' ({shape}){more} has no place in a {arch} of this shape")
    if dropped:
        names = ", ".join(f"'{_block_name(block)}'" for block in dropped[:2])
        notes.append(
            f"{len(dropped)} block(s) beyond a whole network were left out ({names}"
            f"{', ...' if len(dropped) > 2 else ''}): an unused copy of a stage."
        )
    biased = [bool(conv.bias) for conv in reading._all_convs()]
    if any(biased) and not all(biased):
        notes.append("Some convolutions have no bias; zeros were put in its place.")
    if normalization is not None:
        notes.append("The file has the normalisation as a layer of the network.")
    notes += choices.notes.values()
    return replace(reading, normalization=normalization, notes=tuple(notes))


def _block_name(block: _Block) -> str:
    """What a block is called in a message: the shared start of its convolutions' names."""
    first, second = (conv.name for conv in block.convs)
    end = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), 0)
    head = re.match(r".*[._/](?=[^._/]*$)", first[:end])
    return (head[0].rstrip("._/") if head else first[:end]) or first


def _drop_duplicates(
    stages: list[list[_Block]], choices: _Choices
) -> tuple[list[list[_Block]], list[_Block]]:
    """Stages that all have n blocks: a stage with k n blocks in k subtrees keeps one of them.

    Some published robust WRNs carry a copy of their first stage that their forward never calls.
    """
    count = min(len(stage) for stage in stages)
    if all(len(stage) == count for stage in stages):
        return stages, []
    usual = {
        _pattern(tree)
        for stage in stages
        if len(stage) == count
        for tree in _subtrees(stage, stages)
    }
    dropped: list[_Block] = []
    result = []
    for number, stage in enumerate(stages):
        if len(stage) == count:
            result.append(stage)
            continue
        trees = _subtrees(stage, stages)
        if len(trees) < 2 or any(len(blocks) != count for blocks in trees.values()):
            counts = ", ".join(str(len(s)) for s in stages)
            raise _Unfit(f"its stages have {counts} blocks, not the same number")
        # The copy in use is called like the other stages are.
        order = sorted(
            trees, key=lambda tree: (_pattern(tree) not in usual, _tree_place(trees[tree]))
        )
        index = choices.pick(f"copies of stage {number + 1}", len(order))
        result.append(trees[order[index]])
        dropped += [b for tree in order if tree != order[index] for b in trees[tree]]
    return result, dropped


def _tree_place(blocks: Sequence[_Block]) -> int:
    """Where the first of some blocks stands in the file."""
    return min(block.position for block in blocks)


def _subtrees(
    stage: Sequence[_Block], stages: Sequence[Sequence[_Block]]
) -> dict[Tokens, list[_Block]]:
    """Blocks of a stage by the widest prefix under which there is nothing of another stage."""
    foreign = [b.tokens for other in stages if other is not stage for b in other]
    trees: dict[Tokens, list[_Block]] = {}
    for block in stage:
        shared = max((len(_common(block.tokens, tokens)) for tokens in foreign), default=0)
        trees.setdefault(block.tokens[: shared + 1], []).append(block)
    return trees


def _pattern(tokens: Tokens) -> tuple[str, ...]:
    """A name without its numbers."""
    return tuple("#" if isinstance(t, int) else t for t in tokens)


def _family(blocks: Sequence[_Block], skeleton: _Skeleton) -> str:
    """'wrn' (norms before convolutions) or 'resnet' (after them), from the sizes of the norms."""
    if not skeleton.norms and not any(block.norms for block in blocks):
        raise _Unfit("it has no batch normalisation")
    votes = Counter[str]()
    for block in blocks:
        if block.inputs == block.outputs:
            continue
        sizes = sorted(norm.size for norm in block.norms)
        if sizes == sorted((block.inputs, block.outputs)):
            votes["wrn"] += 1
        elif set(sizes) == {block.outputs}:
            votes["resnet"] += 1
        else:
            raise _Unfit(
                f"'{_block_name(block)}' ({block.inputs}->{block.outputs} channels) has batch "
                f"norms of {', '.join(map(str, sizes)) or 'no'} channels"
            )
    if len(votes) != 1:
        raise _Unfit("some of its blocks are pre-activation and others post-activation")
    return next(iter(votes))


def _outside(
    weights: _Weights, skeleton: _Skeleton, arch: str, last: int
) -> tuple[_Norm, tuple[str, str | None]]:
    """The norm outside of the blocks and the classifier, weight and bias."""
    size = last if arch == "wrn" else skeleton.stem.outputs
    where = "after the last block" if arch == "wrn" else "after the stem"
    norms = [norm for norm in skeleton.norms if norm.size == size]
    if len(norms) != 1 or len(skeleton.norms) != 1:
        found = ", ".join(str(norm.size) for norm in skeleton.norms) or "none"
        raise _Unfit(
            f"outside of its blocks there should be one batch norm, {where}, of {size} channels; "
            f"found {found}"
        )
    points = [conv for conv in skeleton.convs if conv.inputs == last]
    matrices = list(weights.linears)
    if len(matrices) + len(points) != 1:
        raise _Unfit(f"it has {len(matrices) + len(points)} linear layers, not one")
    if points:
        return norms[0], (points[0].name, points[0].bias)
    name = matrices[0]
    classes, inputs = weights.tensors[name].shape
    if inputs != last:
        raise _Unfit(
            f"its classifier '{name}' reads {inputs} values; average pooling over the whole last "
            f"map gives {last}"
        )
    tokens = _tokens(name)
    biases = [v for v in weights.vectors if weights.tensors[v].numel() == classes]
    biases = [v for v in biases if len(_common(_tokens(v), tokens)) >= len(tokens) - 1]
    return norms[0], (name, biases[0] if len(biases) == 1 else None)


def _check_chain(stages: Sequence[Sequence[_Block]], stem: _Conv) -> None:
    """Each stage reads what the one before it gives, through exactly one block."""
    before = stem.outputs
    for stage in stages:
        width = stage[0].outputs
        inputs = [block.inputs for block in stage if block.inputs != width]
        if inputs != ([before] if before != width else []):
            raise _Unfit(
                f"its stage of width {width} should read {before} channels in one block; blocks "
                f"that change the number of channels read {', '.join(map(str, inputs)) or 'none'}"
            )
        before = width


def _order_stages(
    weights: _Weights, stages: Sequence[Sequence[_Block]], arch: str, choices: _Choices
) -> tuple[tuple[_OrderedBlock, ...], ...]:
    """Blocks in forward order, and what is inside of each in forward order."""
    convs_first = _learn(
        [(block.convs, lambda c: c.inputs != c.outputs) for stage in stages for block in stage]
    )
    pairs = {}
    for stage in stages:
        for block in stage:
            pairs[id(block)] = _split_norms(weights, stage, block, arch, choices)
    norms_first = _learn(
        [
            (pairs[id(block)][0], lambda n, size=block.inputs: n.size == size)  # type: ignore[misc]
            for stage in stages
            for block in stage
            if arch == "wrn" and block.inputs != block.outputs
        ]
    )
    result = []
    for number, stage in enumerate(stages):
        ordered = []
        for block in _order_blocks(weights, stage, number, choices):
            convs = _pair(block.convs, convs_first)
            if convs is None:
                found = _sequence(
                    block.convs,
                    "convolutions in a block",
                    ordered=weights.ordered,
                    choices=choices,
                )
                convs = (found[0], found[1])
            plain, shortcut_norm = pairs[id(block)]
            norms = _pair(plain, norms_first) or _beside(plain, convs)
            if norms is None:
                sorted_norms = _sequence(
                    plain, "batch norms in a block", ordered=weights.ordered, choices=choices
                )
                norms = (sorted_norms[0], sorted_norms[1])
            shortcut = block.shortcuts[0] if block.shortcuts else None
            ordered.append(_OrderedBlock(convs, norms, shortcut, shortcut_norm))
        result.append(tuple(ordered))
    return tuple(result)


def _order_blocks(
    weights: _Weights, stage: Sequence[_Block], number: int, choices: _Choices
) -> list[_Block]:
    """The block that changes the number of channels first, the others by number or file order."""
    first = [block for block in stage if block.inputs != block.outputs]
    if not first:
        first = [block for block in stage if block.shortcuts]
        if len(first) > 1:
            raise _Unfit(
                f"{len(first)} blocks of stage {number + 1} have a 1x1 shortcut, at most one can"
            )
    rest = [block for block in stage if all(block is not f for f in first)]
    return first + _sequence(rest, "blocks", ordered=weights.ordered, choices=choices)


def _split_norms(
    weights: _Weights, stage: Sequence[_Block], block: _Block, arch: str, choices: _Choices
) -> tuple[tuple[_Norm, _Norm], _Norm | None]:
    """The two norms of the residual branch, and the shortcut's where it has one."""
    name = _block_name(block)
    if len(block.shortcuts) > 1:
        raise _Unfit(f"'{name}' has {len(block.shortcuts)} 1x1 convolutions, at most one can be")
    if block.shortcuts and block.shortcuts[0].inputs != block.inputs:
        raise _Unfit(f"the 1x1 convolution of '{name}' reads another number of channels")
    expected = 3 if arch == "resnet" and block.shortcuts else 2
    if len(block.norms) != expected:
        raise _Unfit(f"'{name}' has {len(block.norms)} batch norms, not {expected}")
    if arch == "wrn" and block.inputs != block.outputs and not block.shortcuts:
        raise _Unfit(
            f"'{name}' is pre-activation and changes the number of channels without a 1x1 "
            "shortcut convolution"
        )
    if expected == 2:
        return (block.norms[0], block.norms[1]), None
    index = _shortcut_norm(weights, stage, block, choices)
    plain = [norm for place, norm in enumerate(block.norms) if place != index]
    return (plain[0], plain[1]), block.norms[index]


def _shortcut_norm(
    weights: _Weights, stage: Sequence[_Block], block: _Block, choices: _Choices
) -> int:
    """Which of three norms belongs to the 1x1 convolution."""
    norms = block.norms
    near = [len(_common(norm.tokens, block.shortcuts[0].tokens)) for norm in norms]
    if near.count(max(near)) == 1:
        return near.index(max(near))
    # In the stage's other blocks the two plain norms have the names that they have here.
    usual = {
        _relative(norm.tokens, other.tokens)
        for other in stage
        if not other.shortcuts
        for norm in other.norms
    }
    odd = [i for i, norm in enumerate(norms) if _relative(norm.tokens, block.tokens) not in usual]
    if usual and len(odd) == 1:
        return odd[0]
    alone = [i for i in range(3) if _by_number([n for k, n in enumerate(norms) if k != i])]
    if len(alone) == 1:
        return alone[0]
    last = _sequence(norms, "batch norms in a block", ordered=weights.ordered, choices=choices)[-1]
    return next(i for i, norm in enumerate(norms) if norm is last)


def _relative(tokens: Tokens, root: Tokens) -> Tokens:
    """A name inside a block: without the leading tokens that it shares with the block's."""
    return tokens[len(_common(tokens, root)) :]


def _learn(
    pairs: Sequence[tuple[tuple[PartT, PartT], Callable[[PartT], bool]]],
) -> dict[frozenset[Tokens], Tokens]:
    """From pairs that shapes tell apart: names inside the pair -> the name of the first one."""
    learned: dict[frozenset[Tokens], Tokens] = {}
    contradicted = set()
    for pair, is_first in pairs:
        first = [part for part in pair if is_first(part)]
        if len(first) != 1:
            continue
        root = _common(pair[0].tokens, pair[1].tokens)
        key = frozenset(_relative(part.tokens, root) for part in pair)
        name = _relative(first[0].tokens, root)
        if learned.setdefault(key, name) != name:
            contradicted.add(key)
    return {key: name for key, name in learned.items() if key not in contradicted}


def _pair(
    pair: tuple[PartT, PartT], learned: Mapping[frozenset[Tokens], Tokens]
) -> tuple[PartT, PartT] | None:
    """The pair in the order in which blocks that shapes tell have parts of those names."""
    root = _common(pair[0].tokens, pair[1].tokens)
    names = [_relative(part.tokens, root) for part in pair]
    first = learned.get(frozenset(names))
    if first is None:
        return None
    return pair if names[0] == first else (pair[1], pair[0])


def _beside(norms: tuple[_Norm, _Norm], convs: tuple[_Conv, _Conv]) -> tuple[_Norm, _Norm] | None:
    """Norms in the order of the convolutions under whose prefix they are; None if they are not."""
    near = [[len(_common(norm.tokens, conv.tokens)) for conv in convs] for norm in norms]
    straight = near[0][0] + near[1][1]
    crossed = near[0][1] + near[1][0]
    if straight == crossed:
        return None
    return norms if straight > crossed else (norms[1], norms[0])


def _embedded_normalization(
    weights: _Weights, left: Sequence[str], channels: int
) -> tuple[Normalization | None, list[str]]:
    """Two constants of the image's channels beside the network are its mean and deviation."""
    constants = [n for n in left if weights.tensors[n].numel() == channels]
    if len(constants) != 2:
        return None, list(left)
    values = [weights.tensors[n].double().flatten().tolist() for n in constants]
    # The deviation of pixels is smaller than their mean, in all but a black data set.
    std, mean = sorted(values, key=sum)
    scale = 255.0 if max(mean + std) > 2 else 1.0
    try:
        found = Normalization(
            tuple(round(v / scale, 7) for v in mean), tuple(round(v / scale, 7) for v in std)
        )
    except UsageError:
        return None, list(left)
    return found, [name for name in left if name not in constants]


def _variants(spec: ModelSpec) -> list[ModelSpec]:
    """All networks whose weights have these shapes, the most common first."""
    if spec.arch == "resnet":
        # The most used CIFAR ResNets in PyTorch pad both ends; the paper's Torch code the last.
        shortcuts = ("conv",) if spec.shortcut == "conv" else ("pad-both", "pad")
        choices = [(shortcut, stride) for stride in (1, 2) for shortcut in shortcuts]
    else:
        choices = [("preactivation", 1), ("input", 1), ("input", 2), ("preactivation", 2)]
        if spec.conv_bias:
            # The WRN code that leaves the convolutions' biases on also strides in the second.
            choices = [("input", 2), ("preactivation", 1), ("input", 1), ("preactivation", 2)]
    return [spec.with_(shortcut=shortcut, stride_conv=stride) for shortcut, stride in choices]
