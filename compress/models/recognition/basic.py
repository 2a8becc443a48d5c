"""Networks of basic blocks: wide residual networks and CIFAR ResNets.

stem                   the 3x3 convolution that reads the image
blocks                 two 3x3 convolutions each; 1x1 ones are shortcuts (or the classifier)
blocks of one width    a stage; its first block is the one whose input is narrower
sizes of batch norms   pre-activation (norms before the convolutions: WRN) or post-activation
                       (after them: ResNet)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from compress.models.recognition.blocks import (
    Block,
    Skeleton,
    block_name,
    check_chain,
    find_stages,
    nearest,
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
from compress.models.recognition.order import (
    Choices,
    as_learned,
    beside,
    by_numbers,
    in_order,
    learn_first,
)
from compress.models.recognition.reading import Reading, find_classifier


@dataclass(frozen=True)
class _OrderedBlock:
    convs: tuple[Conv, Conv]
    norms: tuple[Norm, Norm]
    shortcut: Conv | None
    shortcut_norm: Norm | None


def read(weights: Weights, choices: Choices, *, needs_order: bool) -> Reading:
    """One whole WRN or CIFAR ResNet.

    Args:
        weights: of the file.
        choices: which order is taken where nothing decides.
        needs_order: see ``read_blocks``.

    Raises:
        Unfit: the layers do not make one.
    """
    return read_blocks(
        weights,
        choices,
        needs_order=needs_order,
        by_name=_blocks_by_name,
        by_order=_blocks_by_order,
        assemble=_assemble,
        otherwise="its 3x3 convolutions do not pair into residual blocks",
    )


def _basic_block(first: Conv, second: Conv) -> Block:
    """Two 3x3 convolutions, in no order yet."""
    # Channels that come in are those of the convolution that is not square, if one is.
    outputs = first.outputs
    inputs = next((c.inputs for c in (first, second) if c.inputs != c.outputs), outputs)
    return Block((first, second), inputs, outputs)


def _convs_of(block: Block) -> tuple[Conv, Conv]:
    first, second = block.convs
    return first, second


def _blocks_by_name(weights: Weights, stem: Conv) -> Skeleton | None:
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
            blocks.setdefault(conv.tokens[:length], _basic_block(pair[0], pair[1]))
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
    return Skeleton(stem, tuple(found), tuple(outside), tuple(loose))


def _blocks_by_order(weights: Weights, stem: Conv, choices: Choices) -> Skeleton | None:
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
        block = _basic_block(first, second)
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
    return Skeleton(stem, tuple(blocks), (*outside, *norms), tuple(points))


def _assemble(weights: Weights, skeleton: Skeleton, choices: Choices) -> Reading:
    stages, dropped = find_stages(skeleton.blocks, choices)
    for block in skeleton.blocks:
        square = [c for c in block.convs if c.inputs == c.outputs == block.outputs]
        if len({c.outputs for c in block.convs}) != 1 or not square:
            shapes = " and ".join(f"{c.inputs}->{c.outputs}" for c in block.convs)
            raise Unfit(
                f"'{block_name(block)}' has 3x3 convolutions {shapes}, which do not form a "
                "basic block"
            )
    arch = _family([block for stage in stages for block in stage], skeleton)
    widths = tuple(stage[0].outputs for stage in stages)
    size, where = (
        (widths[-1], "after the last block")
        if arch == "wrn"
        else (skeleton.stem.outputs, "after the stem")
    )
    norms = {"bn": the_norm_outside(skeleton, size, where)}
    classifier = find_classifier(weights, skeleton.convs, widths[-1], windows=arch == "resnet")
    check_chain(stages, skeleton.stem)
    convs = {"conv": skeleton.stem}
    ordered = _order_stages(weights, stages, arch, choices)
    for number, line in enumerate(ordered):
        for index, inside in enumerate(line):
            name = f"stages.{number}.{index}"
            for place in (0, 1):
                convs[f"{name}.conv{place + 1}"] = inside.convs[place]
                norms[f"{name}.bn{place + 1}"] = inside.norms[place]
            if inside.shortcut is not None and arch == "wrn":
                convs[f"{name}.shortcut"] = inside.shortcut
            elif inside.shortcut is not None and inside.shortcut_norm is not None:
                convs[f"{name}.shortcut.0"] = inside.shortcut
                norms[f"{name}.shortcut.1"] = inside.shortcut_norm
    shortcut = "preactivation"
    if arch == "resnet":
        shortcut = "conv" if all(stage[0].shortcut for stage in ordered[1:]) else "pad"
        if len(ordered[0]) > 1 and all(block.shortcut for stage in ordered for block in stage):
            shortcut = "conv-all"
    first = ordered[0][0].shortcut
    reading = Reading(
        weights=weights,
        family=arch,
        widths=widths,
        found={
            "depth": 6 * len(ordered[0]) + (4 if arch == "wrn" else 2),
            "shortcut": shortcut,
            "first_shortcut": first is not None
            and first.inputs == first.outputs
            and shortcut != "conv-all",
        },
        convs=convs,
        norms=norms,
        classifier=classifier,
        notes=notes_on(dropped),
    )
    duplicates = {name for block in dropped for name in block.names()}
    return reading.complete(choices, duplicates=duplicates)


def _family(blocks: Sequence[Block], skeleton: Skeleton) -> str:
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


def _order_stages(
    weights: Weights, stages: Sequence[Sequence[Block]], arch: str, choices: Choices
) -> tuple[tuple[_OrderedBlock, ...], ...]:
    """Blocks in forward order, and what is inside of each in forward order."""
    convs_first = learn_first(
        [(_convs_of(block), lambda c: c.inputs != c.outputs) for stage in stages for block in stage]
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
            convs = as_learned(_convs_of(block), convs_first)
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
        raise Unfit(
            f"'{name}' has {len(block.shortcuts)} 1x1 convolutions, but at most one is possible"
        )
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
