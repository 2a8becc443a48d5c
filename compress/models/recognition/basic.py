"""Networks of basic blocks: wide residual networks and CIFAR ResNets.

stem                   the 3x3 convolution that reads the image
blocks                 two 3x3 convolutions each; 1x1 ones are shortcuts (or the classifier)
blocks of one width    a stage; its first block is the one whose input is narrower
sizes of batch norms   pre-activation (norms before the convolutions: WRN) or post-activation
                       (after them: ResNet)
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from compress.models.recognition.blocks import (
    Block,
    block_name,
    check_chain,
    drop_duplicates,
    nearest,
    order_blocks,
)
from compress.models.recognition.hypothesis import Hypothesis, check_state
from compress.models.recognition.layers import (
    Conv,
    Norm,
    Tokens,
    Unfit,
    Weights,
    common_start,
    embedded_normalization,
    relative,
    tokens_of,
)
from compress.models.recognition.order import (
    Choices,
    as_learned,
    beside,
    by_numbers,
    in_order,
    learn_first,
)
from compress.models.recognition.statement import Statement
from compress.spec import ModelSpec, Normalization


@dataclass(frozen=True)
class _Skeleton:
    """The stem, the blocks, and what is outside of them."""

    stem: Conv
    blocks: tuple[Block, ...]
    norms: tuple[Norm, ...]
    convs: tuple[Conv, ...]  # 1x1, in no block


@dataclass(frozen=True)
class _OrderedBlock:
    convs: tuple[Conv, Conv]
    norms: tuple[Norm, Norm]
    shortcut: Conv | None
    shortcut_norm: Norm | None


@dataclass(frozen=True)
class Reading:
    """A whole network, every layer in its place."""

    weights: Weights
    arch: str
    stem: Conv
    stages: tuple[tuple[_OrderedBlock, ...], ...]
    norm: Norm
    classifier: tuple[str, str | None]
    normalization: Normalization | None
    notes: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Outputs of the classifier."""
        return self.weights.tensors[self.classifier[0]].shape[0]

    def _all_convs(self) -> list[Conv]:
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
            raise Unfit(f"its stages are {widths[0]}, {widths[1]} and {widths[2]} wide, not 1:2:4")
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

        def put_conv(name: str, conv: Conv) -> None:
            put(f"{name}.weight", conv.weight)
            if spec.conv_bias:
                # A convolution without a bias beside others that have one: its bias is zero.
                bias = tensors[conv.bias] if conv.bias else torch.zeros(conv.outputs)
                put(f"{name}.bias", bias)

        def put_norm(name: str, norm: Norm) -> None:
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


def variants(spec: ModelSpec) -> list[ModelSpec]:
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


def read(weights: Weights, choices: Choices, stated: Statement | None) -> Reading:
    """One whole network.

    Raises:
        Unfit: the layers do not make one.
    """
    stem = _find_stem(weights)
    by_name = _blocks_by_name(weights, stem)
    unfit = Unfit("its 3x3 convolutions do not pair into residual blocks")
    if by_name is not None:
        try:
            return _assemble(weights, by_name, choices)
        except Unfit as error:
            unfit = error
    if stated is None and not _has_order(weights, stem):
        if by_name is not None:
            raise unfit
        raise Unfit(
            f"{unfit} by their names, which have no numbers, and the file keeps no order. State "
            "the architecture (wrn-40-2, say), and the names' alphabetical order is tried"
        )
    by_order = _blocks_by_order(weights, stem, choices)
    if by_order is None:
        raise unfit
    try:
        return _assemble(weights, by_order, choices)
    except Unfit as error:
        raise (unfit if by_name is not None else error) from None


def _find_stem(weights: Weights) -> Conv:
    """The 3x3 convolution whose input is no other one's output: it reads the image."""
    if not weights.convs:
        raise Unfit("there are no convolutions")
    kernels = {tuple(conv.weight.shape[2:]) for conv in weights.convs}
    odd = sorted(kernels - {(1, 1), (3, 3)})
    if odd:
        if all(c.weight.shape[0] == c.weight.shape[1] in (1, 3) for c in weights.convs):
            raise Unfit(
                "the convolutions are laid out height, width, input, output; transpose them to "
                "output, input, height, width"
            )
        raise Unfit(
            "it has convolutions of " + ", ".join(f"{height}x{width}" for height, width in odd)
        )
    spatial = [conv for conv in weights.convs if conv.weight.shape[2] == 3]
    made = {conv.outputs for conv in spatial}
    stems = [conv for conv in spatial if conv.inputs not in made]
    if len(stems) != 1:
        raise Unfit(
            f"{len(stems)} of its {len(spatial)} 3x3 convolutions can read an image, not one"
        )
    return stems[0]


