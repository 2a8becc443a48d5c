"""Residual blocks of a network of anybody's, and the stages that they make."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from compress.models.recognition.layers import Conv, Norm, Tokens, Unfit, Weights, common_start
from compress.models.recognition.order import Choices, in_order


@dataclass(frozen=True)
class Block:
    """Two 3x3 convolutions and what belongs to them, in no order yet."""

    convs: tuple[Conv, Conv]
    shortcuts: tuple[Conv, ...] = ()
    norms: tuple[Norm, ...] = ()

    @property
    def outputs(self) -> int:
        """Channels that go out."""
        return self.convs[0].outputs

    @property
    def inputs(self) -> int:
        """Channels that come in: those of the convolution that is not square, if one is."""
        return next((c.inputs for c in self.convs if c.inputs != c.outputs), self.outputs)

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


def block_name(block: Block) -> str:
    """What a block is called in a message: the shared start of its convolutions' names."""
    first, second = (conv.name for conv in block.convs)
    end = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), 0)
    head = re.match(r".*[._/](?=[^._/]*$)", first[:end])
    return (head[0].rstrip("._/") if head else first[:end]) or first


def nearest(blocks: Sequence[Block], tokens: Tokens) -> int | None:
    """The one block that shares the most leading tokens with a name, or None if several do."""
    scores = [block.nearness(tokens) for block in blocks]
    best = max(scores, default=0)
    return scores.index(best) if scores.count(best) == 1 else None


def drop_duplicates(
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
        if len(first) > 1:
            raise Unfit(
                f"{len(first)} blocks of stage {number + 1} have a 1x1 shortcut, at most one can"
            )
    rest = [block for block in stage if all(block is not f for f in first)]
    return first + in_order(rest, "blocks", ordered=weights.ordered, choices=choices)
