"""Pre-activation residual networks with bottleneck blocks for CIFAR, depth d = 9n+2.

He et al., "Identity Mappings in Deep Residual Networks", arXiv 1603.05027, section 3 (Figure 1b)
and the appendix (ResNet-164 and ResNet-1001 on CIFAR):

    conv3x3, 16 filters
    three stages of n blocks, 64, 128, 256 filters, the second and third halve the resolution
    block:  BN, ReLU, conv1x1, BN, ReLU, conv3x3, BN, ReLU, conv1x1, plus the shortcut;
            the first two convolutions have a quarter of the block's filters
    BN, ReLU, global average pooling, linear

Where the number of channels changes, which it does in the first block of every stage, the shortcut
is a 1x1 convolution without BN. In the authors' code (github.com/KaimingHe/resnet-1k-layers) it
reads the activated input and the stride is in the block's first convolution. Widely used PyTorch
code puts the stride in the 3x3 convolution, and its shortcut reads the raw input.

The literature (arXiv 1605.07146, among others) gives 1.7 million parameters for depth 164 and 10.2
million for depth 1001. Here they are 1,703,258 and 10,327,706, without those of batch normalisation
1,679,034 and 10,178,490: only the latter two agree with both figures.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from compress.models.families.architecture import Architecture, Convolution, Layers
from compress.models.families.preactivation import PreactivationNetwork
from compress.models.families.residual import Place, Residual
from compress.models.network import Network
from compress.models.recognition.blocks import (
    Block,
    Skeleton,
    block_name,
    check_chain,
    find_stages,
    notes_on,
    order_blocks,
    read_blocks,
    the_norm_outside,
)
from compress.models.recognition.layers import (
    Conv,
    Norm,
    Tokens,
    Unfit,
    Weights,
    common_start,
    relative,
)
from compress.models.recognition.order import Choices, PartT, beside, in_order
from compress.models.recognition.reading import Reading, find_classifier
from compress.schema.rules import ImageShape
from compress.spec import ModelSpec


@dataclass(frozen=True)
class PreactivationResNet(Residual):
    """A pre-activation ResNet but for its images and classes; see ``Residual``.

    Where the shape changes, a 1x1 convolution reads the activated input ("preactivation", as in He
    et al.'s own code) or the raw "input".
    """

    family = "preresnet"
    forms = "preresnet-DEPTH (preresnet-164)"
    layout = (
        "pre-activation ResNets (preresnet-DEPTH, depth 9n+2), the same with blocks of 1x1, 3x3 "
        "and 1x1 convolutions"
    )
    step_of_depth = 9
    expansion = 4
    step = (9, 1)

    @classmethod
    def parse(cls, text: str) -> dict[str, Any] | None:
        """'preresnet-164', 'preact-resnet-1001', 'preresnet-164x0.5'."""
        found = re.fullmatch(r"pre-?(?:act-?)?resnet-?(\d{1,9})(?:x(\d+(?:\.\d+)?))?", text)
        return {"depth": int(found[1]), "width": float(found[2] or 1)} if found else None

    @property
    def name(self) -> str:
        """'preresnet-164', 'preresnet-164x0.5'."""
        return f"preresnet-{self.depth}" + ("" if self.width == 1 else f"x{self.width:g}")

    def build(self, spec: ModelSpec) -> Network:
        """A ``PreactivationNetwork``."""
        return PreactivationNetwork(spec, self, partial(BottleneckBlock, self))

    def layers(self, input_shape: ImageShape) -> Layers:
        """The stem, three convolutions a block and its shortcut; blocks normalise their input."""
        planes, height, width = input_shape
        convs = [Convolution(3, planes, self.stem_channels, height * width, folded=False)]
        norms = []
        for at in Place.all(self, input_shape):
            middle = at.outputs // self.expansion
            convs.append(Convolution(1, at.inputs, middle, at.strided, folded=True))
            convs.append(Convolution(3, middle, middle, at.after, folded=True))
            convs.append(Convolution(1, middle, at.outputs, at.after, folded=False))
            if at.changes:
                convs.append(Convolution(1, at.inputs, at.outputs, at.after, folded=False))
            norms.append(at.inputs)
        last = self.stage_channels[-1]
        return Layers(tuple(convs), last, (*norms, last), conv_bias=self.conv_bias)

    @classmethod
    def claims(cls, weights: Weights) -> bool:
        """Bottleneck blocks have two 1x1 convolutions for each of 3x3, beside shortcuts."""
        points, spatial = weights.kernel_counts
        return spatial > 1 and points >= 2 * (spatial - 1)  # one of the 3x3 ones is the stem

    @classmethod
    def read(cls, weights: Weights, choices: Choices, stated: Architecture | None) -> Reading:
        """A network of bottleneck blocks; see "From layers to blocks" below."""
        return read_blocks(
            weights,
            choices,
            needs_order=stated is None,
            by_name=lambda weights, stem: _blocks_by_name(weights, stem, choices),
            by_order=_blocks_by_order,
            assemble=_assemble,
            otherwise="its convolutions do not group into bottleneck blocks",
        )

    @classmethod
    def variants(cls, shape: Mapping[str, Any]) -> list[tuple[str, int]]:
        """The most used code in PyTorch has (input, 2), the authors' own (preactivation, 1)."""
        return [("input", 2), ("preactivation", 1), ("preactivation", 2), ("input", 1)]


class BottleneckBlock(nn.Module):
    """Three times BN, ReLU, convolution (1x1, 3x3, 1x1), plus the shortcut.

    The shortcut is the input itself, or a 1x1 convolution where the shape changes. That
    convolution reads the activated input ("preactivation") or the raw one ("input").
    """

    def __init__(
        self,
        own: PreactivationResNet,
        inputs: int,
        outputs: int,
        stride: int,
        *,
        shortcut: bool = False,
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if own.stride_conv == 1 else (1, stride)
        bias = own.conv_bias
        middle = outputs // own.expansion
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, middle, 1, first, bias=bias)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, second, padding=1, bias=bias)
        self.bn3 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, outputs, 1, bias=bias)
        self.shortcut: nn.Module | None = None
        if shortcut or stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=bias)
        self.shortcut_reads_activation = own.shortcut == "preactivation"

    def forward(self, x: Tensor) -> Tensor:
        """[b, inputs, h, w] -> [b, outputs, h / stride, w / stride]."""
        activated = functional.relu(self.bn1(x))
        residual: Tensor = self.conv1(activated)
        residual = self.conv2(functional.relu(self.bn2(residual)))
        residual = self.conv3(functional.relu(self.bn3(residual)))
        bypass: Tensor = x
        if self.shortcut is not None:
            bypass = self.shortcut(activated if self.shortcut_reads_activation else x)
        return residual + bypass


