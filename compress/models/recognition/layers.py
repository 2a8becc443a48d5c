"""The layers of a network of anybody's, found among its weights.

4-D weights        convolutions
four alike 1-D     a batch norm
1-D beside a 4-D   a convolution's bias
2-D                the classifier
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from compress.errors import UsageError
from compress.spec import Normalization

Token = str | int


Tokens = tuple[Token, ...]


# resnet-1202 has 1,201 convolutions, preresnet-1001 as many batch norms.
LARGEST_NUMBER_OF_LAYERS = 2_000


class Unfit(Exception):
    """The weights are not this network; the text is the end of a sentence."""


@dataclass(frozen=True)
class _Part:
    """A layer: its name in tokens, and where it stands in the file."""

    tokens: Tokens
    position: int


@dataclass(frozen=True)
class Conv(_Part):
    """A convolution, weight [outputs, inputs, h, w]."""

    name: str
    weight: Tensor
    bias: str | None = None

    @property
    def outputs(self) -> int:
        """Filters."""
        return self.weight.shape[0]

    @property
    def inputs(self) -> int:
        """Channels that it reads."""
        return self.weight.shape[1]


@dataclass(frozen=True)
class Norm(_Part):
    """A batch norm of so many channels, by the names of its four vectors."""

    weight: str
    bias: str
    mean: str
    variance: str
    size: int

    @property
    def names(self) -> tuple[str, str, str, str]:
        """Of the weight, the bias, the mean and the variance."""
        return self.weight, self.bias, self.mean, self.variance


@dataclass(frozen=True)
class Weights:
    """Every tensor of a file, sorted into layers."""

    tensors: Mapping[str, Tensor]
    ordered: bool
    convs: tuple[Conv, ...]
    norms: tuple[Norm, ...]
    linears: tuple[str, ...]
    vectors: tuple[str, ...]  # 1-D, in no norm and no convolution's bias
    others: tuple[str, ...]

    @property
    def kernel_counts(self) -> tuple[int, int]:
        """How many 1x1 and how many 3x3 convolutions there are; none where there are others."""
        counts = Counter(tuple(conv.weight.shape[2:]) for conv in self.convs)
        return (counts[1, 1], counts[3, 3]) if set(counts) == {(1, 1), (3, 3)} else (0, 0)

    @classmethod
    def parse(cls, tensors: Mapping[str, Tensor], *, ordered: bool) -> Weights:
        """Sorts tensors by name into layers.

        Raises:
            Unfit: one of them is no weight, or a batch norm's parts cannot be told apart.
        """
        floating = {name: value for name, value in tensors.items() if value.is_floating_point()}
        # Counters (num_batches_tracked, n_averaged) are the only integers that a network has.
        strange = [
            name
            for name, value in tensors.items()
            if not value.is_floating_point() and value.numel() > 1
        ]
        if strange:
            raise Unfit(f"'{strange[0]}' is {tensors[strange[0]].dtype}, not floating point")
        place = {name: index for index, name in enumerate(floating)}
        tokens = {name: tokens_of(name) for name in floating}
        by_dim: dict[int, list[str]] = {}
        for name, value in floating.items():
            by_dim.setdefault(value.dim(), []).append(name)
        kernels = [name for name in by_dim.get(4, []) if sum(s > 1 for s in floating[name].shape)]
        if max(len(kernels), len(by_dim.get(1, [])) // 4) > LARGEST_NUMBER_OF_LAYERS:
            raise Unfit(
                f"it has {len(kernels):,} convolutions and {len(by_dim.get(1, [])):,} vectors, "
                "more than any known network"
            )
        kernels = [name for name in kernels if not _is_constant_of_image(floating[name])]
        norms, rest = _find_norms(floating, by_dim.get(1, []), tokens, place, ordered)
        convs = [Conv(tokens[n], place[n], n, floating[n]) for n in kernels]
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


def tokens_of(name: str) -> Tokens:
    """'layer1.0.conv1' -> ('layer', 1, 0, 'conv', 1): words and numbers, marks dropped."""
    found = re.findall(r"[^\W\d_]+|\d+", name)
    return tuple(int(t) if t.isascii() and t.isdigit() else t for t in found)


def common_start(*names: Tokens) -> Tokens:
    """The leading tokens that all of the names share."""
    shared = []
    for column in zip(*names, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return tuple(shared)


def relative(tokens: Tokens, root: Tokens) -> Tokens:
    """A name inside a block: without the leading tokens that it shares with the block's."""
    return tokens[len(common_start(tokens, root)) :]


