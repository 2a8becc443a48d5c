"""Residual blocks of a network of anybody's, and the stages that they make."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compress.models.recognition.layers import Conv, Norm, Tokens, Unfit, Weights, common_start
from compress.models.recognition.order import Choices, by_numbers, in_order
from compress.models.recognition.reading import Reading


@dataclass(frozen=True)
class Block:
    """The convolutions of a residual branch and what belongs to them.

    Attributes:
        convs: of the branch.
        inputs, outputs: channels that come in and go out.
        shortcuts: 1x1 convolutions of the bypass; where all is well there is at most one.
        norms: batch norms, in no order yet.
    """

    convs: tuple[Conv, ...]
    inputs: int
    outputs: int
    shortcuts: tuple[Conv, ...] = ()
    norms: tuple[Norm, ...] = ()

    @property
    def tokens(self) -> Tokens:
        """The shared start of its convolutions' names."""
        return common_start(*(conv.tokens for conv in self.convs))

    @property
    def position(self) -> int:
        """Where its first convolution stands in the file."""
        return min(conv.position for conv in self.convs)

    def names(self) -> set[str]:
        """Of all its tensors."""
        found = {name for norm in self.norms for name in norm.names}
        for conv in self.convs + self.shortcuts:
            found |= {conv.name} | ({conv.bias} if conv.bias else set())
        return found

    def nearness(self, tokens: Tokens) -> int:
        """How many leading tokens a name shares with the block's convolutions."""
        return max(len(common_start(tokens, conv.tokens)) for conv in self.convs + self.shortcuts)


@dataclass(frozen=True)
class Skeleton:
    """The stem, the blocks, and what is outside of them."""

    stem: Conv
    blocks: tuple[Block, ...]
    norms: tuple[Norm, ...]
    convs: tuple[Conv, ...]  # 1x1, in no block


def block_name(block: Block) -> str:
    """What a block is called in a message: the shared start of its convolutions' names."""
    names = [conv.name for conv in block.convs]
    alike = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    shared = "".join(letters[0] for letters in alike)
    head = re.match(r".*[._/](?=[^._/]*$)", shared)
    return (head[0].rstrip("._/") if head else shared) or names[0]


def read_blocks(
    weights: Weights,
    choices: Choices,
    *,
    needs_order: bool,
    by_name: Callable[[Weights, Conv], Skeleton | None],
    by_order: Callable[[Weights, Conv, Choices], Skeleton | None],
    assemble: Callable[[Weights, Skeleton, Choices], Reading],
    otherwise: str,
) -> Reading:
    """A whole network of residual blocks, which names group or else the order does.

    Args:
        weights: of the file.
        choices: to take.
        needs_order: whether layers are grouped by their order only where names or the file say it.
        by_name: groups the layers by their names, or cannot.
        by_order: groups the layers by their order, or cannot.
        assemble: makes a network of the blocks; raises Unfit.
        otherwise: what to say where neither groups them.

    Raises:
        Unfit: the layers do not make one.
    """
    stem = _find_stem(weights)
    named = by_name(weights, stem)
    unfit = Unfit(otherwise)
    if named is not None:
        try:
            return assemble(weights, named, choices)
        except Unfit as error:
            unfit = error
    if needs_order and not _has_order(weights, stem):
        if named is not None:
            raise unfit
        raise Unfit(
            f"{unfit} by their names, which have no numbers, and the file has no order. State the "
            "architecture (such as wrn-40-2) to try the alphabetical order"
        )
    in_line = by_order(weights, stem, choices)
    if in_line is None:
        raise unfit
    try:
        return assemble(weights, in_line, choices)
    except Unfit as error:
        raise (unfit if named is not None else error) from None


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


def _has_order(weights: Weights, stem: Conv) -> bool:
    """Whether the file's order or the numbers in the names order the 3x3 convolutions."""
    spatial = [c for c in weights.convs if c.weight.shape[2] == 3 and c is not stem]
    return weights.ordered or by_numbers(spatial) is not None


def find_stages(blocks: Sequence[Block], choices: Choices) -> tuple[list[list[Block]], list[Block]]:
    """Three stages of equally many blocks, in no order inside, and blocks that are in no use.

    Raises:
        Unfit: there are others.
    """
    widths = sorted({block.outputs for block in blocks})
    if len(widths) != 3:
        found = ", ".join(map(str, widths))
        raise Unfit(f"it has {len(widths)} stage(s), of widths {found}, not three")
    return _drop_duplicates([[b for b in blocks if b.outputs == w] for w in widths], choices)


