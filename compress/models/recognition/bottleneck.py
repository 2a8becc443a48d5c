"""Pre-activation ResNets with bottleneck blocks.

stem                   the 3x3 convolution that reads the image
blocks                 one 3x3 convolution each, of as many filters as channels (w); before it
                       a 1x1 one that gives w, behind it a 1x1 one that gives 4w
another 1x1            the shortcut; where a block reads w channels it has the shape of the
                       last convolution, and names tell the two apart as they do elsewhere
blocks of one width    a stage; its first block is the one whose input is narrower
sizes of batch norms   those of what the convolutions read: pre-activation
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
from compress.models.recognition.statement import Statement

EXPANSION = 4


def read(weights: Weights, choices: Choices, stated: Statement | None) -> Reading:
    """One whole pre-activation ResNet.

    Raises:
        Unfit: the layers do not make one.
    """
    return read_blocks(
        weights,
        choices,
        stated,
        by_name=lambda weights, stem: _blocks_by_name(weights, stem, choices),
        by_order=_blocks_by_order,
        assemble=_assemble,
        otherwise="its convolutions do not group into bottleneck blocks",
    )


# ---------------------------------------------------------------------------------------------
# From layers to blocks


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
        arch="preresnet",
        depth=9 * len(stages[0]) + 2,
        widths=tuple(stage[0].outputs for stage in stages),
        convs=convs,
        norms=norms,
        classifier=classifier,
        shortcut="preactivation",
        first_shortcut=first is not None and first.inputs == first.outputs,
        notes=notes_on(dropped),
    )
    duplicates = {name for block in dropped for name in block.names()}
    return reading.complete(choices, duplicates=duplicates)


def _check(block: Block) -> None:
    """Raises where a block is none of a pre-activation network."""
    middle = block.convs[1].outputs
    name = f"'{block_name(block)}'"
    if block.outputs != EXPANSION * middle:
        raise Unfit(
            f"its bottleneck block {name} goes from {middle} to {block.outputs} channels, not to "
            f"{EXPANSION} times as many"
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
