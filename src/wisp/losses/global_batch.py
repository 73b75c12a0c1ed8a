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
    if world() == 1:
        return z
    gathered: Tensor = _Gather.apply(z)
    return gathered


class _Average(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone()
        dist.all_reduce(gradient)
        return gradient / dist.get_world_size()


def average(value: Tensor) -> Tensor:
    """Mean of a local loss over the processes, differentiable; the same tensor where there is one process."""
    if world() == 1:
        return value
    averaged: Tensor = _Average.apply(value)
    return averaged


def world() -> int:
    """Number of processes that share the batch."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process among them."""
    return dist.get_rank() if world() > 1 else 0