def notes_on(dropped: Sequence[Block]) -> tuple[str, ...]:
    """Tells of blocks that were left out."""
    if not dropped:
        return ()
    names = ", ".join(f"'{block_name(block)}'" for block in dropped[:2])
    return (
        f"{len(dropped)} block(s) that do not belong to the network were ignored "
        f"({names}{', ...' if len(dropped) > 2 else ''}): an unused copy of a stage.",
    )


def the_norm_outside(skeleton: Skeleton, size: int, where: str) -> Norm:
    """The one batch norm outside of the blocks.

    Raises:
        Unfit: there is none of that size, or others.
    """
    norms = skeleton.norms
    if len(norms) != 1 or norms[0].size != size:
        found = ", ".join(str(norm.size) for norm in norms) or "none"
        raise Unfit(
            f"outside of its blocks there should be one batch norm, {where}, of {size} channels; "
            f"found {found}"
        )
    return norms[0]


def nearest(blocks: Sequence[Block], tokens: Tokens) -> int | None:
    """The one block that shares the most leading tokens with a name, or None if several do."""
    scores = [block.nearness(tokens) for block in blocks]
    best = max(scores, default=0)
    return scores.index(best) if scores.count(best) == 1 else None


def _drop_duplicates(
    stages: list[list[Block]], choices: Choices
) -> tuple[list[list[Block]], list[Block]]:
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
    dropped: list[Block] = []
    result = []
    for number, stage in enumerate(stages):
        if len(stage) == count:
            result.append(stage)
            continue
        trees = _subtrees(stage, stages)
        if len(trees) < 2 or any(len(blocks) != count for blocks in trees.values()):
            counts = ", ".join(str(len(s)) for s in stages)
            raise Unfit(f"its stages have {counts} blocks, not the same number")
        # The copy in use is called like the other stages are.
        order = sorted(
            trees, key=lambda tree: (_pattern(tree) not in usual, _tree_place(trees[tree]))
        )
        index = choices.pick(f"copies of stage {number + 1}", len(order))
        result.append(trees[order[index]])
        dropped += [b for tree in order if tree != order[index] for b in trees[tree]]
    return result, dropped


def _tree_place(blocks: Sequence[Block]) -> int:
    """Where the first of some blocks stands in the file."""
    return min(block.position for block in blocks)


def _subtrees(
    stage: Sequence[Block], stages: Sequence[Sequence[Block]]
) -> dict[Tokens, list[Block]]:
    """Blocks of a stage by the widest prefix under which there is nothing of another stage."""
    foreign = [b.tokens for other in stages if other is not stage for b in other]
    trees: dict[Tokens, list[Block]] = {}
    for block in stage:
        shared = max((len(common_start(block.tokens, tokens)) for tokens in foreign), default=0)
        trees.setdefault(block.tokens[: shared + 1], []).append(block)
    return trees


def _pattern(tokens: Tokens) -> tuple[str, ...]:
    """A name without its numbers."""
    return tuple("#" if isinstance(t, int) else t for t in tokens)


def check_chain(stages: Sequence[Sequence[Block]], stem: Conv) -> None:
    """Each stage reads what the one before it gives, through exactly one block."""
    before = stem.outputs
    for stage in stages:
        width = stage[0].outputs
        inputs = [block.inputs for block in stage if block.inputs != width]
        if inputs != ([before] if before != width else []):
            raise Unfit(
                f"its stage of width {width} should read {before} channels in one block; blocks "
                f"that change the number of channels read {', '.join(map(str, inputs)) or 'none'}"
            )
        before = width


def order_blocks(
    weights: Weights, stage: Sequence[Block], number: int, choices: Choices
) -> list[Block]:
    """The block that changes the number of channels first, the others by number or file order."""
    first = [block for block in stage if block.inputs != block.outputs]
    if not first:
        first = [block for block in stage if block.shortcuts]
        if len(first) == len(stage) > 1:
            first = []  # one in every block says nothing of the order
        if len(first) > 1:
            raise Unfit(
                f"{len(first)} blocks of stage {number + 1} have a 1x1 shortcut, but at most "
                "one can"
            )
    rest = [block for block in stage if all(block is not f for f in first)]
    return first + in_order(rest, "blocks", ordered=weights.ordered, choices=choices)