def _blocks_by_name(weights: Weights, stem: Conv) -> _Skeleton | None:
    """Pairs the 3x3 convolutions by the smallest prefix with two of them, or None."""
    spatial = [conv for conv in weights.convs if conv.weight.shape[2] == 3]
    under: dict[Tokens, list[Conv]] = {}
    for conv in spatial:
        for length in range(len(conv.tokens)):
            under.setdefault(conv.tokens[:length], []).append(conv)
    blocks: dict[Tokens, Block] = {}
    for conv in spatial:
        if conv is stem:
            continue
        for length in range(len(conv.tokens) - 1, -1, -1):
            pair = under[conv.tokens[:length]]
            if len(pair) == 1:
                continue
            if len(pair) != 2 or any(member is stem for member in pair):
                return None
            blocks.setdefault(conv.tokens[:length], Block((pair[0], pair[1])))
            break
        else:
            return None
    found = list(blocks.values())
    if len({id(conv) for block in found for conv in block.convs}) != 2 * len(found):
        return None
    outside: list[Norm] = []
    for norm in weights.norms:
        index = nearest(found, norm.tokens)
        if index is None:
            outside.append(norm)
        else:
            found[index] = replace(found[index], norms=(*found[index].norms, norm))
    loose: list[Conv] = []
    for conv in weights.convs:
        if conv.weight.shape[2] == 3:
            continue
        index = nearest(found, conv.tokens)
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


def _has_order(weights: Weights, stem: Conv) -> bool:
    """Whether the file's order or the numbers in the names order the 3x3 convolutions."""
    spatial = [c for c in weights.convs if c.weight.shape[2] == 3 and c is not stem]
    return weights.ordered or by_numbers(spatial) is not None


def _blocks_by_order(weights: Weights, stem: Conv, choices: Choices) -> _Skeleton | None:
    """Pairs the 3x3 convolutions in their order, for names that do not group them; or None."""
    spatial = [c for c in weights.convs if c.weight.shape[2] == 3 and c is not stem]
    points = [c for c in weights.convs if c.weight.shape[2] == 1]
    if len(spatial) % 2:
        return None
    sort = in_order(spatial, "convolutions", ordered=weights.ordered, choices=choices)
    norms = in_order(weights.norms, "batch norms", ordered=weights.ordered, choices=choices)
    blocks = []
    for first, second in zip(sort[::2], sort[1::2], strict=True):
        if not first.outputs == second.inputs == second.outputs:
            return None
        block = Block((first, second))
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