def _find_norms(
    tensors: Mapping[str, Tensor],
    vectors: Sequence[str],
    tokens: Mapping[str, Tokens],
    place: Mapping[str, int],
    ordered: bool,
) -> tuple[list[Norm], list[str]]:
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
) -> Norm:
    """Which of four vectors is the weight, the bias, the mean, the variance."""
    prefix = common_start(*(tokens[name] for name in group))
    roles: dict[str, str] = {}
    for name in group:
        text = "".join(map(str, tokens[name][len(prefix) :])).lower()
        role = next((role for role, matches in _ROLES if matches(text)), None)
        if role is not None:
            roles.setdefault(role, name)
    if len(set(roles.values())) < 4:
        if not ordered:
            raise Unfit(
                f"which of {', '.join(sorted(group))} are the weight, bias, mean and variance of "
                "a batch norm is unclear from their names, and the file has no order"
            )
        # Parameters are registered before the running statistics, the weight before the bias.
        names = sorted(group, key=place.__getitem__)
        roles = dict(zip(("weight", "bias", "mean", "variance"), names, strict=True))
    if float(tensors[roles["variance"]].min()) < 0:
        raise Unfit(f"'{roles['variance']}' is the variance of a batch norm and is negative")
    first = min(place[name] for name in group)
    return Norm(
        prefix,
        first,
        roles["weight"],
        roles["bias"],
        roles["mean"],
        roles["variance"],
        tensors[group[0]].numel(),
    )


def _attach_biases(
    convs: Sequence[Conv],
    vectors: Sequence[str],
    tensors: Mapping[str, Tensor],
    tokens: Mapping[str, Tokens],
) -> tuple[list[Conv], list[str]]:
    """Gives each convolution the vector beside it that is as long as it has filters."""
    found = list(convs)
    # Of a start of their names and a number of filters, the convolutions.
    beside: dict[tuple[Tokens, int], list[int]] = {}
    for index, conv in enumerate(found):
        for length in range(len(conv.tokens) + 1):
            beside.setdefault((conv.tokens[:length], conv.outputs), []).append(index)
    rest = []
    for name in vectors:
        start = tokens[name][: max(len(tokens[name]) - 1, 0)]
        alike = beside.get((start, tensors[name].numel()), [])
        near = [index for index in alike if found[index].bias is None]
        if len(near) == 1:
            found[near[0]] = replace(found[near[0]], bias=name)
        else:
            rest.append(name)
    return found, rest


def embedded_normalization(
    weights: Weights, left: Sequence[str], channels: int
) -> tuple[Normalization | None, list[str]]:
    """Two constants of the image's channels beside the network are its mean and deviation."""
    constants = [n for n in left if weights.tensors[n].numel() == channels]
    if len(constants) != 2:
        return None, list(left)
    values = [weights.tensors[n].double().flatten().tolist() for n in constants]
    # The deviation of pixels is smaller than their mean, in all but a black data set.
    std, mean = sorted(values, key=sum)
    try:
        # As many digits as float32 has.
        found = Normalization(
            tuple(float(f"{v:.7g}") for v in mean), tuple(float(f"{v:.7g}") for v in std)
        )
    except UsageError:
        return None, list(left)
    return found, [name for name in left if name not in constants]
