"""The initial weights of the networks."""

from __future__ import annotations

from torch import nn


def initialise(network: nn.Module) -> None:
    """He et al.'s initialisation of convolutions (arXiv 1502.01852, Eq. 15), biases zero.

    Batch norms stay the identity and the linear layer keeps torch's own: its fan-out is the
    number of classes, from which that rule would make initial logits in the tens.
    """
    for module in network.modules():
        # A network on the meta device has shapes and no values; torch takes milliseconds a layer
        # to draw none.
        if isinstance(module, nn.Conv2d | nn.Linear) and module.weight.is_meta:
            continue
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