# ---------------------------------------------------------------------------------------------
# From layers to blocks
#
# stem                   the 3x3 convolution that reads the image
# blocks                 one 3x3 convolution each, of as many filters as channels (w); before it
#                        a 1x1 one that gives w, behind it a 1x1 one that gives 4w
# another 1x1            the shortcut; where a block reads w channels it has the shape of the
#                        last convolution, and names tell the two apart as they do elsewhere
# blocks of one width    a stage; its first block is the one whose input is narrower
# sizes of batch norms   those of what the convolutions read: pre-activation


@dataclass(frozen=True)
class _Group:
    """What lies under one prefix with one 3x3 convolution.

    Attributes:
        narrow, spatial: the first two convolutions.
        wide: 1x1 convolutions that give what the block gives: its last one and its shortcut.
        norms: batch norms under the prefix.
    """

    narrow: Conv
    spatial: Conv
    wide: tuple[Conv, ...]
    norms: tuple[Norm, ...]

    @property
    def tokens(self) -> Tokens:
        return common_start(self.narrow.tokens, self.spatial.tokens)

    def last(self) -> list[Conv]:
        """Which of the wide ones can be the last convolution, by what they read."""
        return [conv for conv in self.wide if conv.inputs == self.spatial.outputs]


def _blocks_by_name(weights: Weights, stem: Conv, choices: Choices) -> Skeleton | None:
    """Blocks by the widest prefix under which there is one 3x3 convolution, or None."""
    spatial = [conv for conv in weights.convs if conv.weight.shape[2] == 3]
    points = [conv for conv in weights.convs if conv.weight.shape[2] == 1]
    count: dict[Tokens, int] = {}
    for conv in spatial:
        for length in range(len(conv.tokens) + 1):
            count[conv.tokens[:length]] = count.get(conv.tokens[:length], 0) + 1
    roots = {}
    for conv in spatial:
        alone = [n for n in range(len(conv.tokens) + 1) if count[conv.tokens[:n]] == 1]
        if not alone:
            return None
        roots[conv.tokens[: alone[0]]] = conv
    points_under, norms_under = _under(points, roots), _under(weights.norms, roots)
    groups = []
    for root, conv in roots.items():
        if conv is stem:
            continue
        group = _group(conv, points_under.get(root, []), norms_under.get(root, []))
        if group is None:
            return None
        groups.append(group)
    known = {relative(g.last()[0].tokens, g.tokens) for g in groups if len(g.last()) == 1}
    blocks = []
    for group in groups:
        last = _the_one_called(known, group, group.last())
        if last is None:
            # Registered before the shortcut in most networks.
            what = "1x1 convolutions in a block"
            last = in_order(group.last(), what, ordered=weights.ordered, choices=choices)[0]
        shortcuts = tuple(conv for conv in group.wide if conv is not last)
        convs = (group.narrow, group.spatial, last)
        blocks.append(Block(convs, group.narrow.inputs, last.outputs, shortcuts, group.norms))
    used = {conv.name for block in blocks for conv in block.convs + block.shortcuts}
    used_norms = {norm.weight for block in blocks for norm in block.norms}
    return Skeleton(
        stem,
        tuple(blocks),
        tuple(norm for norm in weights.norms if norm.weight not in used_norms),
        tuple(conv for conv in points if conv.name not in used),
    )


