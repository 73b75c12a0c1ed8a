"""Frozen passes: a second look at a network that leaves no trace."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def frozen_pass(network: nn.Module, x: Tensor) -> Tensor:
    """Output of `network` in its present mode without a gradient and without moving its buffers.

    BatchNorm in training mode uses the statistics of this batch; its running averages are updated on throw-away copies.
    """
    with torch.no_grad():
        buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
        output: Tensor = torch.func.functional_call(network, buffers, (x,))
        return output


def is_random(network: nn.Module) -> bool:
    """Whether two passes over the same batch in training mode differ: dropout or drop-path with a rate above 0."""
    return any(
        float(getattr(module, rate, 0.0) or 0.0) > 0
        for module in network.modules()
        if "drop" in type(module).__name__.lower()
        for rate in ("p", "drop_prob")
    )