def _assemble(weights: Weights, skeleton: _Skeleton, choices: Choices) -> Reading:
    notes: list[str] = []
    widths = sorted({block.outputs for block in skeleton.blocks})
    if len(widths) != 3:
        found = ", ".join(map(str, widths))
        raise Unfit(f"it has {len(widths)} stage(s), of widths {found}, not three")
    for block in skeleton.blocks:
        square = [c for c in block.convs if c.inputs == c.outputs == block.outputs]
        if len({c.outputs for c in block.convs}) != 1 or not square:
            shapes = " and ".join(f"{c.inputs}->{c.outputs}" for c in block.convs)
            raise Unfit(
                f"'{block_name(block)}' has 3x3 convolutions {shapes}, which are no basic block"
            )
    stages = [[b for b in skeleton.blocks if b.outputs == width] for width in widths]
    stages, dropped = drop_duplicates(stages, choices)
    kept = [block for stage in stages for block in stage]
    arch = _family(kept, skeleton)
    norm, classifier = _outside(weights, skeleton, arch, widths[-1])
    check_chain(stages, skeleton.stem)
    ordered = _order_stages(weights, stages, arch, choices)
    reading = Reading(
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
    normalization, left = embedded_normalization(weights, left, skeleton.stem.inputs)
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        shape = "x".join(map(str, weights.tensors[left[0]].shape)) or "one number"
        raise Unfit(f"'{left[0]}' ({shape}){more} has no place in a {arch} of this shape")
    if dropped:
        names = ", ".join(f"'{block_name(block)}'" for block in dropped[:2])
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


def _family(blocks: Sequence[Block], skeleton: _Skeleton) -> str:
    """'wrn' (norms before convolutions) or 'resnet' (after them), from the sizes of the norms."""
    if not skeleton.norms and not any(block.norms for block in blocks):
        raise Unfit("it has no batch normalisation")
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
            raise Unfit(
                f"'{block_name(block)}' ({block.inputs}->{block.outputs} channels) has batch "
                f"norms of {', '.join(map(str, sizes)) or 'no'} channels"
            )
    if len(votes) != 1:
        raise Unfit("some of its blocks are pre-activation and others post-activation")
    return next(iter(votes))


def _outside(
    weights: Weights, skeleton: _Skeleton, arch: str, last: int
) -> tuple[Norm, tuple[str, str | None]]:
    """The norm outside of the blocks and the classifier, weight and bias."""
    size = last if arch == "wrn" else skeleton.stem.outputs
    where = "after the last block" if arch == "wrn" else "after the stem"
    norms = [norm for norm in skeleton.norms if norm.size == size]
    if len(norms) != 1 or len(skeleton.norms) != 1:
        found = ", ".join(str(norm.size) for norm in skeleton.norms) or "none"
        raise Unfit(
            f"outside of its blocks there should be one batch norm, {where}, of {size} channels; "
            f"found {found}"
        )
    points = [conv for conv in skeleton.convs if conv.inputs == last]
    matrices = list(weights.linears)
    if len(matrices) + len(points) != 1:
        raise Unfit(f"it has {len(matrices) + len(points)} linear layers, not one")
    if points:
        return norms[0], (points[0].name, points[0].bias)
    name = matrices[0]
    classes, inputs = weights.tensors[name].shape
    if inputs != last:
        raise Unfit(
            f"its classifier '{name}' reads {inputs} values; average pooling over the whole last "
            f"map gives {last}"
        )
    tokens = tokens_of(name)
    biases = [v for v in weights.vectors if weights.tensors[v].numel() == classes]
    biases = [v for v in biases if len(common_start(tokens_of(v), tokens)) >= len(tokens) - 1]
    return norms[0], (name, biases[0] if len(biases) == 1 else None)


def _order_stages(
    weights: Weights, stages: Sequence[Sequence[Block]], arch: str, choices: Choices
) -> tuple[tuple[_OrderedBlock, ...], ...]:
    """Blocks in forward order, and what is inside of each in forward order."""
    convs_first = learn_first(
        [(block.convs, lambda c: c.inputs != c.outputs) for stage in stages for block in stage]
    )
    pairs = {}
    for stage in stages:
        for block in stage:
            pairs[id(block)] = _split_norms(weights, stage, block, arch, choices)
    norms_first = learn_first(
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
        for block in order_blocks(weights, stage, number, choices):
            convs = as_learned(block.convs, convs_first)
            if convs is None:
                found = in_order(
                    block.convs,
                    "convolutions in a block",
                    ordered=weights.ordered,
                    choices=choices,
                )
                convs = (found[0], found[1])
            plain, shortcut_norm = pairs[id(block)]
            norms = as_learned(plain, norms_first) or beside(plain, convs)
            if norms is None:
                sorted_norms = in_order(
                    plain, "batch norms in a block", ordered=weights.ordered, choices=choices
                )
                norms = (sorted_norms[0], sorted_norms[1])
            shortcut = block.shortcuts[0] if block.shortcuts else None
            ordered.append(_OrderedBlock(convs, norms, shortcut, shortcut_norm))
        result.append(tuple(ordered))
    return tuple(result)


def _split_norms(
    weights: Weights, stage: Sequence[Block], block: Block, arch: str, choices: Choices
) -> tuple[tuple[Norm, Norm], Norm | None]:
    """The two norms of the residual branch, and the shortcut's where it has one."""
    name = block_name(block)
    if len(block.shortcuts) > 1:
        raise Unfit(f"'{name}' has {len(block.shortcuts)} 1x1 convolutions, at most one can be")
    if block.shortcuts and block.shortcuts[0].inputs != block.inputs:
        raise Unfit(f"the 1x1 convolution of '{name}' reads another number of channels")
    expected = 3 if arch == "resnet" and block.shortcuts else 2
    if len(block.norms) != expected:
        raise Unfit(f"'{name}' has {len(block.norms)} batch norms, not {expected}")
    if arch == "wrn" and block.inputs != block.outputs and not block.shortcuts:
        raise Unfit(
            f"'{name}' is pre-activation and changes the number of channels without a 1x1 "
            "shortcut convolution"
        )
    if expected == 2:
        return (block.norms[0], block.norms[1]), None
    index = _shortcut_norm(weights, stage, block, choices)
    plain = [norm for place, norm in enumerate(block.norms) if place != index]
    return (plain[0], plain[1]), block.norms[index]


def _shortcut_norm(weights: Weights, stage: Sequence[Block], block: Block, choices: Choices) -> int:
    """Which of three norms belongs to the 1x1 convolution."""
    norms = block.norms
    near = [len(common_start(norm.tokens, block.shortcuts[0].tokens)) for norm in norms]
    if near.count(max(near)) == 1:
        return near.index(max(near))
    # In the stage's other blocks the two plain norms have the names that they have here.
    usual = {
        relative(norm.tokens, other.tokens)
        for other in stage
        if not other.shortcuts
        for norm in other.norms
    }
    odd = [i for i, norm in enumerate(norms) if relative(norm.tokens, block.tokens) not in usual]
    if usual and len(odd) == 1:
        return odd[0]
    alone = [i for i in range(3) if by_numbers([n for k, n in enumerate(norms) if k != i])]
    if len(alone) == 1:
        return alone[0]
    last = in_order(norms, "batch norms in a block", ordered=weights.ordered, choices=choices)[-1]
    return next(i for i, norm in enumerate(norms) if norm is last)
