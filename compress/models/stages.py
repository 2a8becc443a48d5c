"""The three stages of residual blocks that WRNs, CIFAR ResNets and their bottleneck kin share."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from compress.spec import ModelSpec


class MakeBlock(Protocol):
    """A residual block's class."""

    def __call__(
        self, spec: ModelSpec, inputs: int, outputs: int, stride: int, *, shortcut: bool = False
    ) -> nn.Module:
        """A block; ``shortcut`` asks for a convolution there even where no shape changes."""
        ...


def residual_stages(spec: ModelSpec, block: MakeBlock) -> nn.Sequential:
    """n blocks a stage, of ``spec.stage_channels``; the second and third halve the resolution.

    The first reads ``spec.stem_channels``.
    """
    channels = spec.stem_channels
    stages: list[nn.Module] = []
    for stride, outputs in zip((1, 2, 2), spec.stage_channels, strict=True):
        shortcut = spec.first_shortcut and not stages
        blocks = [block(spec, channels, outputs, stride, shortcut=shortcut)]
        for _ in range(spec.blocks_per_stage - 1):
            blocks.append(block(spec, outputs, outputs, 1))
        stages.append(nn.Sequential(*blocks))
        channels = outputs
    return nn.Sequential(*stages)
