"""Noise-contrastive estimation: tell the pair of one image from pairs drawn at random, one pair at a time.

With e = exp(cosine / t), N noise pairs and M images, h = (e / Z) / (e / Z + N / M) is the chance that a pair is of one
image (Tian, Krishnan and Isola 2020, Eq. 17 and 18, where Z is 1). Z is M times a mean of e, as in the released code,
so that M cancels: h is a sigmoid of cosine / t - log(N mean e). Everything is computed in float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wisp.losses.global_batch import gather
from wisp.losses.precision import full_precision


@full_precision
def noise_contrast(own: Tensor, others: Tensor, taken: Tensor, level: Tensor) -> Tensor:
    """Mean over B images of -log h of its own pair and -log(1 - h) of its noise pairs, added up.

    An image without noise pairs has nothing to be told from: its loss is 0.

    Args:
        own: cosine / t [B] of an image with itself.
        others: cosines / t [B,C] with the candidates.
        taken: bool [B,C], which of them are an image's noise pairs.
        level: [], log of the mean of e; not finite where nobody knows it, which counts as a mean of 1.
    """
    weights = taken.to(others.dtype)  # a CPU adds up numbers ten times as fast as truth values
    count = weights.sum(dim=1)
    shift = torch.where(level.isfinite(), level, 0.0) + count.clamp(min=1).log()
    found = F.softplus(shift - own).where(count > 0, 0.0)
    # Finite as cosines are, so that a product does what `where` would take five times as long for.
    refused = F.softplus(others - shift[:, None]) * weights
    return (found + refused.sum(dim=1)).mean()


@torch.no_grad()
@full_precision
def log_level(own: Tensor, others: Tensor, taken: Tensor) -> Tensor:
    """Log of the mean of e over the global batch, [], of the pairs that `noise_contrast` takes; -inf without any.

    The images' own pairs are among them, as in the released code.

    Args:
        own: cosine / t [B] of an image with itself.
        others: cosines / t [B,C] with the candidates.
        taken: bool [B,C], which of them are an image's noise pairs.
    """
    there = torch.cat([taken.any(dim=1, keepdim=True), taken], dim=1)
    logits = torch.cat([own[:, None], others], dim=1).masked_fill(~there, -torch.inf)
    sums, counts = gather(logits.flatten().logsumexp(dim=0)[None]), gather(there.sum()[None])
    return sums.logsumexp(dim=0) - counts.sum().clamp(min=1).log()
