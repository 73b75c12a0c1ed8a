"""Noise-contrastive estimation: tell the pair of one image from pairs drawn at random, one pair at a time.

With e = exp(cosine / t), N noise pairs and M images, h = (e / Z) / (e / Z + N / M) is the chance that a pair is of one
image (Tian, Krishnan and Isola 2020, Eq. 17 and 18, where Z is 1). Z is M times a mean of e, as in the released code,
so that M cancels: h is a sigmoid of cosine / t - log(N mean e). Everything is computed in float32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wisp.losses.global_batch import gather
from wisp.losses.precision import full_precision

NEVER = 1e30
"""Subtracted from the similarity of a pair that is not taken: nothing is left of its loss, at any temperature."""


@full_precision
def noise_contrast(own: Tensor, rows: Tensor, candidates: Tensor, taken: Tensor, level: Tensor) -> Tensor:
    """Mean over B images of -log h of its own pair and -log(1 - h) of its noise pairs, added up; of W contrasts, [W].

    An image without noise pairs has nothing to be told from: its loss is 0. First derivatives only, of the first two.

    Args:
        own: cosine / t [W,B] of an image with itself.
        rows: embedding / t [W,B,E] of an image.
        candidates: unit rows [W,C,E].
        taken: bool [B,C], which of them are an image's noise pairs, in every contrast.
        level: [W], log of the mean of e; not finite where nobody knows it, which counts as a mean of 1.
    """
    weights = taken.view(torch.uint8).to(rows.dtype)  # a CPU converts, and adds up, truth values far more slowly
    count = weights.sum(dim=1)
    shift = torch.where(level.isfinite(), level, 0.0)[:, None] + count.clamp(min=1).log()
    found = F.softplus(shift - own).where(count > 0, 0.0)
    refused: Tensor = _Refused.apply(rows, candidates, weights.sub_(1), shift)
    return (found + refused).mean(dim=1)


class _Refused(torch.autograd.Function):
    """Sums [W,B] of -log(1 - h) over the candidates that are taken, and their gradient at once.

    `room` [B,C] is 0 for those that are taken and -1 for the others; one [W,B,C] holds the similarities, and then h.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, candidates: Tensor, room: Tensor, shift: Tensor) -> Tensor:
        logits = torch.baddbmm(room, rows, candidates.mT, beta=NEVER).sub_(shift[:, :, None])
        total = F.softplus(logits).sum(dim=2)
        ctx.save_for_backward(logits.sigmoid_().bmm(candidates))
        return total

    @staticmethod
    def backward(ctx: Any, of_total: Tensor) -> tuple[Tensor, None, None, None]:
        if torch.is_grad_enabled():  # the gradient is a number here and no function of the rows
            raise RuntimeError("noise_contrast has no second derivative")
        (slope,) = ctx.saved_tensors
        return of_total[:, :, None] * slope, None, None, None


@torch.no_grad()
@full_precision
def log_level(own: Tensor, rows: Tensor, candidates: Tensor, taken: Tensor) -> Tensor:
    """Log of the mean of e over the global batch, [W], of the pairs that `noise_contrast` takes; -inf without any.

    The images' own pairs are among them, as in the released code. The arguments are those of `noise_contrast`.
    """
    there = torch.cat([taken.any(dim=1, keepdim=True), taken], dim=1)
    logits = torch.cat([own[:, :, None], rows.bmm(candidates.mT)], dim=2).masked_fill(~there, -torch.inf)
    sums, counts = gather(logits.flatten(1).logsumexp(dim=1)[None]), gather(there.sum()[None])
    return sums.logsumexp(dim=0) - counts.sum().clamp(min=1).to(sums.dtype).log()
