"""Clustering losses: two views of an image are given to the same prototypes. Everything is computed in float32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wisp.losses.precision import full_precision


@torch.no_grad()
@full_precision
def sinkhorn(scores: Tensor, *, epsilon: float, iterations: int, taking_part: Tensor | None = None) -> Tensor:
    """Soft assignments of images to prototypes, all prototypes used alike (Caron et al. 2020, Eq. 3-5).

    Args:
        scores: similarities [R,P] of R images with P prototypes.
        epsilon: smoothness; the smaller, the closer to one prototype each.
        iterations: of the Sinkhorn-Knopp algorithm.
        taking_part: bool [R]; rows that do not take part are as if they were not there, and come back as zeros.

    Returns:
        [R,P]; every row that takes part sums to 1.
    """
    scores = scores - scores.max()  # a common factor goes away in the normalisation; the exponential stays finite
    q = torch.exp(scores / epsilon)
    if taking_part is not None:
        q = q * taking_part[:, None]
    tiny = torch.finfo(q.dtype).tiny
    for _ in range(iterations):
        q = q / q.sum(0, keepdim=True).clamp(min=tiny)
        q = q / q.sum(1, keepdim=True).clamp(min=tiny)
    return q


@full_precision
def soft_cross_entropy(scores: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Mean over N of -sum_p target log softmax(scores / temperature) of [N,P], [N,P]; `target` gets no gradient."""
    return -(target.detach() * (scores / temperature).log_softmax(dim=1)).sum(dim=1).mean()


@torch.no_grad()
@full_precision
def sharpened(scores: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """softmax((scores - centre) / temperature) of [N,P] and [P]: a teacher's target (Caron et al. 2021, Eq. 1)."""
    return ((scores - centre) / temperature).softmax(dim=1)


@full_precision
def soft_divergence(scores: Tensor, target: Tensor, temperature: float) -> Tensor:
    """`soft_cross_entropy` less the entropy of the target, which no gradient depends on: 0 is agreement."""
    return F.kl_div((scores / temperature).log_softmax(dim=1), target.detach(), reduction="batchmean")
