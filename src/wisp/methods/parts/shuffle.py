"""ShuffleBN: a query and its key are never normalised by the statistics of the same images.

Source: He et al. 2020, section 3.3. Where a batch lies on one device, groups of it stand for the devices (the authors'
CIFAR notebook).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import torch
from torch import Tensor

from wisp.losses.global_batch import gather, rank, world


def in_groups(network: Callable[[Tensor], Tensor], x: Tensor, splits: int) -> Tensor:
    """[B,3,H,W] -> [B,E], where BatchNorm sees one group at a time.

    Args:
        network: the encoder and its head.
        x: this process's part of the batch.
        splits: groups of the global batch; a group has two images at least.
    """
    groups = max(1, min(splits // world(), len(x) // 2))
    return torch.cat([network(part) for part in x.tensor_split(groups)])


@torch.no_grad()
def shuffled(network: Callable[[Tensor], Tensor], x: Tensor, splits: int, progress: float) -> Tensor:
    """As `in_groups`, without a gradient, in groups of images drawn from the whole global batch.

    Args:
        network: the encoder and its head.
        x: this process's part of the batch.
        splits: groups of the global batch.
        progress: of the training; another step, another draw, the same on every process.
    """
    first, size = rank() * len(x), len(x)
    order = torch.randperm(size * world(), generator=chance(progress))
    mine = gather(x)[order[first : first + size].to(x.device)]
    back = order.argsort()[first : first + size].to(x.device)
    return gather(in_groups(network, mine, splits))[back]


def chance(progress: float, of: str = "") -> torch.Generator:
    """What a step draws from, the same on every process, with no state that a resume would need.

    Args:
        progress: of the training; another step, other numbers.
        of: what is drawn; another name, other numbers.
    """
    seed = zlib.crc32(struct.pack("<d", progress) + of.encode())  # a generator keeps 32 bits of its seed
    return torch.Generator().manual_seed(seed)
