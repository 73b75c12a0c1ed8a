"""A slow copy of a network: the exponential moving average of its weights, which makes targets without a gradient."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn


class SlowCopy(nn.Module):
    """Follows a network's parameters slowly (He et al. 2020, Eq. 2); BatchNorm buffers are its own.

    As in the released MoCo, BYOL and DINO it stays in training mode while the method trains: it normalises by the
    batch. The average covers parameters only.
    """

    def __init__(self, online: nn.Module) -> None:
        """Start as an exact copy of `online`."""
        super().__init__()
        self.network = copy.deepcopy(online).requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """What the network makes of `x`, without a gradient."""
        output: Tensor = self.network(x)
        return output

    @torch.no_grad()
    def follow(self, online: nn.Module, momentum: float) -> None:
        """Slow = momentum * slow + (1 - momentum) * online, for all parameters at once."""
        torch._foreach_lerp_(list(self.network.parameters()), list(online.parameters()), 1 - momentum)


def momentum_at(start: float, progress: float) -> float:
    """A momentum that grows from `start` to 1 along a cosine (Grill et al. 2020, section 3.2).

    Args:
        start: at the beginning of the training.
        progress: fraction of the training that is done, in [0, 1].
    """
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2