def _under(parts: Sequence[PartT], roots: Mapping[Tokens, Conv]) -> dict[Tokens, list[PartT]]:
    """Parts by the prefix under which they lie."""
    found: dict[Tokens, list[PartT]] = {}
    for part in parts:
        for length in range(len(part.tokens) + 1):
            if part.tokens[:length] in roots:
                found.setdefault(part.tokens[:length], []).append(part)
    return found


def _group(spatial: Conv, points: Sequence[Conv], norms: Sequence[Norm]) -> _Group | None:
    """The parts of a block by their shapes, or None where they make none."""
    middle = spatial.outputs
    narrow = [conv for conv in points if conv.outputs == middle]
    outputs = max((conv.outputs for conv in points), default=0)
    if spatial.inputs != middle or outputs <= middle or len(narrow) != 1:
        return None
    wide = tuple(conv for conv in points if conv.outputs == outputs)
    group = _Group(narrow[0], spatial, wide, tuple(norms))
    if len(wide) > 2 or not group.last():
        return None
    if [norm.size for norm in norms].count(outputs) == 1 and len(norms) > 3:
        # The last norm of the network, in one subtree with a last stage of one block.
        group = replace(group, norms=tuple(n for n in norms if n.size != outputs))
    return group


def _the_one_called(
    known: set[Tokens], block: _Group | Block, parts: Sequence[PartT]
) -> PartT | None:
    """The only part, or the only one with a name that its like has in other blocks; or None."""
    if len(parts) == 1:
        return parts[0]
    alike = [part for part in parts if relative(part.tokens, block.tokens) in known]
    return alike[0] if len(alike) == 1 else None


def _blocks_by_order(weights: Weights, stem: Conv, choices: Choices) -> Skeleton | None:
    """Blocks by the order of the convolutions, for names that do not group them; or None."""
    convs = in_order(
        [conv for conv in weights.convs if conv is not stem],
        "convolutions",
        ordered=weights.ordered,
        choices=choices,
    )
    norms = in_order(weights.norms, "batch norms", ordered=weights.ordered, choices=choices)
    blocks: list[Block] = []
    used: set[str] = set()
    for place, conv in enumerate(convs):
        if conv.weight.shape[2] == 1:
            continue
        around = (convs[place - 1 : place] + convs[place + 1 : place + 2]) if place else []
        if len(around) != 2 or any(point.weight.shape[2] != 1 for point in around):
            return None
        narrow, last = around
        if not narrow.outputs == conv.inputs == conv.outputs == last.inputs:
            return None
        if last.outputs <= conv.outputs:
            return None
        blocks.append(Block((narrow, conv, last), narrow.inputs, last.outputs))
        used |= {narrow.name, conv.name, last.name}
    if len(norms) != 3 * len(blocks) + 1:
        return None
    for index, block in enumerate(blocks):
        blocks[index] = replace(block, norms=tuple(norms[3 * index : 3 * index + 3]))
    loose = []
    for conv in convs:
        if conv.name in used:
            continue
        shape = (conv.inputs, conv.outputs)
        # Of blocks of that shape only the first of a stage can have a shortcut.
        fits = [index for index, b in enumerate(blocks) if (b.inputs, b.outputs) == shape]
        if fits and not blocks[fits[0]].shortcuts:
            blocks[fits[0]] = replace(blocks[fits[0]], shortcuts=(conv,))
        else:
            loose.append(conv)
    return Skeleton(stem, tuple(blocks), (norms[-1],), tuple(loose))


