"""Bags: the images that a teacher finds most like each image, found once and kept on disk."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_BLOCK = 4096
"""Rows on either side of a product: 64 MiB of similarities at a time, however many images there are."""


def nearest(
    rows: Tensor, count: int, *, device: torch.device | str = "cpu", progress: Callable[[int, int], None] | None = None
) -> Tensor:
    """The nearest others of each row by the cosine, nearest first.

    Args:
        rows: [N,D] of length 1 on the CPU, perhaps in a file; blocks of them are read, and cast to float32.
        count: K, less than N.
        device: where similarities are computed.
        progress: called with (rows done, rows).

    Returns:
        int64 [N,K] on the CPU. A row is never among its own, however many others are equal to it.
    """
    found = []
    starts = range(0, len(rows), _BLOCK)
    for first in starts:
        asking = rows[first : first + _BLOCK].to(device, torch.float32)
        itself = torch.arange(first, first + len(asking), device=device)[:, None]
        best = torch.full((len(asking), count), -torch.inf, device=device)
        places = torch.zeros(len(asking), count, dtype=torch.int64, device=device)
        for other in starts:
            similar = asking @ rows[other : other + _BLOCK].to(device, torch.float32).T
            columns = torch.arange(other, other + similar.shape[1], device=device)
            similar.masked_fill_(itself == columns, -torch.inf)
            near, where = similar.topk(min(count, len(columns)), dim=1)
            best, chosen = torch.cat([best, near], dim=1).topk(count, dim=1)
            places = torch.cat([places, columns[where]], dim=1).gather(1, chosen)
        found.append(places.cpu())
        if progress:
            progress(first + len(asking), len(rows))
    return torch.cat(found)
