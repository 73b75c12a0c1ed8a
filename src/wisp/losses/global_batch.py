"""The global batch: every process sees the embeddings of all processes, and gradients find their way back.

A loss over the global batch is computed on every process alike. The backward pass sums the gradient over the
processes, so that the mean which DistributedDataParallel takes afterwards is exact; a plain all-gather would divide
the gradient by the number of processes (lightly-ai/lightly #1977).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.local = z.shape[0]
        parts = [torch.empty_like(z) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, z.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)  # autograd forbids to change its own
        dist.all_reduce(gradient)
        start = dist.get_rank() * ctx.local
        return gradient[start : start + ctx.local]


def gather(z: Tensor) -> Tensor:
    """Embeddings of the global batch, [B,E] -> [N,E], differentiable; the same tensor where there is one process."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return z
    gathered: Tensor = _Gather.apply(z)
    return gathered
