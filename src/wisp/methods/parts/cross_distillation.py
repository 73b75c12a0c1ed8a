"""Cross-distillation: how far one branch's embeddings repeat another's dimensions, and what that weighs in a loss.

Source: Meng et al. 2023 (SACL-XD), Eq. 9, 10, Fig. 3b and Eq. 12, for Barlow Twins. The weights in other losses are
ours.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from wisp.losses.decorrelation import inner_correlation, negative_log, off_diagonal

Distance = Literal["decorrelation", "inner_correlation", "negative_log"]


def distance(kind: Distance, pairs: list[tuple[Tensor, Tensor]], lam: float) -> Tensor:
    """Mean over pairs of standardised embeddings [N,E], of which the second gets no gradient.

    Args:
        kind: `lam` times the correlations off the diagonal, squared and summed; the diagonal alone; the negative log.
        pairs: an embedding and its mate.
        lam: as `TwoViews.redundancy` has it.
    """
    if kind == "negative_log":
        n = pairs[0][0].shape[0] ** 0.5  # back to unit variance: a softmax is not scale-free
        return torch.stack([negative_log(z * n, target * n) for z, target in pairs]).mean()
    if kind == "inner_correlation":
        return torch.stack([inner_correlation(z, target.detach()) for z, target in pairs]).mean()
    return lam * torch.stack([off_diagonal(z, target.detach()) for z, target in pairs]).mean()