# ---------------------------------------------------------------------------------------------
# From blocks to a network


def _assemble(weights: Weights, skeleton: Skeleton, choices: Choices) -> Reading:
    stages, dropped = find_stages(skeleton.blocks, choices)
    for stage in stages:
        for block in stage:
            _check(block)
    last = stages[-1][0].outputs
    norms = {"bn": the_norm_outside(skeleton, last, "after the last block")}
    classifier = find_classifier(weights, skeleton.convs, last)
    check_chain(stages, skeleton.stem)
    convs = {"conv": skeleton.stem}
    kept = [block for stage in stages for block in stage]
    known = {
        relative(norm.tokens, block.tokens)
        for block in kept
        for norm in block.norms
        if norm.size == block.inputs != block.convs[0].outputs
    }
    first = None
    for number, stage in enumerate(stages):
        for index, block in enumerate(order_blocks(weights, stage, number, choices)):
            name = f"stages.{number}.{index}"
            ordered = _order_norms(weights, block, known, choices)
            for place, (conv, norm) in enumerate(zip(block.convs, ordered, strict=True), 1):
                convs[f"{name}.conv{place}"] = conv
                norms[f"{name}.bn{place}"] = norm
            for shortcut in block.shortcuts:
                convs[f"{name}.shortcut"] = shortcut
                first = first or shortcut
    reading = Reading(
        weights=weights,
        family=PreactivationResNet.family,
        widths=tuple(stage[0].outputs for stage in stages),
        found={
            "depth": 9 * len(stages[0]) + 2,
            "first_shortcut": first is not None and first.inputs == first.outputs,
        },
        convs=convs,
        norms=norms,
        classifier=classifier,
        notes=notes_on(dropped),
    )
    duplicates = {name for block in dropped for name in block.names()}
    return reading.complete(choices, duplicates=duplicates)


def _check(block: Block) -> None:
    """Raises where a block is none of a pre-activation network."""
    middle = block.convs[1].outputs
    name = f"'{block_name(block)}'"
    if block.outputs != PreactivationResNet.expansion * middle:
        raise Unfit(
            f"its bottleneck block {name} goes from {middle} to {block.outputs} channels, not to "
            f"{PreactivationResNet.expansion} times as many"
        )
    sizes = sorted(norm.size for norm in block.norms)
    if sizes != sorted((block.inputs, middle, middle)):
        if sizes[:3] == [middle, middle, block.outputs]:
            raise Unfit("its bottleneck blocks are post-activation: norms behind convolutions")
        raise Unfit(
            f"{name} has batch norms of {', '.join(map(str, sizes)) or 'no'} channels, not of "
            f"{block.inputs}, {middle} and {middle}"
        )
    if len(block.shortcuts) > 1 or any(s.inputs != block.inputs for s in block.shortcuts):
        raise Unfit(f"the 1x1 shortcut of {name} reads another number of channels than the block")
    if block.inputs != block.outputs and not block.shortcuts:
        raise Unfit(f"{name} changes the number of channels without a 1x1 shortcut")


def _order_norms(
    weights: Weights, block: Block, known: set[Tokens], choices: Choices
) -> list[Norm]:
    """The three norms of a block in forward order.

    The first is the one as wide as the input. Where that is as wide as the others it has the name
    that it has in other blocks; where that does not decide either, the order does.
    """
    what = "batch norms in a block"
    first = [norm for norm in block.norms if norm.size == block.inputs]
    one = _the_one_called(known, block, first)
    if one is None:
        return in_order(block.norms, what, ordered=weights.ordered, choices=choices)
    left, right = (norm for norm in block.norms if norm is not one)
    _, spatial, last = block.convs
    rest = beside((left, right), (spatial, last)) or in_order(
        (left, right), what, ordered=weights.ordered, choices=choices
    )
    return [one, *rest]
